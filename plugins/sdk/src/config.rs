//! The bundle's `config`, deserialised so that every error names the key and what to do.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Map, Value};

use crate::{InitOptions, Result, invalid_argument};

impl InitOptions {
    /// The configuration as a struct that derives `Deserialize`; give it
    /// `#[serde(deny_unknown_fields)]`, and an unknown key is refused with the nearest known.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let value: Value = serde_json::from_str(&self.config)
            .map_err(|error| invalid_argument!("config is not valid JSON: {error}"))?;
        T::deserialize(Node(&value)).map_err(|Refusal { path, message }| match path.is_empty() {
            true => invalid_argument!("config: {message}"),
            false => invalid_argument!("config key {path:?}: {message}"),
        })
    }
}

/// A serde error that knows where it happened: `mean`, `mean[1]`, `tiles.size`.
#[derive(Debug)]
struct Refusal {
    path: String,
    message: String,
}

impl Refusal {
    fn inside(mut self, step: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{separator}{}", self.path);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl serde::de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: String::new(), message: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            path: field.into(),
            message: format!("there is no such key; {}", hint(field, expected)),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("{variant:?} is not known; {}", hint(variant, expected)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: field.into(), message: "this key is required".into() }
    }
}

/// The nearest known name where one is near, otherwise all of them.
fn hint(given: &str, known: &[&str]) -> String {
    let given = &given.to_lowercase();
    let near = known
        .iter()
        .map(|name| (distance(given, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(given.len()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in previous.iter_mut().skip(1).zip(b.bytes()) {
            let substituted = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = substituted.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = previous.first_mut() {
            *first = i + 1;
        }
    }
    previous.last().copied().unwrap_or(0)
}

#[derive(Clone, Copy)]
struct Node<'a>(&'a Value);

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Object(entries) => visitor.visit_map(Entries::new(entries)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(UnitVariant(variant)),
            _ => self.deserialize_any(visitor),
        }
    }

    /// A derived visitor would take a list of values in the order of the fields too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match self.0 {
            Value::Array(_) => Err(serde::de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let step = format!("[{}]", self.next);
        self.next += 1;
        seed.deserialize(Node(item)).map(Some).map_err(|refusal| refusal.inside(&step))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'a> {
    entries: serde_json::map::Iter<'a>,
    current: Option<(&'a str, &'a Value)>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a Map<String, Value>) -> Self {
        Self { entries: entries.iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refusal> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.current = Some((key, value));
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let (key, value) = self.current.take().unwrap_or(("", &Value::Null));
        seed.deserialize(Node(value)).map_err(|refusal| refusal.inside(key))
    }
}

/// An enum written as a string; variants with content are not for configuration.
struct UnitVariant<'a>(&'a str);

impl<'de> EnumAccess<'de> for UnitVariant<'de> {
    type Error = Refusal;
    type Variant = <StrDeserializer<'de, Refusal> as EnumAccess<'de>>::Variant;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Refusal> {
        IntoDeserializer::<Refusal>::into_deserializer(self.0).variant_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Code;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Layout {
        Nchw,
        Nhwc,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Tiles {
        size: [u32; 2],
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        size: [u32; 2],
        #[serde(default)]
        scale: f32,
        layout: Option<Layout>,
        tiles: Option<Tiles>,
    }

    fn config(json: &str) -> Result<Config> {
        InitOptions { config: json.into(), ..InitOptions::default() }.config()
    }

    fn refusal(json: &str) -> String {
        let error = config(json).unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        error.message
    }

    #[test]
    fn a_whole_configuration_is_read() {
        let read = config(r#"{"size":[2,3],"scale":255,"layout":"nhwc","tiles":{"size":[1,1]}}"#);
        let tiles = Some(Tiles { size: [1, 1] });
        let wanted = Config { size: [2, 3], scale: 255.0, layout: Some(Layout::Nhwc), tiles };
        assert_eq!(read.unwrap(), wanted);
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        assert_eq!(
            refusal(r#"{"size":[2,3],"scael":1}"#),
            r#"config key "scael": there is no such key; did you mean "scale"?"#
        );
    }

    #[test]
    fn an_unknown_key_far_from_all_lists_them() {
        assert_eq!(
            refusal(r#"{"interpolation":1}"#),
            r#"config key "interpolation": there is no such key; known: size, scale, layout, tiles"#
        );
    }

    #[test]
    fn an_unknown_variant_suggests_the_nearest() {
        assert_eq!(
            refusal(r#"{"size":[2,3],"layout":"NHWC"}"#),
            r#"config key "layout": "NHWC" is not known; did you mean "nhwc"?"#
        );
        assert_eq!(
            refusal(r#"{"size":[2,3],"layout":"nhcw"}"#),
            r#"config key "layout": "nhcw" is not known; did you mean "nchw"?"#
        );
    }

    #[test]
    fn a_wrong_type_names_the_path() {
        assert_eq!(
            refusal(r#"{"size":[2,"3"]}"#),
            r#"config key "size[1]": invalid type: string "3", expected u32"#
        );
        assert_eq!(
            refusal(r#"{"size":[2,3],"tiles":{"size":[1,-1]}}"#),
            r#"config key "tiles.size[1]": invalid value: integer `-1`, expected u32"#
        );
        assert_eq!(
            refusal(r#"{"size":[2,3],"tiles":{"sise":[1,1]}}"#),
            r#"config key "tiles.sise": there is no such key; did you mean "size"?"#
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(refusal("{}"), r#"config key "size": this key is required"#);
    }

    #[test]
    fn what_is_not_a_json_object_is_refused() {
        assert!(refusal("{").starts_with("config is not valid JSON: "));
        assert!(refusal("[1]").starts_with("config: "));
        assert_eq!(refusal("3"), "config: invalid type: integer `3`, expected struct Config");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("size", "size"), 0);
    }
}
