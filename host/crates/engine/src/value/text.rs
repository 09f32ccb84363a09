//! Numbers as text, and text as numbers, as ONNX's Cast converts them.

use bytes::Bytes;
use ingle_types::DType;

use super::host::is_float;
use super::{Host, HostData};
use crate::OpError;

impl Host {
    /// Numbers as decimal text; floats with at most eight digits, as in ONNX Runtime.
    pub(super) fn written(&self) -> Self {
        let text = match self.data() {
            HostData::Int(values) if self.is_plain() => {
                values.iter().map(|v| Bytes::from(v.to_string())).collect()
            }
            HostData::Int(values) => {
                values.iter().map(|&v| Bytes::from((v as u64).to_string())).collect()
            }
            HostData::Float(values) => values.iter().map(|&v| Bytes::from(written(v))).collect(),
            HostData::Text(values) => values.clone(),
        };
        Self::text(self.dims().to_vec(), text)
    }

    /// The numbers that text spells.
    pub(super) fn parsed(&self, dtype: DType) -> Result<Self, OpError> {
        let (HostData::Text(values), dims) = (self.data(), self.dims().to_vec()) else {
            return Ok(self.cast(dtype));
        };
        if is_float(dtype) {
            let values = values.iter().map(float).collect::<Result<_, _>>()?;
            return Ok(Self::floats(dtype, dims, values));
        }
        let number = |text: &str| match dtype {
            DType::U64 => text.parse().ok().map(|v: u64| v as i64),
            _ => text.parse().ok(),
        };
        let whole = |text: &Bytes| {
            let number = std::str::from_utf8(text).ok().and_then(|t| number(t.trim()));
            number.map_or_else(|| finite(text).map(|v| v as i64), Ok)
        };
        let values = values.iter().map(whole).collect::<Result<_, _>>()?;
        Ok(Self::ints(dtype, dims, values))
    }
}

fn float(text: &Bytes) -> Result<f64, OpError> {
    let number = std::str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok());
    number.ok_or_else(|| OpError::text(text, "a number"))
}

fn finite(text: &Bytes) -> Result<f64, OpError> {
    let number = float(text)?;
    if number.is_finite() { Ok(number) } else { Err(OpError::text(text, "a number")) }
}

/// What C prints with `%.8g`.
fn written(v: f64) -> String {
    const DIGITS: i32 = 8;
    if !v.is_finite() {
        return if v.is_nan() {
            "NaN"
        } else if v > 0. {
            "INF"
        } else {
            "-INF"
        }
        .to_owned();
    }
    let scientific = format!("{v:.*e}", DIGITS as usize - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        let places = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
        return trimmed(&format!("{v:.places$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.unsigned_abs())
}

/// Without the zeros behind a decimal point.
fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_with_eight_digits() {
        for (v, text) in [
            (1.5, "1.5"),
            (-0., "-0"),
            (1e10, "1e+10"),
            (f64::from(1e-5f32), "9.9999997e-06"),
            (f64::from(0.1f32), "0.1"),
            (1e9, "1e+09"),
            (123_456_789., "1.2345679e+08"),
            (16_777_216., "16777216"),
            (1. / 3., "0.33333333"),
            (0.0001, "0.0001"),
            (99_999_999.9, "1e+08"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-INF"),
        ] {
            assert_eq!(written(v), text);
        }
    }

    #[test]
    fn text_is_read_as_numbers() {
        let read = |text: &'static str, dtype| {
            Host::text(vec![1], vec![Bytes::from_static(text.as_bytes())]).parsed(dtype)
        };
        let floats = |text| read(text, DType::F32).map(|host| host.to_f64()[0]);
        assert_eq!(floats(" -1e3 ").unwrap(), -1000.);
        assert_eq!(floats("INF").unwrap(), f64::INFINITY);
        assert!(floats("NaN").unwrap().is_nan());
        let ints = |text, dtype| read(text, dtype).map(|host| host.as_ints().unwrap()[0]);
        assert_eq!(ints("9007199254740993", DType::I64).unwrap(), 9_007_199_254_740_993);
        assert_eq!(ints("1.9", DType::I32).unwrap(), 1);
        assert_eq!(ints("300", DType::U8).unwrap(), 44);
        assert_eq!(ints("2", DType::Bool).unwrap(), 1);
        let most = read("18446744073709551615", DType::U64).unwrap();
        assert_eq!(most.written(), Host::text(vec![1], vec!["18446744073709551615".into()]));
        for text in ["", "abc", "1_0"] {
            assert!(floats(text).is_err() && ints(text, DType::I64).is_err(), "{text}");
        }
        assert!(ints("NaN", DType::I64).is_err());
    }
}
