//! Kubernetes quantities (`128Mi`, `500m`), as far as a node needs them: resources in environment and volumes.

/// The value as a number; `None` for what is no quantity (apimachinery `resource.Quantity`).
pub fn parse(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

/// `value` in units of `divisor`, rounded up, as the downward API gives it.
pub fn divided(value: f64, divisor: Option<&str>) -> Option<String> {
    let divisor = match divisor {
        None | Some("" | "0") => 1.0,
        Some(text) => parse(text)?,
    };
    if divisor <= 0.0 {
        return None;
    }
    Some(format!("{:.0}", (value / divisor).ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_understood() {
        for (text, value) in [
            ("1", 1.0),
            ("500m", 0.5),
            ("128Mi", 134_217_728.0),
            ("1.5Gi", 1_610_612_736.0),
            ("2e3", 2000.0),
            ("1E", 1e18),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        for text in ["", "Mi", "1x", "1eMi"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn division_rounds_up() {
        assert_eq!(divided(0.5, None).as_deref(), Some("1"));
        assert_eq!(divided(0.5, Some("1m")).as_deref(), Some("500"));
        assert_eq!(divided(134_217_729.0, Some("1Mi")).as_deref(), Some("129"));
        assert_eq!(divided(1.0, Some("-1")), None);
    }
}
