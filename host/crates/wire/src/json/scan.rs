use std::fmt;

use super::cursor::Cursor;
use super::escape::{hex4, unescape};
use super::number;

/// The ways in which a text can fail to be JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) fault: Fault,
    pub(crate) offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    Value,
    Name,
    Colon,
    CommaOrBrace,
    CommaOrBracket,
    Quote,
    Escape,
    Hex,
    Surrogate,
    Encoding,
    TooBig,
    Fraction,
    Exponent,
}

impl Fault {
    /// In RapidJSON's words.
    const fn text(self) -> &'static str {
        match self {
            Self::Empty => "The document is empty.",
            Self::Value => "Invalid value.",
            Self::Name => "Missing a name for object member.",
            Self::Colon => "Missing a colon after a name of object member.",
            Self::CommaOrBrace => "Missing a comma or '}' after an object member.",
            Self::CommaOrBracket => "Missing a comma or ']' after an array element.",
            Self::Quote => "Missing a closing quotation mark in string.",
            Self::Escape => "Invalid escape character in string.",
            Self::Hex => "Incorrect hex digit after \\u escape in string.",
            Self::Surrogate => "The surrogate pair in string is invalid.",
            Self::Encoding => "Invalid encoding in string.",
            Self::TooBig => "Number too big to be stored in double.",
            Self::Fraction => "Miss fraction part in number.",
            Self::Exponent => "Miss exponent in number.",
        }
    }

    pub(crate) const fn at(self, offset: usize) -> SyntaxError {
        SyntaxError { fault: self, offset }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JSON Parse error: {} at offset: {}", self.fault.text(), self.offset)
    }
}

/// A text whose first value is known to be JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a, const N: usize> {
    text: &'a [u8],
    start: usize,
    is_object: bool,
    members: [Option<usize>; N],
}

impl<'a, const N: usize> Document<'a, N> {
    pub(crate) fn is_object(&self) -> bool {
        self.is_object
    }

    pub(crate) fn root(&self) -> Cursor<'a> {
        Cursor::new(self.text, self.start)
    }

    /// The value of the root's member that was given to [`scan`] at `index`.
    pub(crate) fn member(&self, index: usize) -> Option<Cursor<'a>> {
        let at = self.members.get(index).copied().flatten()?;
        Some(Cursor::new(self.text, at))
    }
}

/// Checks the first value of `text` in constant stack, and finds the members of the
/// root that `names` lists: of equal names the first.
pub(crate) fn scan<'a, const N: usize>(
    text: &'a [u8],
    names: [&str; N],
) -> Result<Document<'a, N>, SyntaxError> {
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let at = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut scanner = Scanner { text, at, nesting: Nesting::default() };
    scanner.space();
    let start = scanner.at;
    let mut members = [None; N];
    let mut key = 0..0;
    let mut state = State::Start;
    while state != State::Finish {
        if state == State::Colon && scanner.nesting.depth == 1 {
            note(&mut members, &names, text.get(key.clone()).unwrap_or_default(), scanner.at);
        }
        let before = scanner.at;
        state = scanner.step(state)?;
        if state == State::Key {
            key = before + 1..scanner.at.saturating_sub(1);
        }
        scanner.space();
    }
    let is_object = text.get(start) == Some(&b'{');
    Ok(Document { text, start, is_object, members })
}

fn note<const N: usize>(
    members: &mut [Option<usize>; N],
    names: &[&str; N],
    key: &[u8],
    value: usize,
) {
    let key = unescape(key);
    for (slot, name) in members.iter_mut().zip(names) {
        if slot.is_none() && key.as_ref() == name.as_bytes() {
            *slot = Some(value);
        }
    }
}

/// What was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    ObjectOpen,
    Key,
    Colon,
    Member,
    MemberComma,
    ArrayOpen,
    Element,
    ElementComma,
    Finish,
}

impl State {
    /// What is wrong where the next byte does not fit.
    const fn fault(self) -> Fault {
        match self {
            Self::Start | Self::Finish => Fault::Empty,
            Self::ObjectOpen | Self::MemberComma => Fault::Name,
            Self::Key => Fault::Colon,
            Self::Member => Fault::CommaOrBrace,
            Self::Colon | Self::ArrayOpen | Self::ElementComma => Fault::Value,
            Self::Element => Fault::CommaOrBracket,
        }
    }
}

