use super::Number;

/// A lexical element; commas and colons are passed over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    /// The inside of the literal, escapes and all.
    String(&'a [u8]),
    ArrayOpen,
    ArrayClose,
    ObjectOpen,
    ObjectClose,
    End,
}

impl Token<'_> {
    /// The type's name in TensorFlow Serving's messages.
    pub(crate) const fn type_name(self) -> &'static str {
        match self {
            Self::Null | Self::End => "Null",
            Self::Bool(false) => "False",
            Self::Bool(true) => "True",
            Self::Number(_) => "Number",
            Self::String(_) => "String",
            Self::ArrayOpen | Self::ArrayClose => "Array",
            Self::ObjectOpen | Self::ObjectClose => "Object",
        }
    }
}

/// The bytes that numbers are made of, NaN and Infinity among them.
const IN_NUMBER: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'+' | b'.');
        byte += 1;
    }
    table
};

/// A place in a text that [`super::scan`] has passed. Over other text it stops
/// early, but nothing worse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    #[cfg(test)]
    pub(super) fn position(self) -> (&'a [u8], usize) {
        (self.text, self.at)
    }

    pub(crate) fn peek(mut self) -> Token<'a> {
        self.token()
    }

    pub(crate) fn token(&mut self) -> Token<'a> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':') = self.text.get(self.at) {
            self.at += 1;
        }
        let Some(&byte) = self.text.get(self.at) else { return Token::End };
        match byte {
            b'[' => self.pass(1, Token::ArrayOpen),
            b']' => self.pass(1, Token::ArrayClose),
            b'{' => self.pass(1, Token::ObjectOpen),
            b'}' => self.pass(1, Token::ObjectClose),
            b'"' => self.string(),
            b'n' => self.pass(4, Token::Null),
            b't' => self.pass(4, Token::Bool(true)),
            b'f' => self.pass(5, Token::Bool(false)),
            _ => self.number(),
        }
    }

    fn pass(&mut self, length: usize, token: Token<'a>) -> Token<'a> {
        self.at += length;
        token
    }

    fn string(&mut self) -> Token<'a> {
        let start = self.at + 1;
        let mut at = start;
        while let Some(&byte) = self.text.get(at) {
            match byte {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Token::String(self.text.get(start..at).unwrap_or_default())
    }

    fn number(&mut self) -> Token<'a> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| IN_NUMBER[usize::from(**byte)]).count();
        if length == 0 {
            self.at = self.text.len();
            return Token::End;
        }
        self.at += length;
        Token::Number(Number(rest.get(..length).unwrap_or_default()))
    }

    /// Passes over one value, however deep.
    pub(crate) fn skip(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.token() {
                Token::ArrayOpen | Token::ObjectOpen => depth += 1,
                Token::ArrayClose | Token::ObjectClose => depth = depth.saturating_sub(1),
                Token::End => return,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// The string in an object here that has the single member `b64`, and the place
    /// behind the object.
    pub(crate) fn base64(self) -> Option<(&'a [u8], Self)> {
        let mut ahead = self;
        let (Token::ObjectOpen, Token::String(key)) = (ahead.token(), ahead.token()) else {
            return None;
        };
        let (Token::String(value), Token::ObjectClose) = (ahead.token(), ahead.token()) else {
            return None;
        };
        (super::unescape(key).as_ref() == b"b64").then_some((value, ahead))
    }

    /// The value as messages quote it: one line, cut at `limit` bytes.
    pub(crate) fn quote(self, limit: usize) -> String {
        let mut end = self;
        end.skip();
        let (mut out, mut in_string, mut escaped) = (Vec::new(), false, false);
        for &byte in self.text.get(self.at..end.at).unwrap_or_default() {
            let first = out.is_empty();
            match byte {
                _ if in_string => out.push(byte),
                b',' | b':' if first => {}
                b',' | b':' => out.extend_from_slice(&[byte, b' ']),
                b' ' | b'\n' | b'\r' | b'\t' => {}
                _ => out.push(byte),
            }
            in_string ^= byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            if out.len() > limit {
                break;
            }
        }
        cut(out, limit)
    }
}

fn cut(bytes: Vec<u8>, limit: usize) -> String {
    let text = String::from_utf8_lossy(&bytes);
    if text.len() <= limit {
        return text.into_owned();
    }
    let end = (0..=limit).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}...", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(text: &str) -> String {
        Cursor::new(text.as_bytes(), 0).quote(40)
    }

    #[test]
    fn values_are_quoted_on_one_line() {
        let table = [
            ("[1,2]", "[1, 2]"),
            ("5", "5"),
            (
                "{\"a\":[ ],\"b\":{\"c\":\"d\"},\"e\":\"f\"}",
                "{\"a\": [], \"b\": {\"c\": \"d\"}, \"e\": \"f\"}",
            ),
            ("[[],[{}],null,true]", "[[], [{}], null, true]"),
            ("{\"a\":\"x\",\"b\":1}, 7", "{\"a\": \"x\", \"b\": 1}"),
            ("{\"k\":\"v\",\"w\":[\"p\",\"q\"]}", "{\"k\": \"v\", \"w\": [\"p\", \"q\"]}"),
        ];
        for (text, expected) in table {
            assert_eq!(quote(text), expected);
        }
    }

    #[test]
    fn a_long_quote_is_cut_between_characters() {
        let text = quote(&format!("\"{}\"", "é".repeat(100)));
        assert!(text.ends_with("é..."), "{text}");
        assert!(quote(&"[".repeat(1000)).len() <= 43);
    }

    #[test]
    fn skipping_passes_exactly_one_value() {
        let mut cursor = Cursor::new(br#"{"a":[1,{"b":"]"}]}, 7"#, 0);
        cursor.skip();
        assert!(matches!(cursor.token(), Token::Number(Number(b"7"))));
        cursor.skip();
        assert!(matches!(cursor.token(), Token::End));
    }

    #[test]
    fn a_base64_object_has_one_member() {
        let is = |text: &str| Cursor::new(text.as_bytes(), 0).base64().is_some();
        assert!(is(r#"{"b64":"AA=="}"#));
        for text in [r#"{"b64":1}"#, r#"{"b64":"","a":1}"#, r#"{"b65":""}"#, "{}", "[]", "\"b64\""]
        {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn text_that_was_not_scanned_ends_the_walk() {
        for text in ["\"open", "#", "[1,2", "\\"] {
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            for _ in 0..10 {
                cursor.token();
            }
            assert!(matches!(cursor.token(), Token::End), "{text}");
        }
    }
}
