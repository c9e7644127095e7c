//! The scenarios there are: features read and expanded, with the tags that follow from their level, in a stable order.
//!
//! Levels are tags, and each contains the ones before it: `@smoke` ⊂ `@core` ⊂ `@full`. A scenario's own level takes the
//! place of its feature's. A scenario without a level is of `@full`; `@chaos` stands beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cucumber::feature::Ext as _;
use cucumber::gherkin::tagexpr::TagOperation;
use cucumber::gherkin::{Feature, GherkinEnv, Rule, Scenario, Step};
use cucumber::tag::Ext as _;
use cucumber::{World as _, step};
use jiff::civil::Date;
use regex::Regex;

use super::World;

/// The file beside the features that says how many scenarios there were when they last landed.
pub const COUNT: &str = "COUNT";

/// The text of the features, wherever it comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Name of the file and its text, in the order of the names.
    pub features: BTreeMap<String, String>,
    /// The number of scenarios that must be there at least; `None` where nothing says so.
    pub recorded: Option<usize>,
}

impl Sources {
    /// Takes files by their names: features, and the recorded count.
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sources = Self::default();
        for (name, text) in files {
            if name == COUNT {
                sources.recorded = text.trim().parse().ok();
            } else if let Some(name) = name.strip_suffix(".feature") {
                sources.features.insert(name.to_owned(), text.to_owned());
            }
        }
        sources
    }

    /// Reads a directory.
    ///
    /// # Errors
    /// It can't be read.
    pub fn from_directory(directory: &Path) -> std::io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs_err::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == COUNT || name.ends_with(".feature") {
                files.push((name, fs_err::read_to_string(&path)?));
            }
        }
        Ok(Self::from_files(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))))
    }
}

/// A scenario that is not to decide the verdict until a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Who looks after it.
    pub owner: String,
    /// The last day.
    pub until: Date,
}

impl Quarantine {
    /// Reads `quarantine-<owner>-<YYYY-MM-DD>`; `None` for any other tag.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(tag: &str) -> Option<Result<Self, String>> {
        let rest = tag.strip_prefix("quarantine")?;
        let wrong = || format!("@{tag} is not @quarantine-<owner>-<YYYY-MM-DD>");
        let parsed = rest.strip_prefix('-').and_then(|rest| {
            let at = rest.len().checked_sub("-YYYY-MM-DD".len())?;
            let (owner, date) = (rest.get(..at)?, rest.get(at..)?.strip_prefix('-')?);
            (!owner.is_empty()).then_some(())?;
            Some(Self { owner: owner.to_owned(), until: date.parse().ok()? })
        });
        Some(parsed.ok_or_else(wrong))
    }
}

/// One scenario, expanded.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `feature: scenario`, the same in every run; a number follows where a feature has two of that name.
    pub id: String,
    /// Name of the feature's file without its extension.
    pub file: String,
    /// Its feature, which holds only this scenario: as the runner takes it.
    pub feature: Feature,
    /// Its rule, if any.
    pub rule: Option<Rule>,
    /// The scenario.
    pub scenario: Scenario,
    /// All its tags: the feature's, the rule's, its own, and those of the levels that contain its level.
    pub tags: BTreeSet<String>,
    /// Whether it is kept from deciding the verdict.
    pub quarantine: Option<Quarantine>,
}

impl Entry {
    /// All steps, background first.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let of_rule = self.rule.iter().filter_map(|rule| rule.background.as_ref());
        self.feature
            .background
            .iter()
            .chain(of_rule)
            .flat_map(|background| &background.steps)
            .chain(&self.scenario.steps)
    }
}

/// All scenarios.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The scenarios, by file and line.
    pub entries: Vec<Entry>,
    /// The number of scenarios that must be there at least.
    pub recorded: Option<usize>,
    /// What is wrong with the features.
    pub problems: Vec<String>,
}

impl Catalogue {
    /// Reads and expands. What can't be read is a problem, not the end: the rest can still be listed.
    pub fn read(sources: &Sources) -> Self {
        let mut catalogue = Self { recorded: sources.recorded, ..Self::default() };
        for (file, text) in &sources.features {
            let feature = Feature::parse(text, GherkinEnv::default()).map_err(|error| error.to_string());
            match feature.and_then(|feature| feature.expand_examples().map_err(|error| error.to_string())) {
                Ok(feature) => catalogue.add(file, feature),
                Err(error) => catalogue.problems.push(format!("{file}.feature can't be read: {error}")),
            }
        }
        catalogue.name();
        catalogue
    }

