//! Resource quantities (`k8s.io/apimachinery/pkg/api/resource`): `500m`, `1.5Gi`, `2e3`.

const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// The suffixes of the powers of a thousand, from 10⁻⁹.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// The amount in thousandths of a unit, rounded up, or the greatest number; `None` for what is no quantity.
pub fn milli(text: &str) -> Option<i128> {
    amount(text, 1000)
}

/// The form in which Kubernetes stores a quantity: without a fraction, with the largest suffix of its family that needs
/// none. `None` for what is no quantity, or too large to be held exactly.
pub fn canonical(text: &str) -> Option<String> {
    let nano = amount(text, NANO).filter(|nano| nano.abs() < i128::MAX)?;
    if nano == 0 {
        return Some("0".to_owned());
    }
    let suffix = text.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    if suffix.ends_with('i') && nano.abs() >= 1024 * NANO && nano % NANO == 0 {
        let (number, step) = reduced(nano / NANO, 1024, BINARY.len() - 1);
        return Some(format!("{number}{}", BINARY[step]));
    }
    let is_exponent = suffix.starts_with(['e', 'E']) && suffix[1..].parse::<i32>().is_ok();
    // There is a largest suffix, and no largest exponent.
    let (number, step) = reduced(nano, 1000, if is_exponent { usize::MAX } else { DECIMAL.len() - 1 });
    let power = 3 * step as i32 - 9;
    Some(if is_exponent && power != 0 { format!("{number}e{power}") } else { format!("{number}{}", DECIMAL[step]) })
}

/// Divides a number as long as nothing is left over, and says how often.
fn reduced(mut number: i128, by: i128, most: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < most && number % by == 0 {
        number /= by;
        steps += 1;
    }
    (number, steps)
}

/// The amount in this part of a unit, rounded up, or the greatest number.
fn amount(text: &str, per_unit: i128) -> Option<i128> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 20 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (factor, divisor) = multiplier(suffix)?;
    let amount = match digits.checked_mul(factor).and_then(|product| product.checked_mul(per_unit)) {
        Some(product) => (product + scale * divisor - 1).div_euclid(scale * divisor),
        None => i128::MAX,
    };
    Some(if text.starts_with('-') { -amount } else { amount })
}

fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = exponent.unsigned_abs();
            if exponent < 0 { (1, 10_i128.pow(power.min(18))) } else { (10_i128.saturating_pow(power), 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{canonical, milli};

    #[test]
    fn quantities_are_read_with_every_suffix() {
        for (text, wanted) in [
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("2e3", 2_000_000),
            ("1k", 1_000_000),
            ("-1", -1000),
            ("1n", 1),
            (".5", 500),
            ("1Ki", 1_024_000),
            (".5Ki", 512_000),
            ("128Mi", 134_217_728_000),
            ("10G", 10_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1500m", 1500),
            ("1e30", 10_i128.pow(33)),
            ("-1e40", -i128::MAX),
            ("0e40", 0),
        ] {
            assert_eq!(milli(text), Some(wanted), "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "--1", "Gi", "1 Gi", "1gi", "0x10", "1Zi", "Mi", "1eMi"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quantity_has_one_form_in_its_family() {
        for (text, wanted) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1024", "1024"),
            ("1000000", "1M"),
            ("0.1m", "100u"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000Mi", "1000Mi"),
            ("0.3125Gi", "320Mi"),
            ("0.5Ki", "512"),
            ("-2048Ki", "-2Mi"),
            ("8Ei", "8Ei"),
            ("1E", "1E"),
            ("2e3", "2e3"),
            ("1500e-3", "1500e-3"),
            ("2E0", "2"),
            ("1e20", "100e18"),
            ("10e20", "1e21"),
            ("1000E", "1000E"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(wanted), "{text}");
            assert_eq!(canonical(wanted).as_deref(), Some(wanted), "{wanted}");
        }
        for other in ["1Zi", "1e30", "-1e30", "1e40"] {
            assert_eq!(canonical(other), None, "{other}");
        }
    }
}
