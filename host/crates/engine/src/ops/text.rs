//! Operators on strings. Strings are UTF-8, as ONNX says, where an operator looks
//! into them.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use ingle_types::DType;
use regex::bytes::Regex;

use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{broadcast, broadcast_places};
use crate::kernels::Kernels;
use crate::value::{Host, HostData, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("StringConcat", 20.., 2..=2, concat);
    r.add("StringSplit", 20.., 1..=1, split);
    r.add("StringNormalizer", 10.., 1..=1, normalizer);
    r.add("RegexFullMatch", 20.., 1..=1, full_match);
}

pub(super) fn strings(host: &Host) -> Result<&[Bytes], OpError> {
    match host.data() {
        HostData::Text(values) => Ok(values),
        _ => {
            let expected = "a string tensor";
            Err(OpError::DType { what: "the operand", expected, given: host.dtype() })
        }
    }
}

pub(super) fn utf8(text: &Bytes) -> Result<&str, OpError> {
    std::str::from_utf8(text).map_err(|_| OpError::text(text, "UTF-8"))
}

/// A part of `text`, which shares its memory.
pub(super) fn part_of(text: &Bytes, part: &str) -> Bytes {
    if part.is_empty() { Bytes::new() } else { text.slice_ref(part.as_bytes()) }
}

fn concat<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let (left, right) = (inputs.take(0)?.to_host(ctx)?, inputs.take(1)?.to_host(ctx)?);
        let dims = broadcast(left.dims(), right.dims())?;
        ctx.admit(DType::Bytes, &dims)?;
        let (l, r) = (strings(&left)?, strings(&right)?);
        let pairs = || {
            broadcast_places(left.dims(), &dims)
                .zip(broadcast_places(right.dims(), &dims))
                .filter_map(|(i, j)| l.get(i).zip(r.get(j)))
        };
        let bytes = pairs().fold(0usize, |sum, (l, r)| sum.saturating_add(l.len() + r.len()));
        ctx.admit(DType::U8, &[bytes])?;
        let joined = |(l, r): (&Bytes, &Bytes)| {
            let mut both = BytesMut::with_capacity(l.len() + r.len());
            both.extend_from_slice(l);
            both.extend_from_slice(r);
            both.freeze()
        };
        let values = pairs().map(joined).collect();
        Ok(vec![Host::text(dims.clone(), values).into()])
    })
}

/// One more axis, in which shorter rows are filled with empty strings; and how many
/// parts each string has.
fn split<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(2);
    let delimiter = args.string("delimiter", "")?.into_owned();
    let most = match args.int_opt("maxsplit")? {
        Some(most) => usize::try_from(most).ok(),
        None => None,
    };
    let limit = most.map_or(usize::MAX, |most| most.saturating_add(1));
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let texts = strings(&x)?;
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            counts.push(parts(utf8(text)?, &delimiter, limit).count());
        }
        let width = counts.iter().copied().max().unwrap_or_default();
        let dims = [x.dims(), &[width]].concat();
        ctx.admit(DType::Bytes, &dims)?;
        let mut values = Vec::with_capacity(texts.len().saturating_mul(width));
        for (text, count) in texts.iter().zip(&counts) {
            let parts = parts(utf8(text)?, &delimiter, limit);
            values.extend(parts.map(|part| part_of(text, part)));
            values.extend(std::iter::repeat_n(Bytes::new(), width - count));
        }
        let counts = counts.into_iter().map(|c| i64::try_from(c).unwrap_or(i64::MAX)).collect();
        let counts = Host::ints(DType::I64, x.dims().to_vec(), counts);
        Ok(vec![Host::text(dims, values).into(), counts.into()])
    })
}

/// At most `limit` parts. Without a delimiter, white space of any length parts and
/// is no part itself.
fn parts<'a>(
    text: &'a str,
    delimiter: &'a str,
    limit: usize,
) -> Box<dyn Iterator<Item = &'a str> + 'a> {
    if !delimiter.is_empty() {
        return Box::new(text.splitn(limit, delimiter));
    }
    let mut rest = text.trim();
    let mut left = limit;
    Box::new(std::iter::from_fn(move || {
        if rest.is_empty() || left == 0 {
            return None;
        }
        left -= 1;
        let end = if left == 0 { None } else { rest.find(char::is_whitespace) };
        let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind.trim_start();
        Some(part)
    }))
}

#[derive(Clone, Copy)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Case {
    fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Kept => text.into(),
            Self::Lower => text.to_lowercase().into(),
            Self::Upper => text.to_uppercase().into(),
        }
    }
}

/// Drops stop words, then changes the case of what is left. Case follows Unicode,
/// whatever locale the model names.
fn normalizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("locale");
    let case = match &*args.string("case_change_action", "NONE")? {
        "NONE" => Case::Kept,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        _ => {
            let reason = "neither LOWER nor UPPER nor NONE";
            return Err(BuildError::Value { name: "case_change_action", reason });
        }
    };
    let compared = if args.flag("is_case_sensitive", false)? { Case::Kept } else { Case::Lower };
    let stop_words = args.strings("stopwords")?.unwrap_or_default();
    let stop_words: HashSet<String> =
        stop_words.iter().map(|word| compared.of(word).into_owned()).collect();
    op(move |ctx: &Context<B>, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let (&[_] | &[1, _]) = x.dims() else {
            return Err(OpError::Dims { what: "the operand", dims: x.dims().to_vec() });
        };
        let mut kept = Vec::new();
        for text in strings(&x)? {
            let word = utf8(text)?;
            if !stop_words.contains(&*compared.of(word)) {
                kept.push(match case.of(word) {
                    Cow::Borrowed(_) => text.clone(),
                    Cow::Owned(changed) => changed.into(),
                });
            }
        }
        if kept.is_empty() {
            kept.push(Bytes::new());
        }
        let dims = if x.dims().len() == 1 { vec![kept.len()] } else { vec![1, kept.len()] };
        Ok(vec![Host::text(dims, kept).into()])
    })
}