    fn add(&mut self, file: &str, mut feature: Feature) {
        let scenarios = std::mem::take(&mut feature.scenarios);
        let rules = std::mem::take(&mut feature.rules);
        for scenario in scenarios {
            self.push(file, &feature, None, scenario);
        }
        for mut rule in rules {
            for scenario in std::mem::take(&mut rule.scenarios) {
                self.push(file, &feature, Some(rule.clone()), scenario);
            }
        }
    }

    fn push(&mut self, file: &str, feature: &Feature, rule: Option<Rule>, scenario: Scenario) {
        let of_rule = rule.iter().map(|rule| &rule.tags);
        let tags = with_levels([&feature.tags].into_iter().chain(of_rule).chain([&scenario.tags]));
        let id = format!("{}: {}", feature.name, scenario.name);
        let mut quarantine = None;
        for tag in &tags {
            match Quarantine::parse(tag) {
                // One that has ended would hide behind another.
                Some(Ok(_)) if quarantine.is_some() => {
                    self.problems.push(format!("{id}: it has several quarantines"));
                }
                Some(Ok(found)) => quarantine = Some(found),
                Some(Err(why)) => self.problems.push(format!("{id}: {why}")),
                None => {}
            }
        }
        // What is no keyword is taken for a description.
        if scenario.steps.is_empty()
            || feature.background.as_ref().is_some_and(|background| background.steps.is_empty())
        {
            self.problems.push(format!("{id}: it has no steps"));
        }
        let mut alone = feature.clone();
        match &rule {
            Some(rule) => alone.rules = vec![Rule { scenarios: vec![scenario.clone()], ..rule.clone() }],
            None => alone.scenarios = vec![scenario.clone()],
        }
        self.entries.push(Entry { id, file: file.to_owned(), feature: alone, rule, scenario, tags, quarantine });
    }

    /// Gives scenarios of one name numbers, in the order of their lines.
    fn name(&mut self) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for entry in &mut self.entries {
            let count = seen.entry(entry.id.clone()).or_default();
            *count += 1;
            if *count > 1 {
                entry.id = format!("{} ({count})", entry.id);
            }
        }
    }

    /// The scenarios that a filter asks for.
    pub fn select(&self, filter: &Filter) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| filter.asks_for(entry)).collect()
    }

    /// What is to be said of the tags of a filter that no scenario bears: misspelt, one asks for more or less than was meant.
    pub fn unknown(&self, filter: &Filter) -> Vec<String> {
        let mut named = BTreeSet::new();
        if let Some(tags) = &filter.tags {
            names(tags, &mut named);
        }
        let is_borne = |tag: &&str| self.entries.iter().any(|entry| entry.tags.contains(*tag));
        named.into_iter().filter(|tag| !is_borne(tag)).map(|tag| format!("no scenario bears the tag @{tag}")).collect()
    }

    /// What the step definitions say about the steps of `entries`: those that nothing says, and those that several say.
    pub fn undefined(entries: &[&Entry]) -> Vec<String> {
        let definitions = World::collection();
        let mut seen = BTreeSet::new();
        entries.iter().flat_map(|entry| entry.steps()).filter_map(|step| check(&definitions, step, &mut seen)).collect()
    }
}

/// The tags that an expression names.
fn names<'a>(tags: &'a TagOperation, named: &mut BTreeSet<&'a str>) {
    match tags {
        TagOperation::And(one, other) | TagOperation::Or(one, other) => {
            names(one, named);
            names(other, named);
        }
        TagOperation::Not(one) => names(one, named),
        TagOperation::Tag(tag) => {
            named.insert(tag);
        }
    }
}

fn check(definitions: &step::Collection<World>, step: &Step, seen: &mut BTreeSet<String>) -> Option<String> {
    if !seen.insert(format!("{:?} {}", step.ty, step.value)) {
        return None;
    }
    match definitions.find(step) {
        Ok(Some(_)) => None,
        Ok(None) => {
            Some(format!("no step definition says: {}{} (line {})", step.keyword, step.value, step.position.line))
        }
        Err(error) => Some(format!("several step definitions say: {}{}: {error}", step.keyword, step.value)),
    }
}

