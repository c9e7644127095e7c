//! `matchConditions` of webhooks: expressions in CEL over the request, all of which must be true for the webhook to be
//! asked (`k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions`).

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::{Value, json};

/// Whether a text is an expression that can be evaluated here.
///
/// # Errors
/// Why it can't.
pub fn check(expression: &str) -> Result<(), String> {
    let program = Program::compile(expression).map_err(|error| format!("compilation failed: {error}"))?;
    if program.references().has_variable("authorizer") {
        return Err("compilation failed: this cluster has no `authorizer` for expressions".to_owned());
    }
    // Types are not checked here. What is found when the objects are empty is wrong of all others, too.
    let nothing = json!({});
    match program.execute(&context(&nothing, &nothing, &nothing)) {
        Ok(Cel::Bool(_)) => Ok(()),
        Ok(_) => Err("must evaluate to bool".to_owned()),
        Err(ExecutionError::UndeclaredReference(name)) => {
            Err(format!("compilation failed: undeclared reference to '{name}'"))
        }
        // Fields are missing.
        Err(_) => Ok(()),
    }
}

/// Whether all conditions hold for the `request` of an admission review. One that does not decides, whatever is wrong
/// with the others.
///
/// # Errors
/// What is wrong with those that could not be evaluated.
pub fn hold(conditions: &[Value], request: &Value) -> Result<bool, String> {
    let context = context(request, &request["object"], &request["oldObject"]);
    let mut errors = Vec::new();
    for condition in conditions {
        let expression = condition["expression"].as_str().unwrap_or_default();
        let result = match Program::compile(expression) {
            Ok(program) => program.execute(&context).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match result {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => return Ok(false),
            Ok(_) => errors.push(format!("expression '{expression}' did not evaluate to a bool")),
            Err(why) => errors.push(format!("expression '{expression}' resulted in error: {why}")),
        }
    }
    if errors.is_empty() { Ok(true) } else { Err(errors.join(", ")) }
}

fn context(request: &Value, object: &Value, old: &Value) -> Context<'static> {
    let mut context = Context::default().with_all();
    for (name, value) in [("request", request), ("object", object), ("oldObject", old)] {
        context.add_variable_from_value(name, to_cel(value));
    }
    context
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(yes) => Cel::Bool(*yes),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cel::Int(number),
            (None, Some(number)) => Cel::UInt(number),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (Key::String(Arc::new(name.clone())), to_cel(value)));
            Cel::Map(Map { map: Arc::new(fields.collect::<HashMap<_, _>>()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold_and_one_that_does_not_decides() {
        let request = json!({
            "operation": "UPDATE", "userInfo": {"username": "jane", "groups": ["a", "b"]},
            "object": {"metadata": {"labels": {"a.b/c-d": "x"}}, "spec": {"replicas": 3}}, "oldObject": null,
        });
        let hold = |expressions: &[&str]| {
            let conditions: Vec<Value> = expressions.iter().map(|text| json!({"expression": text})).collect();
            hold(&conditions, &request)
        };
        for expression in [
            "object.metadata.labels['a.b/c-d'] == 'x'",
            "oldObject == null",
            "request.operation in ['CREATE', 'UPDATE']",
            "object.spec.replicas > 2 && !has(object.spec.paused)",
            "request.userInfo.groups.exists(group, group == 'b')",
        ] {
            assert_eq!(hold(&[expression]), Ok(true), "{expression}");
        }
        assert_eq!(hold(&["true", "request.operation == 'DELETE'"]), Ok(false));
        assert_eq!(hold(&["object.spec.absent == 1", "false"]), Ok(false));
        assert!(hold(&["true", "object.spec.absent == 1"]).is_err());
        assert!(hold(&["'yes'"]).is_err());
    }

    #[test]
    fn what_cannot_be_evaluated_here_is_found_before() {
        assert_eq!(check("object.metadata.name != ''"), Ok(()));
        assert_eq!(check("oldObject == null || has(object.spec) && request.operation in ['CREATE']"), Ok(()));
        assert_eq!(check("request.userInfo.groups.exists(group, group == 'b')"), Ok(()));
        assert!(check("object.metadata.name !=").is_err());
        for (unknown, name) in [
            ("objekt.metadata.name != ''", "objekt"),
            ("has(object.spec) || operation == 'CREATE'", "operation"),
            ("object.metadata.name.beginsWith('a')", "beginsWith"),
        ] {
            assert_eq!(check(unknown), Err(format!("compilation failed: undeclared reference to '{name}'")));
        }
        for text in ["'yes'", "1 + 1", "object"] {
            assert_eq!(check(text), Err("must evaluate to bool".to_owned()), "{text}");
        }
        assert!(check("authorizer.group('').resource('pods').check('get').allowed()").is_err());
    }
}
