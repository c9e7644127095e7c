//! Where two runs differ: the embedded cluster and a real one, yesterday and today.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::accepted::Entry;
use super::normalise::Names;
use super::results::{Outcome, Results, Scenario};

/// Differences of one scenario that are listed; the rest is counted.
const SHOWN: usize = 20;

/// What is said of a comparison with a part of a run.
pub const CUT_OFF: &str = "a run was cut off: what it did not come to was not compared";

/// What the runs as wholes are called where scenarios have their names.
const RUN: &str = "the run";

/// All differences.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Scenarios that ran in both.
    pub common: usize,
    /// Scenarios of the first run only.
    pub only_in_one: Vec<String>,
    /// Scenarios of the second run only.
    pub only_in_other: Vec<String>,
    /// Scenarios that ran in one of the runs and could not in the other.
    pub not_comparable: Vec<String>,
    /// Scenarios that ran in both, and whose objects and events nobody could see in one of the runs.
    pub unseen: Vec<String>,
    /// Scenarios that ended otherwise, or left something else to be seen.
    pub different: BTreeMap<String, Vec<Difference>>,
    /// What differs in the runs as wholes: how they ended, and what failed besides scenarios.
    pub run: Vec<Difference>,
    /// Whether a run was cut off: then the other scenarios were not compared.
    pub cut_off: bool,
    /// Differences that are accepted, and listed nowhere else.
    pub accepted_differences: usize,
    /// What the entries of the lists were good for.
    pub accepted: Vec<Accepted>,
}

/// What an entry of a list of accepted differences was good for.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// File and line of the entry.
    pub place: String,
    /// Why they are accepted.
    pub reason: String,
    /// Differences that it accepts.
    pub differences: usize,
    /// The scenarios that they are in.
    pub scenarios: BTreeSet<String>,
    /// Whether any scenario that it is about ran in both.
    pub compared: bool,
    /// Whether it accepts what is not there any more.
    pub stale: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// `verdict`, `message`, or the path of an observation, or of what a run says of itself.
    pub what: String,
    /// In the first run.
    pub one: String,
    /// In the second.
    pub other: String,
}

/// Entries with what they were good for so far.
struct Lists<'a>(Vec<(&'a Entry, Accepted)>);

impl<'a> Lists<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        let unused = |entry: &Entry| Accepted {
            place: entry.place.clone(),
            reason: entry.reason.clone(),
            differences: 0,
            scenarios: BTreeSet::new(),
            compared: false,
            stale: false,
        };
        Self(entries.iter().map(|entry| (entry, unused(entry))).collect())
    }

    /// Takes the accepted ones out of what differs in a scenario, and says how many.
    fn take(&mut self, id: &str, found: &mut Vec<Difference>) -> usize {
        let before = found.len();
        for (_, accepted) in self.0.iter_mut().filter(|(entry, _)| entry.is_about(id)) {
            accepted.compared = true;
        }
        found.retain(|difference| {
            // One that several entries accept counts for each: none of them is stale.
            let mut is_accepted = false;
            for (_, accepted) in self.0.iter_mut().filter(|(entry, _)| entry.accepts(id, difference)) {
                is_accepted = true;
                accepted.differences += 1;
                accepted.scenarios.insert(id.to_owned());
            }
            !is_accepted
        });
        before - found.len()
    }

    fn end(self) -> Vec<Accepted> {
        let judged = self.0.into_iter().map(|(entry, accepted)| Accepted {
            stale: accepted.compared && accepted.differences == 0 && !entry.sometimes,
            ..accepted
        });
        judged.collect()
    }
}

