//! Quantities are stored in their canonical form: Go's types write no other, so an object that one of them has read and
//! writes back would else be a changed one.

use serde_json::Value;

use crate::quantity;

/// The fields whose members are quantities.
const AMOUNTS: [&str; 6] = ["allocatable", "allocatedResources", "capacity", "limits", "overhead", "requests"];

/// Gives all quantities in a spec or status (of a pod, a StatefulSet, a claim, a volume, a node) that form. What is no
/// quantity, or too large to be held exactly, stays.
pub fn canonicalize(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field) {
                    (name, Value::Object(amounts)) if AMOUNTS.contains(&name) => {
                        amounts.values_mut().for_each(rewrite);
                    }
                    ("emptyDir", Value::Object(source)) => source.get_mut("sizeLimit").into_iter().for_each(rewrite),
                    ("resourceFieldRef", Value::Object(reference)) => {
                        reference.get_mut("divisor").into_iter().for_each(rewrite);
                    }
                    (_, field) => canonicalize(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(canonicalize),
        _ => {}
    }
}

fn rewrite(amount: &mut Value) {
    if let Some(canonical) = amount.as_str().and_then(quantity::canonical) {
        *amount = canonical.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_quantities_are_written_anew() {
        let spec = |amount: &str| {
            json!({
                "nodeSelector": {"limits": "1024Mi", "divisor": "1000m"},
                "containers": [{
                    "resources": {"limits": {"memory": amount}, "requests": {"memory": amount, "cpu": "none"}},
                    "env": [{"value": "1024Mi", "valueFrom": {"resourceFieldRef": {"divisor": amount}}}],
                }],
                "volumes": [{"emptyDir": {"sizeLimit": amount}}, {"csi": {"volumeAttributes": {"capacity": "1024Mi"}}}],
            })
        };
        let mut written = spec("1024Mi");
        canonicalize(&mut written);
        assert_eq!(written, spec("1Gi"));
        let mut too_large = spec("1e30");
        canonicalize(&mut too_large);
        assert_eq!(too_large, spec("1e30"));
    }
}
