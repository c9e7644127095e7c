//! Kubernetes quantities: read as the custom resources allow them (an integer or a string), compared, and written in
//! the canonical form that an API server gives them in built-in kinds.
//!
//! Source of the grammar and of the canonical form: apimachinery `pkg/api/resource/quantity.go`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The pattern which CRDs use for quantities.
pub const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
/// Suffix and its power of ten, smallest first. `n` is the resolution of a quantity.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// A quantity as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantity(pub String);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

impl Quantity {
    /// The value in whole units, rounded up. `None` if the text is no quantity.
    pub fn value(&self) -> Option<i128> {
        let (nano, _) = self.parse()?;
        Some(nano.div_euclid(NANO) + i128::from(nano.rem_euclid(NANO) != 0))
    }

    /// The value in nano units, for comparing. `None` if the text is no quantity.
    pub fn nano(&self) -> Option<i128> {
        self.parse().map(|(nano, _)| nano)
    }

    /// The form an API server writes: no fraction, the largest suffix that needs none. What is no quantity stays.
    pub fn canonical(&self) -> String {
        let Some((nano, format)) = self.parse() else { return self.0.clone() };
        if nano == 0 {
            return "0".into();
        }
        match format {
            Format::Binary if nano.abs() >= 1024 * NANO && nano % NANO == 0 => {
                let value = nano / NANO;
                let (suffix, shift) =
                    BINARY.iter().rev().find(|(_, shift)| value % (1i128 << shift) == 0).copied().unwrap_or(("", 0));
                format!("{}{suffix}", value >> shift)
            }
            Format::Exponent => {
                let (digits, power) = largest_power(nano);
                if power == 0 { digits.to_string() } else { format!("{digits}e{power}") }
            }
            Format::Binary | Format::Decimal => {
                let (digits, power) = largest_power(nano);
                let suffix = DECIMAL.iter().find(|(_, p)| *p == power).map_or("", |(suffix, _)| suffix);
                format!("{digits}{suffix}")
            }
        }
    }

    fn parse(&self) -> Option<(i128, Format)> {
        let text = self.0.as_str();
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let (multiplier, power, format) = suffix_value(suffix)?;
        // digits * 10^(power - len(fraction)) * multiplier, in nano.
        let digits: i128 = if whole.len() + fraction.len() > 27 { return None } else { parse_digits(whole, fraction)? };
        let exponent = power - i32::try_from(fraction.len()).ok()? + 9;
        let scaled = digits.checked_mul(multiplier)?;
        let nano = if exponent >= 0 {
            scaled.checked_mul(10i128.checked_pow(u32::try_from(exponent).ok()?)?)?
        } else {
            // Below a nano everything is rounded up, as Kubernetes does.
            let divisor = 10i128.checked_pow(exponent.unsigned_abs())?;
            scaled / divisor + i128::from(scaled % divisor != 0)
        };
        Some((if negative { -nano } else { nano }, format))
    }
}

fn parse_digits(whole: &str, fraction: &str) -> Option<i128> {
    format!("0{whole}{fraction}").parse().ok()
}

/// Multiplier, power of ten and family of a suffix.
fn suffix_value(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((1 << shift, 0, Format::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((1, *power, Format::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    (-27..=18).contains(&exponent).then_some((1, exponent, Format::Exponent))
}

/// The value as digits and the largest power of ten (a multiple of three) that divides it.
fn largest_power(nano: i128) -> (i128, i32) {
    let (mut digits, mut power) = (nano, -9);
    while digits % 1000 == 0 && power < 18 {
        digits /= 1000;
        power += 3;
    }
    (digits, power)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: &Quantity) -> Self {
        Self(quantity.canonical())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity: an integer or a string")
            }
            fn visit_i64<E>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Quantity, E> {
                Ok(Quantity(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Quantity, E> {
                Ok(Quantity(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_form_is_the_one_of_the_api_server() {
        for (written, canonical) in [
            ("0.5Gi", "512Mi"),
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("2000M", "2G"),
            ("200m", "200m"),
            ("0.2", "200m"),
            ("2", "2"),
            ("1.5Gi", "1536Mi"),
            ("1000m", "1"),
            ("42Gi", "42Gi"),
            ("3k", "3k"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("512", "512"),
            ("-1Gi", "-1Gi"),
        ] {
            assert_eq!(Quantity::from(written).canonical(), canonical, "{written}");
        }
    }

    #[test]
    fn nonsense_has_no_value() {
        for text in ["", "Gi", "1.2.3", "1 Gi", "1gi", "x", "--1", ".", "1e", "1e99"] {
            assert_eq!(Quantity::from(text).value(), None, "{text:?}");
        }
    }

    #[test]
    fn an_integer_is_a_quantity_too() {
        let quantity: Quantity = serde_json::from_str("5368709120").expect("an integer");
        assert_eq!(quantity.value(), Some(5 << 30));
    }

    proptest! {
        #[test]
        fn the_canonical_form_has_the_same_value(number in 0u64..1 << 40, suffix in 0usize..16) {
            let suffixes: Vec<&str> =
                BINARY.iter().map(|(s, _)| *s).chain(DECIMAL.iter().map(|(s, _)| *s)).collect();
            let quantity = Quantity(format!("{number}{}", suffixes[suffix]));
            let canonical = Quantity(quantity.canonical());
            prop_assert_eq!(quantity.nano(), canonical.nano());
            prop_assert_eq!(canonical.canonical(), canonical.0.clone());
        }
    }
}