/// Compares, but for what is accepted.
pub fn compare(one: &Results, other: &Results, accepted: &[Entry]) -> Comparison {
    let of = |results: &Results| -> BTreeMap<String, Scenario> {
        results.scenarios.iter().map(|scenario| (scenario.id.clone(), scenario.clone())).collect()
    };
    let (left, right) = (of(one), of(other));
    let cut_off = one.is_partial() || other.is_partial();
    let mut comparison = Comparison { cut_off, ..Comparison::default() };
    let mut lists = Lists::new(accepted);
    for (id, mine) in &left {
        let Some(theirs) = right.get(id) else {
            comparison.only_in_one.push(id.clone());
            continue;
        };
        let ran = |scenario: &Scenario| !matches!(scenario.outcome, Outcome::Skipped | Outcome::NotRun);
        match (mine.outcome, theirs.outcome) {
            _ if !ran(mine) && !ran(theirs) => {}
            (Outcome::Skipped, _) | (_, Outcome::Skipped) => comparison.not_comparable.push(id.clone()),
            _ => {
                comparison.common += 1;
                if is_unseen(mine) || is_unseen(theirs) {
                    comparison.unseen.push(id.clone());
                }
                let mut found = differences(mine, theirs);
                comparison.accepted_differences += lists.take(id, &mut found);
                if !found.is_empty() {
                    comparison.different.insert(id.clone(), found);
                }
            }
        }
    }
    comparison.only_in_other = right.into_keys().filter(|id| !left.contains_key(id)).collect();
    walk("", &ended(one), &ended(other), &mut comparison.run);
    comparison.accepted_differences += lists.take(RUN, &mut comparison.run);
    comparison.accepted = lists.end();
    comparison
}

/// How a run ended, without its scenarios.
fn ended(results: &Results) -> Value {
    let problems: Vec<String> = results.problems.iter().map(|problem| Names::default().text(problem)).collect();
    json!({"verdict": results.verdict.text(), "problems": problems})
}

/// What is there at the end of a scenario, as its observations have it.
const AT_THE_END: [&str; 2] = ["objects", "events"];

/// Whether nobody could see in time what was there at its end.
fn is_unseen(scenario: &Scenario) -> bool {
    AT_THE_END.iter().any(|what| scenario.observations.get(what).is_some_and(Value::is_null))
}

fn differences(one: &Scenario, other: &Scenario) -> Vec<Difference> {
    let mut found = Vec::new();
    if one.outcome != other.outcome {
        let text = |scenario: &Scenario| scenario.outcome.text().to_owned();
        found.push(Difference { what: "verdict".to_owned(), one: text(one), other: text(other) });
    }
    // Of one that had no turn there is nothing else to be said.
    if one.outcome == Outcome::NotRun || other.outcome == Outcome::NotRun {
        return found;
    }
    let (mine, theirs) = (Names::default().text(&one.message), Names::default().text(&other.message));
    if mine != theirs {
        found.push(Difference { what: "message".to_owned(), one: mine, other: theirs });
    }
    // Reports of other versions may have been normalised otherwise.
    let mut observed = [one, other].map(|scenario| Names::default().texts(scenario.observations.clone()));
    if is_unseen(one) || is_unseen(other) {
        for observations in observed.iter_mut().filter_map(Value::as_object_mut) {
            observations.retain(|what, _| !AT_THE_END.contains(&what.as_str()));
        }
    }
    walk("", &observed[0], &observed[1], &mut found);
    found
}

fn walk(path: &str, one: &Value, other: &Value, found: &mut Vec<Difference>) {
    match (one, other) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                walk(&format!("{path}/{key}"), &of(left), &of(right), found);
            }
        }
        // Objects at one place in both are taken for the same.
        (Value::Array(left), Value::Array(right))
            if left.len() == right.len()
                && left.iter().chain(right).any(|value| value.is_object() || value.is_array()) =>
        {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                walk(&format!("{path}/{index}"), left, right, found);
            }
        }
        // What both have, wherever in them it is, is no difference, unless it is all of them.
        (Value::Array(left), Value::Array(right)) => {
            let before = found.len();
            let mut differ = |one: &Value, other: &Value| {
                found.push(Difference { what: path.to_owned(), one: text(one), other: text(other) });
            };
            without(left, right).for_each(|value| differ(value, &Value::Null));
            without(right, left).for_each(|value| differ(&Value::Null, value));
            if found.len() == before && left != right {
                found.push(Difference { what: path.to_owned(), one: text(one), other: text(other) });
            }
        }
        (left, right) if left == right => {}
        (left, right) => found.push(Difference { what: path.to_owned(), one: text(left), other: text(right) }),
    }
}

