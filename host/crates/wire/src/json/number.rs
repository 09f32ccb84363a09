use super::scan::{Fault, SyntaxError};

/// A number's text, which is known to be one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'a>(pub(crate) &'a [u8]);

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl Number<'_> {
    /// The nearest double. An integer token has no negative zero.
    pub(crate) fn double(self) -> f64 {
        if let Some(value) = self.short() {
            return value;
        }
        let text = std::str::from_utf8(self.0).unwrap_or_default();
        match text {
            "Inf" | "Infinity" => f64::INFINITY,
            "-Inf" | "-Infinity" => f64::NEG_INFINITY,
            _ => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// The value where few digits make it exact: most of what clients send.
    fn short(self) -> Option<f64> {
        let (minus, digits) = match self.0 {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        // 19 digits fit 64 bits.
        if digits.len() > 20 {
            return None;
        }
        let (mut mantissa, mut scale, mut integer) = (0u64, 0usize, true);
        for &byte in digits {
            match byte {
                b'0'..=b'9' => {
                    mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                    scale += usize::from(!integer);
                }
                b'.' => integer = false,
                _ => return None,
            }
        }
        if mantissa > 1 << 53 || (integer && digits.len() > 19) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 53 bits")]
        let value = mantissa as f64 / POWERS.get(scale)?;
        Some(if minus && !(integer && mantissa == 0) { -value } else { value })
    }

    /// The value of an integer token; `None` for other numbers and outside of `i128`.
    pub(crate) fn integer(self) -> Option<i128> {
        std::str::from_utf8(self.0).ok()?.parse().ok()
    }
}

/// The end of the number at `start`.
pub(super) fn scan(text: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    let digits = |mut at: usize| {
        while byte(at).is_ascii_digit() {
            at += 1;
        }
        at
    };
    let first = start + usize::from(byte(start) == b'-');
    let mut at = match byte(first) {
        b'0' => first + 1,
        b'1'..=b'9' => digits(first),
        b'N' => return word(text, first, b"NaN"),
        b'I' => {
            let short = word(text, first, b"Inf")?;
            return if byte(short) == b'i' { word(text, first, b"Infinity") } else { Ok(short) };
        }
        _ => return Err(Fault::Value.at(first)),
    };
    let integer_digits = at - first;
    if byte(at) == b'.' {
        at += 1;
        if !byte(at).is_ascii_digit() {
            return Err(Fault::Fraction.at(at));
        }
        at = digits(at);
    }
    let mut exponent = false;
    if matches!(byte(at), b'e' | b'E') {
        at += 1;
        exponent = byte(at) != b'-';
        at += usize::from(matches!(byte(at), b'+' | b'-'));
        if !byte(at).is_ascii_digit() {
            return Err(Fault::Exponent.at(at));
        }
        at = digits(at);
    }
    // Nothing else can be beyond a double.
    let suspect = exponent || integer_digits > 300;
    if suspect && Number(text.get(start..at).unwrap_or_default()).double().is_infinite() {
        return Err(Fault::TooBig.at(start));
    }
    Ok(at)
}

fn word(text: &[u8], start: usize, word: &[u8]) -> Result<usize, SyntaxError> {
    let matching =
        word.iter().zip(text.get(start..).unwrap_or_default()).take_while(|(a, b)| a == b).count();
    let end = start + matching;
    if matching == word.len() { Ok(end) } else { Err(Fault::Value.at(end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_the_nearest() {
        for text in [
            "0",
            "1",
            "0.1",
            "-2.5",
            "123456.789",
            "9007199254740993",
            "1e22",
            "1e23",
            "1e-7",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "0.30000000000000004",
            "0.000000000000000000000001",
            "123456789012345678901234567890",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(Number(text.as_bytes()).double().to_bits(), expected.to_bits(), "{text}");
        }
        assert!(Number(b"NaN").double().is_nan());
        assert!(Number(b"-NaN").double().is_nan());
        assert_eq!(Number(b"-Inf").double(), f64::NEG_INFINITY);
        assert_eq!(Number(b"Infinity").double(), f64::INFINITY);
    }

    #[test]
    fn zero_is_negative_only_with_a_point() {
        assert!(Number(b"-0").double().is_sign_positive());
        assert!(Number(b"-0.0").double().is_sign_negative());
        assert!(Number(b"-0e0").double().is_sign_negative());
    }

    #[test]
    fn an_integer_token_has_neither_point_nor_exponent() {
        assert_eq!(Number(b"-12").integer(), Some(-12));
        assert_eq!(Number(b"-0").integer(), Some(0));
        for text in ["1.0", "1e2", "NaN", "999999999999999999999999999999999999999999"] {
            assert_eq!(Number(text.as_bytes()).integer(), None, "{text}");
        }
    }

    #[test]
    fn a_long_number_is_read_at_once() {
        let text = "1".repeat(10_000_000);
        assert!(scan(text.as_bytes(), 0).is_err());
        let text = format!("0.{}", "1".repeat(10_000_000));
        assert_eq!(scan(text.as_bytes(), 0), Ok(text.len()));
    }
}
