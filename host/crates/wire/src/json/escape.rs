use std::borrow::Cow;

/// The four hexadecimal digits at `start`.
pub(super) fn hex4(text: &[u8], start: usize) -> Option<u32> {
    text.get(start..start + 4)?
        .iter()
        .try_fold(0, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
}

/// The bytes that the inside of a string literal stands for. The literal is known
/// to be well-formed; it need not be UTF-8.
pub(crate) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'u', ..]) => {
                let (c, length) = escaped_char(rest);
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest.get(length..).unwrap_or_default()
            }
            (b'\\', [escaped, tail @ ..]) => {
                bytes.push(control(*escaped));
                tail
            }
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    Cow::Owned(bytes)
}

const fn control(escaped: u8) -> u8 {
    match escaped {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// The character of a `\uXXXX` or a pair of them, and how long it is in the text.
fn escaped_char(text: &[u8]) -> (char, usize) {
    let first = hex4(text, 2).unwrap_or(0xfffd);
    if !(0xd800..0xdc00).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let second = hex4(text, 8).unwrap_or(0xdc00);
    let code = 0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff);
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}

/// Appends a string literal. Bytes that are not UTF-8 pass as they are, as
/// TensorFlow Serving lets them.
pub(crate) fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    for &byte in bytes {
        let escaped = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                let digits = [byte >> 4, byte & 15].map(|d| HEX.get(usize::from(d)).copied());
                out.extend(digits.into_iter().flatten());
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(b"plain").as_ref(), b"plain");
        assert_eq!(unescape(br#"\"\\\/\b\f\n\r\t"#).as_ref(), b"\"\\/\x08\x0c\n\r\t");
        assert_eq!(unescape(br"\u00e9\ud83d\ude00\u0000").as_ref(), "é😀\0".as_bytes());
        assert_eq!(unescape(b"\xff\\n").as_ref(), b"\xff\n");
    }

    #[test]
    fn what_is_written_reads_back_in_another_parser() {
        let bytes: Vec<u8> = (0..0x80).collect();
        let mut out = Vec::new();
        write_string(&mut out, &bytes);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap().into_bytes(), bytes);
        assert_eq!(unescape(out.get(1..out.len() - 1).unwrap()).as_ref(), bytes);
        let mut out = Vec::new();
        write_string(&mut out, b"\xff");
        assert_eq!(out, b"\"\xff\"");
    }
}
