//! com.microsoft's Tokenizer, which scikit-learn's text vectorizers become.

use bytes::Bytes;
use ingle_types::DType;
use regex::Regex;

use super::text::{part_of, strings, utf8};
use super::{Args, Built, Registry, op};
use crate::kernels::Kernels;
use crate::value::Host;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in("com.microsoft", "Tokenizer", 1.., 1..=1, tokenizer);
}

/// What stands before and behind the tokens of a text, where marks are wanted.
const START: &str = "\u{2}";
const END: &str = "\u{3}";

/// Where a text's tokens are.
enum Rule {
    /// Every match is a token.
    Tokens(Regex),
    /// What lies between matches of any of them.
    Separators(Vec<Regex>),
}

struct Tokenizer {
    rule: Rule,
    /// Shorter tokens are dropped; in characters.
    least: usize,
    /// Whether each text starts and ends with a mark.
    marks: bool,
    padding: Bytes,
}

/// One more axis: the tokens of each string, filled up with padding.
fn tokenizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let tokenizer = Tokenizer::read(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let (&[_] | &[_, _]) = x.dims() else {
            return Err(OpError::Dims { what: "the operand", dims: x.dims().to_vec() });
        };
        let texts = strings(&x)?;
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            counts.push(tokenizer.tokens(utf8(text)?).count());
        }
        let width = counts.iter().copied().max().unwrap_or_default();
        let dims = [x.dims(), &[width]].concat();
        ctx.admit(DType::Bytes, &dims)?;
        let mut values = Vec::with_capacity(texts.len().saturating_mul(width));
        for (text, count) in texts.iter().zip(counts) {
            values.extend(tokenizer.tokens(utf8(text)?).map(|token| stored(text, token)));
            values.extend(std::iter::repeat_n(tokenizer.padding.clone(), width - count));
        }
        Ok(vec![Host::text(dims, values).into()])
    })
}

fn compiled(name: &'static str, pattern: &str) -> Result<Regex, BuildError> {
    let reason = "no regular expression, or too large";
    Regex::new(pattern).map_err(|_| BuildError::Value { name, reason })
}

impl Tokenizer {
    fn read<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let missing = |name| BuildError::Missing { name };
        let name = "mincharnum";
        let least = args.int_opt(name)?.ok_or(missing(name))?;
        let reason = "not above zero";
        let least = usize::try_from(least).ok().filter(|&least| least > 0);
        let least = least.ok_or(BuildError::Value { name, reason })?;
        let rule = match (args.has("tokenexp"), args.strings("separators")?) {
            (true, None) => Rule::Tokens(compiled("tokenexp", &args.string("tokenexp", "")?)?),
            (false, Some(separators)) if !separators.is_empty() => Rule::Separators(
                separators
                    .iter()
                    .map(|pattern| compiled("separators", pattern))
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(missing("tokenexp")),
        };
        if !args.has("pad_value") {
            return Err(missing("pad_value"));
        }
        let padding = Bytes::copy_from_slice(args.string("pad_value", "")?.as_bytes());
        Ok(Self { rule, least, marks: args.flag("mark", false)?, padding })
    }

    /// In the order of the text, which is read as they are asked for.
    fn tokens<'a>(&'a self, text: &'a str) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        let parts: Box<dyn Iterator<Item = &str>> = match &self.rule {
            Rule::Tokens(tokens) => Box::new(tokens.find_iter(text).map(|found| found.as_str())),
            Rule::Separators(separators) => {
                let whole: Box<dyn Iterator<Item = &str>> = Box::new(std::iter::once(text));
                separators.iter().fold(whole, |parts, separator| {
                    Box::new(parts.flat_map(|part| separator.split(part)))
                })
            }
        };
        let tokens = parts.filter(|part| part.chars().nth(self.least - 1).is_some());
        if !self.marks {
            return Box::new(tokens);
        }
        Box::new(std::iter::once(START).chain(tokens).chain(std::iter::once(END)))
    }
}

/// A token that is part of `text` shares its memory.
fn stored(text: &Bytes, token: &str) -> Bytes {
    match token {
        START => Bytes::from_static(START.as_bytes()),
        END => Bytes::from_static(END.as_bytes()),
        token => part_of(text, token),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, texts};

    fn case(x: ingle_types::Tensor) -> Case {
        Case::of("Tokenizer", [x]).domain("com.microsoft").string("pad_value", "#")
    }

    #[test]
    fn matches_are_tokens() {
        let words = || case(texts(&[2], &["The 2nd öl, x", "…"])).string("tokenexp", r"\w+");
        words()
            .int("mincharnum", 1)
            .gives([texts(&[2, 4], &["The", "2nd", "öl", "x", "#", "#", "#", "#"])]);
        words().int("mincharnum", 2).int("mark", 1).gives([texts(
            &[2, 5],
            &["\u{2}", "The", "2nd", "öl", "\u{3}", "\u{2}", "\u{3}", "#", "#", "#"],
        )]);
        case(texts(&[1, 1], &["?"]))
            .string("tokenexp", r"\w+")
            .int("mincharnum", 1)
            .gives([texts(&[1, 1, 0], &[])]);
    }

    #[test]
    fn what_lies_between_separators_is_a_token() {
        case(texts(&[1], &["a,b; c,"]))
            .strings("separators", &[",", ";", " "])
            .int("mincharnum", 1)
            .gives([texts(&[1, 3], &["a", "b", "c"])]);
    }

    #[test]
    fn rules_are_checked() {
        let bare = || case(texts(&[1], &["a"])).int("mincharnum", 1);
        bare().fails("\"tokenexp\" is missing");
        bare().string("tokenexp", "(").fails("no regular expression");
        bare().strings("separators", &["["]).fails("no regular expression");
        case(texts(&[1], &["a"])).string("tokenexp", ".").int("mincharnum", 0).fails("not above");
        let number = case(f32s(&[1], &[1.])).string("tokenexp", ".").int("mincharnum", 1);
        number.fails("a string tensor");
    }
}