/// The pattern must match all of a string. Patterns take time in proportion to the
/// string, and what they compile to is bounded by the regex crate.
fn full_match<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "pattern";
    if !args.has(name) {
        return Err(BuildError::Missing { name });
    }
    let pattern = args.string(name, "")?;
    let wrong = |_| BuildError::Value { name, reason: "no regular expression, or too large" };
    // Alone first, so that no pattern closes the parenthesis around it.
    Regex::new(&pattern).map_err(wrong)?;
    let regex = Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(wrong)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let matches = strings(&x)?.iter().map(|text| i64::from(regex.is_match(text))).collect();
        let answer: Value<B> = Host::ints(DType::Bool, x.dims().to_vec(), matches).into();
        Ok(vec![answer])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, f32s, i64s, texts};

    fn case(operator: &str, x: ingle_types::Tensor) -> Case {
        Case::of(operator, [x]).opset(20)
    }

    #[test]
    fn strings_are_joined_and_broadcast() {
        let (left, right) = (texts(&[2, 1], &["a", "ö"]), texts(&[2], &["", "z"]));
        Case::of("StringConcat", [left, right])
            .opset(20)
            .gives([texts(&[2, 2], &["a", "az", "ö", "öz"])]);
        Case::of("StringConcat", [texts(&[], &["a"]), texts(&[], &["b"])])
            .opset(20)
            .gives([texts(&[], &["ab"])]);
        Case::of("StringConcat", [texts(&[1], &["a"]), f32s(&[1], &[0.])])
            .opset(20)
            .fails("a string tensor");
        Case::of("StringConcat", [texts(&[2], &["", ""]), texts(&[3], &["", "", ""])])
            .opset(20)
            .fails("do not broadcast");
        let long = "x".repeat(1 << 21);
        let many = vec![""; 2000];
        Case::of("StringConcat", [texts(&[1], &[&long]), texts(&[2000], &many)])
            .opset(20)
            .fails("larger than the limit");
    }

    #[test]
    fn strings_are_split_at_delimiters() {
        let x = || texts(&[2], &["a.b..c", "d"]);
        case("StringSplit", x())
            .string("delimiter", ".")
            .gives([texts(&[2, 4], &["a", "b", "", "c", "d", "", "", ""]), i64s(&[2], &[4, 1])]);
        case("StringSplit", x())
            .string("delimiter", ".")
            .int("maxsplit", 1)
            .gives([texts(&[2, 2], &["a", "b..c", "d", ""]), i64s(&[2], &[2, 1])]);
        case("StringSplit", texts(&[0], &[])).gives([texts(&[0, 0], &[]), i64s(&[0], &[])]);
    }

    #[test]
    fn strings_are_split_at_white_space() {
        let x = || texts(&[3], &["  o ne\u{a0}two\tthree ", "", " "]);
        case("StringSplit", x()).gives([
            texts(&[3, 4], &["o", "ne", "two", "three", "", "", "", "", "", "", "", ""]),
            i64s(&[3], &[4, 0, 0]),
        ]);
        case("StringSplit", x()).int("maxsplit", 1).gives([
            texts(&[3, 2], &["o", "ne\u{a0}two\tthree", "", "", "", ""]),
            i64s(&[3], &[2, 0, 0]),
        ]);
        case("StringSplit", f32s(&[1], &[1.])).fails("a string tensor");
    }

    #[test]
    fn words_are_dropped_and_change_their_case() {
        let x = || texts(&[1, 3], &["Monday", "tuesday", "ÉTÉ"]);
        case("StringNormalizer", x())
            .strings("stopwords", &["monday"])
            .string("case_change_action", "LOWER")
            .gives([texts(&[1, 2], &["tuesday", "été"])]);
        case("StringNormalizer", x())
            .strings("stopwords", &["monday", "tuesday"])
            .int("is_case_sensitive", 1)
            .string("case_change_action", "UPPER")
            .gives([texts(&[1, 2], &["MONDAY", "ÉTÉ"])]);
        case("StringNormalizer", texts(&[2], &["a", "A"]))
            .strings("stopwords", &["a"])
            .gives([texts(&[1], &[""])]);
        case("StringNormalizer", x()).string("case_change_action", "TITLE").fails("neither LOWER");
        case("StringNormalizer", texts(&[2, 1], &["", ""])).fails("cannot be a tensor of shape");
    }

    #[test]
    fn patterns_match_all_of_a_string() {
        let x = || texts(&[4], &["ab", "aab", "abc", "b"]);
        case("RegexFullMatch", x()).string("pattern", "a+b|b").gives([bools(&[4], &[1, 1, 0, 1])]);
        case("RegexFullMatch", x()).string("pattern", "").gives([bools(&[4], &[0; 4])]);
        case("RegexFullMatch", x()).string("pattern", "a)|(b").fails("no regular expression");
        case("RegexFullMatch", x()).string("pattern", "(a{999}){999}").fails("or too large");
        case("RegexFullMatch", x()).fails("\"pattern\" is missing");
    }
}
