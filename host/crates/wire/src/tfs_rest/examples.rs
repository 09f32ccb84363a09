//! The text of a classify or regress request as serialized examples.

use bytes::Bytes;
use ingle_types::{Code, Limits, ServeError, Stage};
use prost::Message as _;

use super::decode::{parse, quote, signature_name};
use super::value::{ValueError, decode_base64};
use crate::budget::{Budget, TooLarge};
use crate::inference::Examples;
use crate::json::{Cursor, Document, Number, Token, unescape};
use crate::proto::tensorflow::feature::Kind;
use crate::proto::tensorflow::{BytesList, Example, Feature, Features, FloatList, Int64List};

/// The ways in which a text can fail to hold examples, in TensorFlow Serving's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum TextError {
    #[error(
        "JSON Value: {value} When method is classify, key 'examples' is expected and was not found"
    )]
    NoExamples { value: String },
    #[error("JSON Value: {value} Expecting 'examples' value to be an list/array")]
    NotList { value: String },
    #[error("JSON Value: {value} 'examples' value is an empty array")]
    Empty { value: String },
    #[error("Example must be JSON object but got JSON {kind}")]
    NotObject { kind: &'static str },
    #[error("Feature: {name} has element with unexpected JSON type: {kind}")]
    Element { name: String, kind: &'static str },
    #[error("Unexpected element type in feature: {name} expecting type: {kind}")]
    Mixed { name: String, kind: &'static str },
    #[error("Feature: {name} has uint64 element. Only int64_t is supported.")]
    Unsigned { name: String },
    #[error("Feature: {name} {error}")]
    Value { name: String, error: ValueError },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl From<TextError> for ServeError {
    fn from(error: TextError) -> Self {
        let code = match error {
            TextError::TooLarge(_) => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        };
        Self::new(code, Stage::Decode, error.to_string())
    }
}

/// What a request's root may hold, in the order of [`Document::member`].
const MEMBERS: [&str; 3] = ["signature_name", "context", "examples"];
const SIGNATURE_NAME: usize = 0;
const CONTEXT: usize = 1;
const EXAMPLES: usize = 2;

/// The name of the signature, which may be empty, and the examples.
pub(super) fn decode(text: &[u8], limits: &Limits) -> Result<(String, Examples), ServeError> {
    let document = parse(text, MEMBERS)?;
    let name = signature_name(&document, SIGNATURE_NAME)?;
    let mut reader = Reader { budget: Budget::new(limits.request_bytes) };
    let context = match document.member(CONTEXT) {
        Some(mut cursor) => reader.example(&mut cursor)?,
        None => Bytes::new(),
    };
    let mut cursor = list(&document)?;
    let mut rows = Vec::new();
    while !matches!(cursor.peek(), Token::ArrayClose | Token::End) {
        rows.push(reader.example(&mut cursor)?);
    }
    let examples = Examples::new(context, rows)?;
    Ok((name, examples))
}

/// The place behind the bracket of the list of examples.
fn list<'a>(document: &Document<'a, 3>) -> Result<Cursor<'a>, TextError> {
    let value = || quote(document);
    let mut cursor =
        document.member(EXAMPLES).ok_or_else(|| TextError::NoExamples { value: value() })?;
    if !matches!(cursor.token(), Token::ArrayOpen) {
        return Err(TextError::NotList { value: value() });
    }
    if matches!(cursor.peek(), Token::ArrayClose) {
        return Err(TextError::Empty { value: value() });
    }
    Ok(cursor)
}

/// Reads examples; what it keeps of all of them is bounded.
struct Reader {
    budget: Budget,
}

impl Reader {
    /// An example as serialized messages of one feature each, which together are one:
    /// of equal names the last counts.
    fn example(&mut self, cursor: &mut Cursor<'_>) -> Result<Bytes, TextError> {
        match cursor.token() {
            Token::ObjectOpen => {}
            other => return Err(TextError::NotObject { kind: other.type_name() }),
        }
        self.budget.take(size_of::<Bytes>())?;
        let mut message = Vec::new();
        while let Token::String(raw) = cursor.token() {
            let name = String::from_utf8_lossy(&unescape(raw)).into_owned();
            // The values are counted where they are read.
            self.budget.take(name.len() + size_of::<Feature>())?;
            let kind = self.feature(&name, cursor)?;
            let feature = [(name, Feature { kind })].into();
            let one = Example { features: Some(Features { feature }) };
            one.encode_raw(&mut message);
        }
        Ok(message.into())
    }

    /// A value or a list of values; of an empty list there is no kind.
    fn feature(&mut self, name: &str, cursor: &mut Cursor<'_>) -> Result<Option<Kind>, TextError> {
        let mut kind = None;
        if !matches!(cursor.peek(), Token::ArrayOpen) {
            self.value(name, cursor, &mut kind)?;
            return Ok(kind);
        }
        cursor.token();
        while !matches!(cursor.peek(), Token::ArrayClose | Token::End) {
            self.value(name, cursor, &mut kind)?;
        }
        cursor.token();
        Ok(kind)
    }

    /// Adds a value; the first decides the kind.
    fn value(
        &mut self,
        name: &str,
        cursor: &mut Cursor<'_>,
        kind: &mut Option<Kind>,
    ) -> Result<(), TextError> {
        let here = *cursor;
        let token = cursor.token();
        let unexpected = || TextError::Element { name: name.to_owned(), kind: token.type_name() };
        let blob = match token {
            Token::Bool(value) => return self.integer(name, value.into(), kind),
            Token::Number(number) => return self.number(name, number, kind),
            Token::String(raw) => unescape(raw).into_owned(),
            Token::ObjectOpen => {
                let (text, behind) = here.base64().ok_or_else(unexpected)?;
                *cursor = behind;
                let decoded = decode_base64(text);
                decoded.map_err(|error| TextError::Value { name: name.to_owned(), error })?
            }
            _ => return Err(unexpected()),
        };
        self.budget.take(size_of::<Bytes>() + blob.len())?;
        match kind.get_or_insert_with(|| Kind::BytesList(BytesList::default())) {
            Kind::BytesList(list) => list.value.push(blob.into()),
            other => return Err(mixed(name, other)),
        }
        Ok(())
    }

    /// An integer token is an integer, unless 64 bits cannot hold it.
    fn number(
        &mut self,
        name: &str,
        number: Number<'_>,
        kind: &mut Option<Kind>,
    ) -> Result<(), TextError> {
        if let Some(value) = number.integer() {
            if let Ok(value) = i64::try_from(value) {
                return self.integer(name, value, kind);
            }
            if u64::try_from(value).is_ok() {
                return Err(TextError::Unsigned { name: name.to_owned() });
            }
        }
        self.budget.take(size_of::<f32>())?;
        match kind.get_or_insert_with(|| Kind::FloatList(FloatList::default())) {
            Kind::FloatList(list) => {
                // Beyond a float is infinite, or zero.
                #[expect(clippy::cast_possible_truncation, reason = "the nearest float is meant")]
                list.value.push(number.double() as f32);
            }
            other => return Err(mixed(name, other)),
        }
        Ok(())
    }

    fn integer(
        &mut self,
        name: &str,
        value: i64,
        kind: &mut Option<Kind>,
    ) -> Result<(), TextError> {
        self.budget.take(size_of::<i64>())?;
        match kind.get_or_insert_with(|| Kind::Int64List(Int64List::default())) {
            Kind::Int64List(list) => list.value.push(value),
            other => return Err(mixed(name, other)),
        }
        Ok(())
    }
}

fn mixed(name: &str, first: &Kind) -> TextError {
    let kind = match first {
        Kind::BytesList(_) => "bytes",
        Kind::FloatList(_) => "float",
        Kind::Int64List(_) => "int64",
    };
    TextError::Mixed { name: name.to_owned(), kind }
}
