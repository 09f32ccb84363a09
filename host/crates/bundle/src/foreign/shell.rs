//! Names as they have to be written in a command.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path as a word of a POSIX shell; never one that looks like an option.
pub(super) fn path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"-") { word(&[b"./", bytes].concat()) } else { word(bytes) }
}

/// Any bytes as one word of a shell. Control characters, which a log or a terminal must
/// not get, and what is no UTF-8 are written as `$'...'`, which bash, zsh and POSIX of
/// 2024 read.
pub(super) fn word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(b);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if !text.chars().any(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::from("$'");
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Three digits end the escape whatever follows; writing to a `String` does not fail.
                let _ = write!(text, "\\{byte:03o}");
            }
        }
    }
    text + "'"
}

/// A path as a string of Python.
pub(super) fn python(path: &Path) -> String {
    let mut text = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            _ if c.is_control() => {
                // Writing to a `String` does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn plain_words_stay_as_they_are() {
        for text in ["/models/m/1", "a_b-c.d", "x=1,y:2"] {
            assert_eq!(word(text.as_bytes()), text);
        }
        assert_eq!(path(Path::new("-rf/1")), "./-rf/1");
        assert_eq!(path(Path::new("it's mine")), r"'it'\''s mine'");
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        let bytes: Vec<u8> = (1..=255).collect();
        let words =
            [&b""[..], b"a b", b"it's", b"$(x) `y` \\ \"z\"", b"\n7\x1b[2J", "é".as_bytes()];
        for wanted in words.into_iter().chain([&bytes[..], b"-n", b"~", b"*?[a]{b,c}#!"]) {
            let script = format!("printf %s {}", word(wanted));
            let said = Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(said.stdout, wanted, "{script}");
        }
    }

    #[test]
    fn python_strings_hold_quotes_and_backslashes() {
        assert_eq!(python(Path::new("/é b/\"c\"\\\n\u{9b}")), r#""/é b/\"c\"\\\u000a\u009b""#);
    }
}
