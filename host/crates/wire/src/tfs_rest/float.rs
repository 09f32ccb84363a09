//! Floating-point numbers as TensorFlow Serving writes them: six significant digits
//! where they read back the same, else as many as every value needs.

use std::fmt::{Arguments, Write as _};

const SIX: usize = 6;

pub(super) fn write_f32(out: &mut Vec<u8>, value: f32) {
    if write_common(out, value).is_none() {
        write_any_f32(out, value);
    }
}

fn write_any_f32(out: &mut Vec<u8>, value: f32) {
    let forms =
        [format_args!("{value:e}"), format_args!("{value:.5e}"), format_args!("{value:.8e}")];
    let reads_back = |text: &str| text.parse() == Ok(value);
    write(out, value.into(), value.is_normal(), forms, 9, reads_back);
}

pub(super) fn write_f64(out: &mut Vec<u8>, value: f64) {
    let forms =
        [format_args!("{value:e}"), format_args!("{value:.5e}"), format_args!("{value:.16e}")];
    let reads_back = |text: &str| text.parse() == Ok(value);
    write(out, value, value.is_normal(), forms, 17, reads_back);
}

/// Writes what most outputs are, between 0.0001 and a million, ten times as fast as
/// formatting does: times such a power of ten a float is exact as a double.
fn write_common(out: &mut Vec<u8>, value: f32) -> Option<()> {
    const SCALES: [f64; 13] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];
    let size = f64::from(value.abs());
    // Times 10 to the power of this there are nine digits before the point.
    let scale = (3..=12).find(|&i| SCALES.get(i).is_some_and(|scale| size * scale >= 1e8))?;
    let nine = size * SCALES.get(scale)?;
    if nine >= 1e9 {
        return None;
    }
    let factor = SCALES.get(scale - 3)?;
    let six = size * factor;
    let distance = (six.round_ties_even() - six).abs();
    let half_gap = f64::from(value.abs().next_up() - value.abs()) / 2.0 * factor;
    let (digits, count) = if distance < half_gap / 2.0 {
        (six.round_ties_even(), SIX)
    } else if distance > half_gap {
        (nine.round_ties_even(), 9)
    } else {
        return None;
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e9")]
    let mut digits = digits as u32;
    let mut text = [b'0'; 9];
    let text = text.get_mut(..count)?;
    for place in text.iter_mut().rev() {
        *place = b'0' + u8::try_from(digits % 10).ok()?;
        digits /= 10;
    }
    if digits > 0 {
        return None;
    }
    let zeros = text.iter().rev().take_while(|digit| **digit == b'0').count();
    let digits = text.iter().copied().take(count - zeros);
    if value.is_sign_negative() {
        out.push(b'-');
    }
    match 8usize.checked_sub(scale) {
        Some(exponent) => fixed(out, digits, exponent),
        None => small(out, digits, scale - 8),
    }
    Some(())
}

