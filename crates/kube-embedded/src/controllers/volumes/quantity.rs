//! Sizes as Kubernetes writes them (`apimachinery/pkg/api/resource`): `10Gi`, `1e9`, `1500m`.

/// The number of bytes, rounded up; `None` for what is not a quantity or too large.
pub fn bytes(text: &str) -> Option<u128> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let power = |list: &[&str]| list.iter().position(|one| *one == suffix).and_then(|at| u32::try_from(at + 1).ok());
    let (numerator, denominator) = if suffix.is_empty() {
        (1, 1)
    } else if let Some(power) = power(&BINARY) {
        (1024_u128.checked_pow(power)?, 1)
    } else if let Some(power) = power(&DECIMAL) {
        (1000_u128.checked_pow(power)?, 1)
    } else if let Some(power) = ["m", "u", "n"].iter().position(|one| *one == suffix) {
        (1, 1000_u128.checked_pow(u32::try_from(power + 1).ok()?)?)
    } else {
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let factor = 10_u128.checked_pow(exponent.unsigned_abs())?;
        if exponent < 0 { (1, factor) } else { (factor, 1) }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits.checked_mul(numerator)?.div_ceil(scale.checked_mul(denominator)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1Ki", Some(1024)),
            ("1.5Gi", Some(1_610_612_736)),
            ("10G", Some(10_000_000_000)),
            ("1e3", Some(1000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1500m", Some(2)),
            (".5Ki", Some(512)),
            ("", None),
            ("Gi", None),
            ("1Zi", None),
            ("-1", None),
            ("1.2.3", None),
            ("1e99", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
