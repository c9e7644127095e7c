//! The JSON schema of playbooks, made from the parser of the command line.

use clap::{Arg, ArgAction, Command};
use serde_json::{Map, Value, json};

use super::playbook::{commands, name_of};

/// What stands for the value of a flag.
const ANYTHING: [&str; 3] = ["string", "number", "boolean"];

/// The schema.
pub fn of_playbooks() -> Value {
    let commands = commands();
    let steps: Vec<Value> = commands.iter().map(|(name, command)| step(name, command)).collect();
    // What a flag means may differ between steps.
    let flags = commands.iter().flat_map(|(_, command)| arguments(command));
    let defaults: Map<String, Value> = flags.map(|(name, _)| (name.to_owned(), json!({"type": ANYTHING}))).collect();
    let list = json!({"type": "array", "items": {"$ref": "#/$defs/step"}});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Playbook of a9s",
        "type": "object",
        "required": ["name", "steps"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string"},
            "description": {"type": "string"},
            "defaults": {
                "type": ["object", "null"], "description": "Flags for every step that has them and does not say otherwise.",
                "properties": defaults, "additionalProperties": false,
            },
            "before": {"description": "Run once, first.", "allOf": [list]},
            "steps": {"minItems": 1, "description": "Run once, or as often as --repeat or --for say. {round} in a value is the number of the round, from 1.", "allOf": [list]},
            "after": {"description": "Run once, when all that has been done.", "allOf": [list]},
        },
        "$defs": {"step": {"description": "A command with its flags.", "oneOf": steps}},
    })
}

fn arguments(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|argument| Some((name_of(argument)?, argument)))
}

/// What a flag must have may stand among the defaults, so no step alone can be said to lack it: the program says that.
fn step(name: &str, command: &Command) -> Value {
    let properties: Map<String, Value> =
        arguments(command).map(|(name, argument)| (name.to_owned(), property(argument))).collect();
    let flags = json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false});
    json!({
        "type": "object",
        "description": command.get_about().map(ToString::to_string).unwrap_or_default(),
        "properties": {name: flags}, "required": [name], "additionalProperties": false,
    })
}

fn types(argument: &Arg) -> Value {
    match argument.get_action() {
        ArgAction::SetTrue => json!("boolean"),
        _ => json!(ANYTHING),
    }
}

fn property(argument: &Arg) -> Value {
    let mut property = json!({"type": types(argument)});
    if let Some(help) = argument.get_help() {
        property["description"] = json!(help.to_string());
    }
    let values: Vec<String> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !values.is_empty() && !matches!(argument.get_action(), ArgAction::SetTrue) {
        // Where case does not matter, there are more of them than can be listed.
        let these = if argument.is_ignore_case_set() { "examples" } else { "enum" };
        property[these] = json!(values);
    }
    if let [default] = argument.get_default_values()
        && !matches!(argument.get_action(), ArgAction::SetTrue)
    {
        property["default"] = json!(default.to_string_lossy());
    }
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_as_reviewed() {
        insta::with_settings!({snapshot_path => "../../../snapshots/playbooks", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("schema", serde_json::to_string_pretty(&of_playbooks()).unwrap());
        });
    }
}
