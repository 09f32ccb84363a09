//! `MANIFEST.sha256`: which files a version consists of, as `sha256sum` prints it.

use std::collections::BTreeMap;

use crate::BundleError;

/// The file's name. It sorts before what it names, so that what copies in the order of
/// names copies it first.
pub const SUMS_FILE: &str = "MANIFEST.sha256";

/// Reads the file: SHA-256 in lower-case hex by name.
///
/// A line is 64 hexadecimal digits, a blank, a blank or `*`, and a name below the version
/// directory; a backslash before the digits says that the name is escaped. Empty lines,
/// lines that begin with `#`, and the file's own name (`sha256sum * > MANIFEST.sha256`, run
/// twice, lists it) are passed over.
///
/// # Errors
/// [`BundleError::Arriving`] where it does not end with the end of a line, as while it is
/// copied; else [`BundleError::Sums`] for the first line that is not of this form.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>, BundleError> {
    if !text.is_empty() && !text.ends_with('\n') {
        let reason = "ends in the middle of a line".to_owned();
        return Err(BundleError::Arriving { file: SUMS_FILE.into(), reason });
    }
    let mut sums = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |message| BundleError::Sums { line: number, message };
        let (name, digest) = entry(line).map_err(wrong)?;
        if name == SUMS_FILE {
            continue;
        }
        if sums.insert(name, digest.clone()).is_some_and(|before| before != digest) {
            return Err(wrong("names a file again, with another digest"));
        }
    }
    Ok(sums)
}

/// The name and digest of a line.
fn entry(line: &str) -> Result<(String, String), &'static str> {
    const FORM: &str = "is not 64 hexadecimal digits, two blanks and a file's name";
    let (escaped, line) = match line.strip_prefix('\\') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digest, rest) = line.split_at_checked(64).ok_or(FORM)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *")).ok_or(FORM)?;
    if !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(FORM);
    }
    let name = if escaped { unescaped(name).ok_or(FORM)? } else { name.to_owned() };
    // As `find . -type f -exec sha256sum {} +` names them.
    let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
    let good = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(good) || name.contains('\0') {
        return Err("names no file inside of the version directory");
    }
    Ok((name, digest.to_ascii_lowercase()))
}

/// A name in which line ends and backslashes are written `\n`, `\r` and `\\`.
fn unescaped(name: &str) -> Option<String> {
    let mut plain = String::with_capacity(name.len());
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn names(text: &str) -> Vec<String> {
        parse(text).unwrap().into_keys().collect()
    }

    #[test]
    fn what_sha256sum_prints_is_read() {
        let text = format!(
            "# made by hand\n{ABC}  model.onnx\n{EMPTY} *with blanks.txt\r\n\n{ABC}  ./a/b.bin\n\\{EMPTY}  a\\\\b\\nc\n{EMPTY}  {SUMS_FILE}\n"
        );
        let sums = parse(&text).unwrap();
        assert_eq!(sums["model.onnx"], ABC);
        assert_eq!(names(&text), ["a/b.bin", "a\\b\nc", "model.onnx", "with blanks.txt"]);
        let upper = format!("{}  model.onnx\n", ABC.to_uppercase());
        assert_eq!(parse(&upper).unwrap()["model.onnx"], ABC);
        assert_eq!(names(""), [] as [&str; 0]);
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_in_a_line_is_still_arriving() {
        let text = format!("{ABC}  a\n{EMPTY}  b.txt\n");
        for end in 1..text.len() {
            let cut = parse(&text[..end]);
            if text[..end].ends_with('\n') {
                assert!(cut.is_ok(), "{end}");
            } else {
                assert!(matches!(cut, Err(BundleError::Arriving { .. })), "{end}");
            }
        }
    }

    #[test]
    fn a_line_of_another_form_is_named() {
        let lines: [&str; 14] = [
            "no digest",
            &format!("{ABC} one-blank"),
            ABC,
            &format!("{ABC}  "),
            &format!("{}  short", &ABC[1..]),
            &format!("g{}  no-digit", &ABC[1..]),
            &format!("é{}  no-ascii", &ABC[2..]),
            &format!("SHA256 (a) = {ABC}"),
            &format!("{ABC}  ../outside"),
            &format!("{ABC}  /absolute"),
            &format!("{ABC}  a//b"),
            &format!("\\{ABC}  a\\x"),
            &format!("\\{ABC}  a\\"),
            &format!("{EMPTY}  first"),
        ];
        for line in lines {
            let error = parse(&format!("{ABC}  first\n{line}\n")).unwrap_err();
            assert!(matches!(error, BundleError::Sums { line: 2, .. }), "{line}: {error}");
        }
        assert_eq!(names(&format!("{ABC}  a\n{ABC}  a\n")), ["a"]);
    }
}