/// The levels, each contained in the next, and the one that stands beside them.
const LEVELS: [&str; 4] = ["smoke", "core", "full", "chaos"];

/// All tags of a scenario, out of those of its feature, of its rule and of its own: of several levels the innermost counts,
/// and brings those that contain it.
fn with_levels<'a>(outer_to_inner: impl Iterator<Item = &'a Vec<String>>) -> BTreeSet<String> {
    let mut tags = BTreeSet::new();
    // Those of a row's examples come after those of its outline.
    for tag in outer_to_inner.flatten() {
        if LEVELS.contains(&tag.as_str()) {
            tags.retain(|tag: &String| !LEVELS.contains(&tag.as_str()));
        }
        tags.insert(tag.clone());
    }
    if tags.contains("chaos") {
        return tags;
    }
    if tags.contains("smoke") {
        tags.insert("core".to_owned());
    }
    tags.insert("full".to_owned());
    tags
}

/// Which scenarios are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A tag expression.
    pub tags: Option<TagOperation>,
    /// A pattern of names.
    pub name: Option<Regex>,
    /// Identifiers.
    pub ids: Option<BTreeSet<String>>,
}

impl Filter {
    /// What is asked for by an expression of tags, which was checked when it was read, and a pattern of names.
    pub fn new(tags: Option<&str>, name: Option<&Regex>) -> Self {
        Self { tags: tags.and_then(|tags| tags.parse().ok()), name: name.cloned(), ids: None }
    }

    /// Whether everything is asked for.
    pub fn is_empty(&self) -> bool {
        self.tags.is_none() && self.name.is_none() && self.ids.is_none()
    }

    fn asks_for(&self, entry: &Entry) -> bool {
        self.tags.as_ref().is_none_or(|tags| tags.eval(&entry.tags))
            && self.name.as_ref().is_none_or(|name| name.is_match(&entry.id))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: &str = "@sql\nFeature: Rows\n  Background:\n    Given a cluster with the a8s stack\n\n  @smoke\n  \
        Scenario: One\n    Given a\n\n  Scenario Outline: Many\n    Given <x>\n\n    Examples:\n      | x |\n      | 1 |\n      | 2 |\n\n  \
        @chaos\n  Scenario: Kill\n    Given c\n\n  Rule: Some\n    @core\n    Scenario: Two\n      Given b\n";

    fn catalogue() -> Catalogue {
        Catalogue::read(&Sources::from_files([("rows.feature", TEXT), (COUNT, "5\n"), ("e2e.rs", "fn main() {}")]))
    }

    fn selected(tags: &str) -> Vec<String> {
        let filter = Filter { tags: Some(tags.parse().unwrap()), ..Filter::default() };
        catalogue().select(&filter).iter().map(|entry| entry.scenario.name.clone()).collect()
    }

    #[test]
    fn scenarios_have_names_of_their_own_and_all_their_steps() {
        let catalogue = catalogue();
        let ids: Vec<&str> = catalogue.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["Rows: One", "Rows: Many", "Rows: Many (2)", "Rows: Kill", "Rows: Two"]);
        assert_eq!(
            catalogue.entries[2].steps().map(|step| step.value.as_str()).collect::<Vec<_>>(),
            ["a cluster with the a8s stack", "2"]
        );
        assert_eq!((catalogue.recorded, catalogue.problems.len()), (Some(5), 0));
    }

    #[rstest]
    #[case("@smoke", &["One"])]
    #[case("@core", &["One", "Two"])]
    #[case("@full", &["One", "Many", "Many", "Two"])]
    #[case("@chaos", &["Kill"])]
    #[case("@sql and not @core", &["Many", "Many", "Kill"])]
    fn a_level_contains_the_ones_before_it(#[case] tags: &str, #[case] names: &[&str]) {
        assert_eq!(selected(tags), names);
    }