/// Writes `value` from one of its forms: the shortest that reads back, six digits, or
/// `most` digits, each as `1.5e-7`.
fn write(
    out: &mut Vec<u8>,
    value: f64,
    normal: bool,
    [shortest, six, full]: [Arguments<'_>; 3],
    most: usize,
    reads_back: impl Fn(&str) -> bool,
) {
    if !value.is_finite() {
        let text: &[u8] = match value {
            f64::INFINITY => b"Infinity",
            f64::NEG_INFINITY => b"-Infinity",
            _ => b"NaN",
        };
        out.extend_from_slice(text);
        return;
    }
    let text = Text::new(shortest);
    if normal || value == 0.0 {
        // Of a normal number at most one decimal of six digits reads back, and so a
        // shortest form of so few is that one.
        if text.digits().count() <= SIX {
            text.lay_out(out, SIX);
        } else {
            Text::new(full).lay_out(out, most);
        }
        return;
    }
    let text = Text::new(six);
    if reads_back(text.as_str()) {
        text.lay_out(out, SIX);
    } else {
        Text::new(full).lay_out(out, most);
    }
}

/// A number in the form `-1.5e-7`.
struct Text {
    bytes: [u8; 32],
    length: usize,
}

impl Text {
    fn new(form: Arguments<'_>) -> Self {
        let mut text = Self { bytes: [0; 32], length: 0 };
        // At most 17 digits, a point, two signs and an exponent of three: it fits.
        let _ = text.write_fmt(form);
        text
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    fn split(&self) -> (&str, i32) {
        let (mantissa, exponent) = self.as_str().split_once('e').unwrap_or(("0", "0"));
        let mantissa = match mantissa.contains('.') {
            true => mantissa.trim_end_matches('0'),
            false => mantissa,
        };
        (mantissa, exponent.parse().unwrap_or(0))
    }

    /// The significant digits, without zeros at the end.
    fn digits(&self) -> impl Iterator<Item = u8> {
        self.split().0.bytes().filter(u8::is_ascii_digit)
    }

    /// As C's `%g` with a precision of `most`, and `.0` after what would look like
    /// an integer.
    fn lay_out(&self, out: &mut Vec<u8>, most: usize) {
        let (mantissa, exponent) = self.split();
        if mantissa.starts_with('-') {
            out.push(b'-');
        }
        let digits = self.digits();
        match usize::try_from(exponent) {
            Ok(exponent) if exponent < most => fixed(out, digits, exponent),
            Err(_) if exponent >= -4 => {
                small(out, digits, usize::try_from(exponent.unsigned_abs()).unwrap_or(0));
            }
            _ => scientific(out, digits, exponent),
        }
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        let end = self.length + piece.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// `exponent` digits after the first stand before the point.
fn fixed(out: &mut Vec<u8>, mut digits: impl Iterator<Item = u8>, exponent: usize) {
    for _ in 0..=exponent {
        out.push(digits.next().unwrap_or(b'0'));
    }
    out.push(b'.');
    out.push(digits.next().unwrap_or(b'0'));
    out.extend(digits);
}

/// The first digit is the `places`-th after the point.
fn small(out: &mut Vec<u8>, digits: impl Iterator<Item = u8>, places: usize) {
    out.extend_from_slice(b"0.");
    out.extend((1..places).map(|_| b'0'));
    out.extend(digits);
}

fn scientific(out: &mut Vec<u8>, mut digits: impl Iterator<Item = u8>, exponent: i32) {
    out.extend(digits.next());
    if let Some(second) = digits.next() {
        out.extend_from_slice(&[b'.', second]);
        out.extend(digits);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(value: f32) -> String {
        let mut out = Vec::new();
        write_f32(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    fn d(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_written_as_c_would() {
        let table = [
            (3.0, "3.0"),
            (0.1, "0.1"),
            (1.0 / 3.0, "0.333333343"),
            (9_000_000.0, "9e+06"),
            (16_777_216.0, "16777216.0"),
            (999_999.0, "999999.0"),
            (1_234_567.0, "1234567.0"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (0.00003, "3e-05"),
            (0.0001, "0.0001"),
            (-0.0, "-0.0"),
            (0.0, "0.0"),
            (-2.5, "-2.5"),
            (f32::MAX, "3.40282347e+38"),
            (f32::MIN_POSITIVE, "1.17549435e-38"),
            (f32::from_bits(1), "1.4013e-45"),
            (0.000_122_070_31, "0.000122070312"),
            (123.456, "123.456"),
            (10.0, "10.0"),
            (1e10, "1e+10"),
            (f32::NAN, "NaN"),
            (f32::INFINITY, "Infinity"),
            (f32::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in table {
            assert_eq!(f(value), expected);
        }
    }

    #[test]
    fn doubles_have_seventeen_digits_where_six_are_not_enough() {
        let table = [
            (1.0 / 3.0, "0.33333333333333331"),
            (0.1, "0.1"),
            (9_000_000.0, "9e+06"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::from_bits(1), "4.94066e-324"),
            (f64::from_bits(123_456_789), "6.0995758190771502e-316"),
            (1234.5678, "1234.5678"),
            (123_456_789.0, "123456789.0"),
        ];
        for (value, expected) in table {
            assert_eq!(d(value), expected);
        }
    }

    #[test]
    fn the_short_way_writes_what_the_long_way_does() {
        let (mut bits, mut short) = (7u32, 0);
        for _ in 0..300_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Most exponents near zero, and some numbers of few digits.
            let near = f32::from_bits(bits & 0x83ff_ffff | 0x3c00_0000);
            let few = (f32::from_bits(bits >> 4) * 1e3).round() / 1e3;
            for value in [f32::from_bits(bits), near, few, near * 1e4] {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                short += usize::from(write_common(&mut a, value).is_some());
                write_any_f32(&mut b, value);
                assert!(a.is_empty() || a == b, "{value:e}: {}", String::from_utf8_lossy(&a));
            }
        }
        assert!(short > 500_000, "{short}");
    }

    #[test]
    fn every_float_reads_back() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if value.is_finite() {
                assert_eq!(f(value).parse::<f32>().unwrap().to_bits(), bits, "{value:e}");
            }
        }
    }
}