/// Which brackets are open: a bit for each, set for an object.
#[derive(Debug, Default)]
struct Nesting {
    words: Vec<u64>,
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, 1u64 << (self.depth % 64));
        if word == self.words.len() {
            self.words.push(0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
    }

    /// What a complete value means to what it is in.
    fn after_value(&self) -> State {
        let Some(top) = self.depth.checked_sub(1) else { return State::Finish };
        let object = self.words.get(top / 64).is_some_and(|word| word >> (top % 64) & 1 == 1);
        if object { State::Member } else { State::Element }
    }

    fn pop(&mut self) -> State {
        self.depth = self.depth.saturating_sub(1);
        self.after_value()
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    nesting: Nesting,
}

impl Scanner<'_> {
    /// A NUL ends the text, as the end does.
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn step(&mut self, state: State) -> Result<State, SyntaxError> {
        let byte = self.peek();
        match (state, byte) {
            (State::ObjectOpen, b'}')
            | (State::Member, b'}')
            | (State::ArrayOpen, b']')
            | (State::Element, b']') => {
                self.at += 1;
                Ok(self.nesting.pop())
            }
            (State::ObjectOpen | State::MemberComma, b'"') => {
                self.string()?;
                Ok(State::Key)
            }
            (State::Key, b':') => self.pass(State::Colon),
            (State::Member, b',') => self.pass(State::MemberComma),
            (State::Element, b',') => self.pass(State::ElementComma),
            (State::Start | State::Colon | State::ArrayOpen | State::ElementComma, _) => {
                self.value(state, byte)
            }
            _ => Err(state.fault().at(self.at)),
        }
    }

    fn pass(&mut self, next: State) -> Result<State, SyntaxError> {
        self.at += 1;
        Ok(next)
    }

    fn value(&mut self, state: State, byte: u8) -> Result<State, SyntaxError> {
        match byte {
            b'[' => {
                self.nesting.push(false);
                return self.pass(State::ArrayOpen);
            }
            b'{' => {
                self.nesting.push(true);
                return self.pass(State::ObjectOpen);
            }
            b'"' => self.string()?,
            b'n' => self.literal(b"null")?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b']' | b'}' | b',' | b':' | 0 => return Err(state.fault().at(self.at)),
            _ => return self.numbers(),
        }
        Ok(self.nesting.after_value())
    }

    /// A number, and in a list those after it: most of what is ever read.
    fn numbers(&mut self) -> Result<State, SyntaxError> {
        let after = self.nesting.after_value();
        loop {
            self.at = number::scan(self.text, self.at)?;
            if after != State::Element {
                return Ok(after);
            }
            self.space();
            if self.peek() != b',' {
                return Ok(State::Element);
            }
            self.at += 1;
            self.space();
            if !matches!(self.peek(), b'0'..=b'9' | b'-') {
                return Ok(State::ElementComma);
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), SyntaxError> {
        for &expected in word {
            if self.peek() != expected {
                return Err(Fault::Value.at(self.at));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                0 => return Err(Fault::Quote.at(self.at)),
                1..0x20 => return Err(Fault::Encoding.at(self.at)),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        match self.text.get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let first = hex4(self.text, start + 2).ok_or(Fault::Hex.at(start))?;
                self.at += 6;
                match first {
                    0xd800..0xdc00 => self.low_surrogate(start)?,
                    0xdc00..0xe000 => return Err(Fault::Surrogate.at(start)),
                    _ => {}
                }
            }
            _ => return Err(Fault::Escape.at(start)),
        }
        Ok(())
    }

    fn low_surrogate(&mut self, start: usize) -> Result<(), SyntaxError> {
        if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(Fault::Surrogate.at(start));
        }
        match hex4(self.text, self.at + 2) {
            Some(0xdc00..0xe000) => self.at += 6,
            Some(_) => return Err(Fault::Surrogate.at(start)),
            None => return Err(Fault::Hex.at(start)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        scan(text.as_bytes(), []).unwrap_err().to_string()
    }

    #[test]
    fn faults_are_told_in_rapidjsons_words() {
        let table = [
            ("", "The document is empty. at offset: 0"),
            (" \n ", "The document is empty. at offset: 3"),
            ("]", "The document is empty. at offset: 0"),
            ("instances = [1]", "Invalid value. at offset: 0"),
            ("nul", "Invalid value. at offset: 3"),
            ("trve", "Invalid value. at offset: 2"),
            ("falsy", "Invalid value. at offset: 4"),
            ("[1,]", "Invalid value. at offset: 3"),
            ("[,1]", "Invalid value. at offset: 1"),
            ("{\"a\":}", "Invalid value. at offset: 5"),
            ("{\"a\":1,}", "Missing a name for object member. at offset: 7"),
            ("{a:1}", "Missing a name for object member. at offset: 1"),
            ("{", "Missing a name for object member. at offset: 1"),
            ("{\"a\" 1}", "Missing a colon after a name of object member. at offset: 5"),
            ("{\"a\":1 2}", "Missing a comma or '}' after an object member. at offset: 7"),
            ("{\"a\":1]", "Missing a comma or '}' after an object member. at offset: 6"),
            ("[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
            ("[01]", "Missing a comma or ']' after an array element. at offset: 2"),
            ("[1}", "Missing a comma or ']' after an array element. at offset: 2"),
            ("[", "Invalid value. at offset: 1"),
            ("[1", "Missing a comma or ']' after an array element. at offset: 2"),
            ("\"abc", "Missing a closing quotation mark in string. at offset: 4"),
            ("\"a\\x\"", "Invalid escape character in string. at offset: 2"),
            ("\"\\u12g4\"", "Incorrect hex digit after \\u escape in string. at offset: 1"),
            ("\"\\u12", "Incorrect hex digit after \\u escape in string. at offset: 1"),
            ("\"\\ud800\"", "The surrogate pair in string is invalid. at offset: 1"),
            ("\"\\udc00\"", "The surrogate pair in string is invalid. at offset: 1"),
            ("\"\\ud800\\u0041\"", "The surrogate pair in string is invalid. at offset: 1"),
            ("\"a\nb\"", "Invalid encoding in string. at offset: 2"),
            ("[1e400]", "Number too big to be stored in double. at offset: 1"),
            ("[1.]", "Miss fraction part in number. at offset: 3"),
            ("[1e]", "Miss exponent in number. at offset: 3"),
            ("[1e+]", "Miss exponent in number. at offset: 4"),
            ("[-]", "Invalid value. at offset: 2"),
            ("[+1]", "Invalid value. at offset: 1"),
            ("[.5]", "Invalid value. at offset: 1"),
            ("[Nan]", "Invalid value. at offset: 3"),
            ("[Infi]", "Invalid value. at offset: 5"),
        ];
        for (text, expected) in table {
            assert_eq!(fault(text), format!("JSON Parse error: {expected}"), "{text}");
        }
    }

    #[test]
    fn what_follows_the_first_value_is_not_read() {
        for text in ["{\"a\":1}XYZ", "1 2", "[NaN,Infinity,-Infinity,Inf,-Inf,-NaN]]", " [] \0["] {
            assert!(scan(text.as_bytes(), []).is_ok(), "{text}");
        }
        assert_eq!(fault("[1\0]"), fault("[1"));
        assert!(scan(b"\xef\xbb\xbf{}", []).unwrap().is_object());
    }

    #[test]
    fn of_equal_names_the_first_is_found_and_only_in_the_root() {
        let text = br#"{"x":{"a":0},"\u0061":1,"a":2}"#;
        let document = scan(text, ["a", "b"]).unwrap();
        let (_, at) = document.member(0).unwrap().position();
        assert_eq!(text.get(at), Some(&b'1'));
        assert!(document.member(1).is_none());
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = |n: usize| format!("{{\"a\":1,\"nested\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(scan(deep(500_000).as_bytes(), []).is_ok());
        assert_eq!(
            fault(&"[".repeat(1_000_000)),
            "JSON Parse error: Invalid value. at offset: 1000000"
        );
        assert!(scan("{\"a\":".repeat(100_000).as_bytes(), []).is_err());
    }
}