    #[test]
    fn a_tag_that_no_scenario_bears_is_said_wherever_it_stands() {
        let unknown = |tags: &str| catalogue().unknown(&Filter::new(Some(tags), None));
        let wrong = ["no scenario bears the tag @chaoss", "no scenario bears the tag @kubeclt"];
        assert_eq!(unknown("@core or @chaoss and not @kubeclt"), wrong);
        assert!(unknown("@sql and not (@chaos or @smoke)").is_empty());
        assert!(catalogue().unknown(&Filter::default()).is_empty());
    }

    #[rstest]
    #[case("quarantine-anna-2030-01-31", Some(("anna", "2030-01-31")))]
    #[case("quarantine-team-storage-2030-01-31", Some(("team-storage", "2030-01-31")))]
    #[case("quarantine-2030-01-31", None)]
    #[case("quarantine-anna-2030-02-31", None)]
    #[case("quarantine", None)]
    fn a_quarantine_has_an_owner_and_a_date(#[case] tag: &str, #[case] parts: Option<(&str, &str)>) {
        let parsed = Quarantine::parse(tag).unwrap().ok();
        let parts = parts.map(|(owner, date)| Quarantine { owner: owner.to_owned(), until: date.parse().unwrap() });
        assert_eq!(parsed, parts);
        assert!(Quarantine::parse("core").is_none());
    }

    #[test]
    fn the_innermost_level_counts() {
        let text = "@core @sql\nFeature: x\n  Scenario: a\n    Given z\n\n  @full\n  Scenario: b\n    Given z\n\n  \
            @chaos\n  Scenario: c\n    Given z\n\n  @smoke\n  Scenario Outline: d\n    Given <z>\n\n    \
            Examples:\n      | z |\n      | 1 |\n\n    @full\n    Examples:\n      | z |\n      | 2 |\n";
        let catalogue = Catalogue::read(&Sources::from_files([("x.feature", text)]));
        let tags = |entry: &Entry| entry.tags.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            catalogue.entries.iter().map(tags).collect::<Vec<_>>(),
            ["core full sql", "full sql", "chaos sql", "core full smoke sql", "full sql"]
        );
    }

    /// The scenarios of a feature by the names that stand in its file: an outline has one.
    fn written(text: &str) -> Vec<String> {
        let mut catalogue = Catalogue::default();
        catalogue.add("", Feature::parse(text, GherkinEnv::default()).unwrap());
        catalogue.entries.into_iter().map(|entry| entry.id).collect()
    }

    /// A row names scenarios, or says why there is none.
    #[test]
    fn what_the_document_on_coverage_names_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = Sources::from_directory(&root.join("features")).unwrap();
        let there: BTreeSet<String> = sources.features.values().flat_map(|text| written(text)).collect();
        let text = fs_err::read_to_string(root.join("docs/coverage.md")).unwrap();
        let (mut covered, mut wrong) = (0, Vec::new());
        for line in text.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| scenario |")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [_, _, last] = cells.as_slice() else {
                wrong.push(line);
                continue;
            };
            let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
            let has_reason = last.strip_prefix("none: ").is_some_and(|why| !why.is_empty());
            if named.is_empty() != has_reason || !named.iter().all(|name| there.contains(*name)) {
                wrong.push(line);
            }
            covered += usize::from(!named.is_empty());
        }
        assert!(wrong.is_empty(), "rows without a scenario that exists and without a reason:\n{}", wrong.join("\n"));
        assert!(covered > 0, "docs/coverage.md has no table");
    }

    #[test]
    fn what_cannot_be_read_is_a_problem() {
        let catalogue = Catalogue::read(&Sources::from_files([
            ("broken.feature", "Feature: x\n  Scenario: y\n    Given z\n    Gven z\n"),
            ("empty.feature", "Feature: x\n  Scenario: y\n    Gven z\n"),
            ("hold.feature", "Feature: x\n  @quarantine-forever\n  Scenario: y\n    Given z\n"),
            (
                "twice.feature",
                "@quarantine-anna-2026-05-01\nFeature: x\n  @quarantine-ben-2099-01-01\n  Scenario: y\n    Given z\n",
            ),
        ]));
        assert_eq!(catalogue.problems.len(), 4, "{:?}", catalogue.problems);
        assert_eq!(catalogue.problems.last().unwrap(), "x: y: it has several quarantines");
        assert!(Catalogue::undefined(&catalogue.select(&Filter::default()))[0].contains("Given z"));
    }
}
