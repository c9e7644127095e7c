//! Resource quantities (`k8s.io/apimachinery/pkg/api/resource`): `500m`, `1.5Gi`, `2e3`.

/// The amount in thousandths of a unit, rounded up; `None` for what is no quantity.
pub fn milli(text: &str) -> Option<i128> {
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
    let product = digits.checked_mul(factor)?.checked_mul(1000)?;
    let amount = (product + scale * divisor - 1).div_euclid(scale * divisor);
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
            let power = 10_i128.checked_pow(exponent.unsigned_abs().min(18))?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::milli;

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
        ] {
            assert_eq!(milli(text), Some(wanted), "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "--1", "Gi", "1 Gi", "1gi", "0x10", "1Zi", "Mi", "1eMi"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }
}