/// What a list has and another one has not, each as often.
fn without<'a>(list: &'a [Value], other: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let mut rest: Vec<&Value> = other.iter().collect();
    list.iter().filter(move |value| match rest.iter().position(|it| it == value) {
        Some(index) => {
            rest.swap_remove(index);
            false
        }
        None => true,
    })
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Comparison {
    /// Scenarios that differ, those that only one of the runs has included. What could not run in one of them differs
    /// in nothing that could be seen.
    pub fn differences(&self) -> usize {
        self.different.len() + self.only_in_one.len() + self.only_in_other.len()
    }

    /// Entries of lists that accept what is not there any more.
    pub fn stale(&self) -> usize {
        self.accepted.iter().filter(|accepted| accepted.stale).count()
    }

    /// In words.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let of_run = (RUN, &self.run);
        let of_scenarios = self.different.iter().map(|(id, differences)| (id.as_str(), differences));
        for (id, differences) in [of_run].into_iter().filter(|(_, found)| !found.is_empty()).chain(of_scenarios) {
            text.push_str(&format!("{id}\n"));
            for difference in differences.iter().take(SHOWN) {
                text.push_str(&format!("  {}\n", difference.what));
                let begin = begin(&difference.one, &difference.other);
                for (sign, side) in [('-', &difference.one), ('+', &difference.other)] {
                    for line in clipped(side, begin).lines() {
                        text.push_str(&format!("    {sign} {line}\n"));
                    }
                }
            }
            if differences.len() > SHOWN {
                text.push_str(&format!("  … and {} more\n", differences.len() - SHOWN));
            }
        }
        for (ids, words) in [
            (&self.only_in_one, "only in the first run"),
            (&self.only_in_other, "only in the second run"),
            (&self.not_comparable, "could run in one of them only"),
            (&self.unseen, "its objects and events could not be seen in both"),
        ] {
            for id in ids {
                text.push_str(&format!("{id}: {words}\n"));
            }
        }
        if self.cut_off {
            text.push_str(&format!("{CUT_OFF}\n"));
        }
        for Accepted { place, reason, differences, scenarios, compared, stale } in &self.accepted {
            let words = match (compared, stale) {
                (false, _) => "no scenario of it ran in both".to_owned(),
                (true, true) => "stale, nothing differs so any more".to_owned(),
                // Another time it does.
                (true, false) if *differences == 0 => continue,
                (true, false) => format!("accepted, {differences} differences in {} scenarios", scenarios.len()),
            };
            text.push_str(&format!("{place}: {words}: {reason}\n"));
        }
        let (common, different) = (self.common, self.different.len());
        text.push_str(&format!("{common} scenarios ran in both, {different} of them differ"));
        if self.accepted_differences > 0 {
            text.push_str(&format!(", {} differences are accepted", self.accepted_differences));
        }
        text.push('\n');
        text
    }
}

/// Characters of a text that are shown, and those of them before the first difference.
const WIDTH: usize = 400;
const BEFORE: usize = 100;

/// The character from which on two texts are shown, so that their first difference is.
fn begin(one: &str, other: &str) -> usize {
    let common = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    if common + BEFORE > WIDTH { common - BEFORE } else { 0 }
}

