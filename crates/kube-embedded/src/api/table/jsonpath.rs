//! The part of JSONPath that printer columns use: fields, indexes, wildcards, and filters by equality.

use serde_json::Value;

/// Everything that `path` (as `.status.conditions[?(@.type=="Ready")].status`) finds in `value`.
pub fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    while !rest.is_empty() && !found.is_empty() {
        let Some((step, tail)) = step(rest) else { return Vec::new() };
        rest = tail;
        found = found.into_iter().flat_map(|value| step.apply(value)).collect();
    }
    found
}

/// A value as it is printed: strings without quotes.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

enum Step {
    Field(String),
    Index(i64),
    All,
    Where { path: String, equals: bool, value: String },
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let index = if *index < 0 { length + index } else { *index };
                usize::try_from(index).ok().and_then(|index| items.get(index)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Where { path, equals, value: wanted }, Value::Array(items)) => items
                .iter()
                .filter(|item| find(item, path).first().is_some_and(|found| text(found) == *wanted) == *equals)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The first step of a path and what follows it.
fn step(path: &str) -> Option<(Step, &str)> {
    if let Some(rest) = path.strip_prefix('[') {
        let end = closing(rest)?;
        let (inside, rest) = (rest[..end].trim(), &rest[end + 1..]);
        let step = if inside == "*" {
            Step::All
        } else if let Some(condition) = inside.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
            let (equals, (left, right)) = match condition.split_once("!=") {
                Some(sides) => (false, sides),
                None => (true, condition.split_once("==")?),
            };
            let value = right.trim().trim_matches(['"', '\'']).to_owned();
            Step::Where { path: left.trim().trim_start_matches('@').to_owned(), equals, value }
        } else if let Ok(index) = inside.parse() {
            Step::Index(index)
        } else {
            Step::Field(inside.trim_matches(['"', '\'']).to_owned())
        };
        return Some((step, rest));
    }
    let rest = path.strip_prefix('.').unwrap_or(path);
    if let Some(rest) = rest.strip_prefix('*') {
        return Some((Step::All, rest));
    }
    let mut name = String::new();
    let mut characters = rest.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (!name.is_empty() || character == '[').then(|| (field(name), &rest[index..])),
            other => name.push(other),
        }
    }
    Some((field(name), ""))
}

fn field(name: String) -> Step {
    Step::Field(name)
}

/// The bracket that closes what was opened, quotes aside.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), other) if open == other => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns_are_found() {
        let object = json!({
            "metadata": {"labels": {"a8s.a9s/role": "master"}},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}], "n": [1, 2]},
        });
        let shown = |path: &str| find(&object, path).into_iter().map(text).collect::<Vec<_>>();
        assert_eq!(shown(r#".status.conditions[?(@.type=="Ready")].status"#), ["True"]);
        assert_eq!(shown(r".metadata.labels.a8s\.a9s/role"), ["master"]);
        assert_eq!(shown(".metadata.labels['a8s.a9s/role']"), ["master"]);
        assert_eq!(shown(".status.n[*]"), ["1", "2"]);
        assert_eq!(shown("{.status.n[-1]}"), ["2"]);
        assert!(shown(".status.missing.deeper").is_empty());
    }
}
