//! Numbers for people.

/// `18.6 MB`, in powers of 1000.
pub(super) fn bytes(count: u64) -> String {
    scaled(count as f64, &[" B", " kB", " MB", " GB", " TB"])
}

/// `4.65 M`.
pub(super) fn count(count: u64) -> String {
    if count < 10_000 {
        return count.to_string();
    }
    scaled(count as f64, &["", " k", " M", " G", " T", " P"])
}

/// `12.3 µs`, `1.23 ms`.
pub(super) fn seconds(seconds: f64) -> String {
    scaled(seconds * 1e9, &[" ns", " µs", " ms", " s"])
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    let mut whole = true;
    for larger in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        whole = false;
        unit = larger;
    }
    let digits = if whole || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(18_611_200), "18.6 MB");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(count(9_999), "9999");
        assert_eq!(count(4_652_008), "4.65 M");
        assert_eq!(seconds(0.001_234), "1.23 ms");
        assert_eq!(seconds(12.3), "12.3 s");
        assert_eq!(seconds(99_999.0), "99999 s");
    }
}