fn clipped(text: &str, begin: usize) -> String {
    let shown: String = text.chars().skip(begin).take(WIDTH).collect();
    let (before, after) = (begin > 0, text.chars().count() > begin + WIDTH);
    format!("{}{shown}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::accepted::tests::entries;
    use crate::conformance::results::Verdict;
    use crate::conformance::results::tests::sample;

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let comparison = compare(&sample(), &sample(), &[]);
        assert_eq!((comparison.differences(), comparison.common), (0, 4));
        assert_eq!(comparison.text(), "4 scenarios ran in both, 0 of them differ\n");
    }

    #[test]
    fn what_runs_ran_on_is_no_difference() {
        let (one, mut other) = (sample(), sample());
        other.environment = [("postgresql".to_owned(), "18.1".to_owned())].into();
        assert_eq!(compare(&one, &other, &[]), compare(&one, &one, &[]));
    }

    #[test]
    fn how_runs_ended_is_compared_too() {
        let (one, mut other) = (sample(), sample());
        other.verdict = Verdict::Passed;
        other.problems = vec!["left over: namespace e2e-3".to_owned()];
        let comparison = compare(&one, &other, &[]);
        let found: Vec<&str> = comparison.run.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(found, ["/problems", "/problems", "/verdict"]);
        assert_eq!(comparison.differences(), 0);
        assert!(comparison.text().starts_with("the run\n  /problems\n"), "{}", comparison.text());
    }

    #[test]
    fn what_could_not_be_seen_is_neither_the_same_nor_a_difference() {
        let (mut one, other) = (sample(), sample());
        let unseen = |code: i32| json!({"commands": [{"code": code}], "objects": null, "events": null});
        one.scenarios[0].observations = unseen(0);
        let mut same = one.clone();
        for (one, other) in [(&one, &other), (&one, &one)] {
            let comparison = compare(one, other, &[]);
            assert_eq!(comparison.unseen, ["Rows: good"]);
            let found = comparison.different.values().flatten();
            assert!(!found.map(|found| &found.what).any(|what| what.starts_with("/objects")));
            let told = "Rows: good: its objects and events could not be seen in both\n";
            assert!(comparison.text().contains(told), "{}", comparison.text());
        }
        same.scenarios[0].observations = unseen(1);
        let comparison = compare(&one, &same, &[]);
        let found = comparison.different["Rows: good"].iter().map(|found| found.what.as_str());
        assert_eq!(found.collect::<Vec<_>>(), ["/commands/0/code"]);
    }

    #[test]
    fn runs_that_were_both_cut_off_agree_in_a_part_only() {
        let cut = Results { verdict: Verdict::Interrupted, ..sample() };
        let comparison = compare(&cut, &cut, &[]);
        assert!(comparison.cut_off && comparison.run.is_empty());
        assert_eq!(comparison.text(), format!("{CUT_OFF}\n4 scenarios ran in both, 0 of them differ\n"));
    }

    #[test]
    fn a_difference_is_shown_wherever_it_is() {
        let (mut one, mut other) = (sample(), sample());
        let events = |names: &[&str]| json!({"events": names, "said": format!("{}{}", "x".repeat(1000), names.len())});
        one.scenarios[0].observations = events(&["a", "b", "b"]);
        other.scenarios[0].observations = events(&["b", "a", "b", "BOOM"]);
        let text = compare(&one, &other, &[]).text();
        assert!(text.contains("- nothing\n    + BOOM\n"), "{text}");
        assert!(text.contains("x3\n") && text.contains("x4\n"), "{text}");
    }

    #[test]
    fn verdicts_messages_and_observations_are_compared() {
        let (one, mut other) = (sample(), sample());
        other.scenarios[0].observations = json!({
            "commands": [{"line": "a9s version", "code": 3}], "objects": {"pod/solo-1": {"phase": "Running"}},
        });
        other.scenarios[2].outcome = Outcome::Passed;
        other.scenarios[2].message.clear();
        other.scenarios[3].outcome = Outcome::Passed;
        other.scenarios.pop();
        let comparison = compare(&one, &other, &[]);
        let of = |id: &str| -> Vec<&str> { comparison.different[id].iter().map(|found| found.what.as_str()).collect() };
        assert_eq!(of("Rows: good"), ["/commands/0/code", "/objects/pod/solo-0", "/objects/pod/solo-1"]);
        assert_eq!(of("Rows: bad"), ["verdict", "message"]);
        assert_eq!(comparison.only_in_one, ["Rows: late"]);
        assert_eq!(comparison.not_comparable, ["Rows: elsewhere"]);
        assert_eq!(comparison.differences(), 3);
        insta::with_settings!({snapshot_path => "../../snapshots/reports", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("comparison", comparison.text());
        });
    }

    #[test]
    fn what_both_lists_have_is_no_difference_but_their_order_is() {
        let found = |one: Value, other: Value| {
            let mut found = Vec::new();
            walk("/it", &one, &other, &mut found);
            Vec::from_iter(found.into_iter().map(|found| format!("{} {} {}", found.what, found.one, found.other)))
        };
        assert_eq!(found(json!(["a", "b"]), json!(["b", "c"])), ["/it a nothing", "/it nothing c"]);
        assert_eq!(found(json!(["a", "b"]), json!(["b", "a"])), [r#"/it ["a","b"] ["b","a"]"#]);
        assert_eq!(found(json!([{"n": 1}, {"n": 2}]), json!([{"n": 1}, {"n": 3}])), ["/it/1/n 2 3"]);
        assert!(found(json!(["a", 1]), json!(["a", 1])).is_empty());
    }

    /// Two runs with two differences in one scenario and one in another, besides how they ended.
    fn pair() -> (Results, Results) {
        let (one, mut other) = (sample(), sample());
        other.verdict = Verdict::Passed;
        other.scenarios[0].observations = json!({
            "commands": [{"line": "a9s version", "code": 3}], "objects": {"pod/solo-0": {"phase": "Pending"}},
        });
        other.scenarios[2].outcome = Outcome::Flaky;
        (one, other)
    }

    #[test]
    fn what_is_accepted_is_counted_and_the_rest_still_differs() {
        let (one, other) = pair();
        let list = entries(
            "- {scenario: '^Rows: ', what: verdict, one: failed, other: flaky, reason: luck}\n\
             - {scenario: good, what: /objects/.*, reason: nobody looks at objects}\n\
             - {scenario: good, what: /objects/pod/.*, reason: nor at pods}\n\
             - {scenario: '^the run$', what: /verdict, reason: one of them was lucky}\n\
             - {scenario: good, what: message, reason: it says something else now and then, sometimes: true}\n\
             - {scenario: good, what: /events, reason: it was mended}\n\
             - {scenario: elsewhere, what: message, reason: it was skipped}\n",
        );
        let comparison = compare(&one, &other, &list);
        assert_eq!(comparison.different.keys().collect::<Vec<_>>(), ["Rows: good"]);
        assert_eq!(comparison.different["Rows: good"].len(), 1);
        assert!(comparison.run.is_empty());
        assert_eq!((comparison.differences(), comparison.accepted_differences, comparison.stale()), (1, 3, 1));
        insta::with_settings!({snapshot_path => "../../snapshots/reports", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("comparison-accepted", comparison.text());
            insta::assert_snapshot!("comparison-accepted.json", serde_json::to_string_pretty(&comparison).unwrap());
        });
    }

    #[test]
    fn what_is_not_as_the_entry_says_is_not_accepted() {
        let (one, other) = pair();
        for entry in [
            "- {scenario: bad, what: /objects/.*, reason: another scenario}\n",
            "- {scenario: good, what: /objects, reason: a part of the path}\n",
            "- {scenario: good, what: /objects/.*, one: Pending, reason: the other run's}\n",
            "- {scenario: good, what: /objects/.*, other: Pend, reason: a part of what it says}\n",
        ] {
            let comparison = compare(&one, &other, &entries(entry));
            assert_eq!(
                (comparison.differences(), comparison.accepted_differences, comparison.stale()),
                (2, 0, 1),
                "{entry}"
            );
        }
    }
}
