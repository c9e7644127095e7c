//! The page for people: one file without scripts, which says the verdict first, then what failed and why, then the rest.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use super::below;
use super::timeline::{class, plot};
use crate::conformance::results::{Outcome, Results, Scenario, Verdict};

const STYLE: &str = include_str!("page.css");

/// How much of a file of evidence is shown in the page; the whole is beside it.
const EXCERPT: usize = 6000;
/// Changes of duration that are shown.
const CHANGES: usize = 12;
/// Sentences whose time is shown.
const SENTENCES: usize = 15;
/// A change below this is noise.
const NOISE: f64 = 0.5;

/// The page. Evidence is read from `folder`.
pub fn page(results: &Results, previous: Option<&Results>, folder: &Path) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    let _ = write!(page, "<title>a9s conformance: {}</title>", escape(results.verdict.text()));
    let _ = write!(page, "<style>{STYLE}</style></head><body><main>");
    head(&mut page, results);
    problems(&mut page, results);
    failures(&mut page, results, folder);
    matrix(&mut page, results);
    durations(&mut page, results, previous);
    time(&mut page, results);
    scenarios(&mut page, results);
    environment(&mut page, results);
    page.push_str("</main></body></html>\n");
    page
}

/// Text that can't be taken for markup.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // A control character is not allowed in a page.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn head(page: &mut String, results: &Results) {
    let verdict = match results.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Interrupted | Verdict::ClusterLost => "notrun",
    };
    let _ = write!(
        page,
        "<header><span class=\"verdict {verdict}\">{}</span><div><h1>a9s conformance</h1><p class=\"soft\">{}, {}</p></div></header>",
        escape(results.verdict.text()),
        escape(&moment(&results.started)),
        duration(results.seconds),
    );
    let of = |outcome| {
        let is = |scenario: &&Scenario| scenario.outcome == outcome && scenario.quarantine.is_none();
        results.scenarios.iter().filter(is).count()
    };
    page.push_str("<ul class=\"counts\">");
    for outcome in Outcome::ALL {
        if of(outcome) > 0 {
            let _ = write!(page, "<li><b>{}</b>{}</li>", of(outcome), outcome.text());
        }
    }
    if results.counts.quarantined > 0 {
        let _ = write!(page, "<li><b>{}</b>quarantined</li>", results.counts.quarantined);
    }
    if !results.problems.is_empty() {
        let _ = write!(page, "<li><b>{}</b>problems</li>", results.problems.len());
    }
    page.push_str("</ul><div class=\"bar\" aria-hidden=\"true\">");
    for outcome in Outcome::ALL {
        if of(outcome) > 0 {
            let share = 100.0 * of(outcome) as f64 / results.scenarios.len() as f64;
            let _ = write!(page, "<i class=\"{}\" style=\"width:{share:.2}%\"></i>", class(outcome));
        }
    }
    page.push_str("</div>");
}

fn problems(page: &mut String, results: &Results) {
    if results.problems.is_empty() {
        return;
    }
    page.push_str("<h2>What is wrong with the run itself</h2><div class=\"card failed\">");
    for problem in &results.problems {
        let _ = write!(page, "<p>{}</p>", escape(problem));
    }
    page.push_str("</div>");
}

fn failures(page: &mut String, results: &Results, folder: &Path) {
    let has_failed = |scenario: &&Scenario| match scenario.outcome {
        Outcome::Failed | Outcome::Flaky => true,
        // Interrupted after a step had failed. Where the cluster was lost, that says nothing of the scenario.
        Outcome::NotRun if results.verdict == Verdict::Interrupted => {
            scenario.attempts.last().is_some_and(|attempt| !attempt.message.is_empty())
        }
        Outcome::NotRun | Outcome::Passed | Outcome::Skipped => false,
    };
    let bad: Vec<&Scenario> = results.scenarios.iter().filter(has_failed).collect();
    if bad.is_empty() {
        return;
    }
    page.push_str("<h2>What did not do what it says</h2>");
    for scenario in bad {
        let _ = write!(page, "<section class=\"card {}\"><h3>{}", class(scenario.outcome), escape(&scenario.id));
        let _ = write!(page, "<span class=\"tag\">{}</span>", scenario.outcome.text());
        if let Some(quarantine) = &scenario.quarantine {
            let _ = write!(page, "<span class=\"tag\">quarantined by {}</span>", escape(quarantine));
        }
        let _ = write!(
            page,
            "</h3><p class=\"soft\">{}</p><pre>{}</pre>",
            escape(&scenario.place),
            escape(&scenario.message)
        );
        for attempt in scenario.attempts.iter().filter(|attempt| !attempt.message.is_empty()) {
            page.push_str(&plot(attempt));
        }
        evidence(page, scenario, folder);
        page.push_str("</section>");
    }
}

fn evidence(page: &mut String, scenario: &Scenario, folder: &Path) {
    let Some(path) = &scenario.evidence else { return };
    let Ok(files) = below(folder, path) else { return };
    let _ = write!(
        page,
        "<details><summary>Evidence: {} files in {}</summary>",
        files.len(),
        escape(&path.to_string_lossy())
    );
    for file in files {
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        let bytes = fs_err::read(folder.join(&file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let _ = write!(
            page,
            "<details><summary><a href=\"{}\">{}</a> <span class=\"soft\">{} bytes</span></summary><pre>{}</pre></details>",
            escape(&file.to_string_lossy()),
            escape(&name),
            bytes.len(),
            escape(&excerpt(&text)),
        );
    }
    page.push_str("</details>");
}

/// The end of a long text: what went wrong is said last.
fn excerpt(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(EXCERPT);
    if skip == 0 {
        return text.to_owned();
    }
    format!("… {skip} characters before\n{}", text.chars().skip(skip).collect::<String>())
}

fn features(results: &Results) -> Vec<(&str, Vec<&Scenario>)> {
    let mut features: Vec<(&str, Vec<&Scenario>)> = Vec::new();
    for scenario in &results.scenarios {
        match features.iter_mut().find(|(name, _)| *name == scenario.feature) {
            Some((_, scenarios)) => scenarios.push(scenario),
            None => features.push((&scenario.feature, vec![scenario])),
        }
    }
    features
}

fn matrix(page: &mut String, results: &Results) {
    page.push_str("<h2>Features</h2><div class=\"card\"><table><thead><tr><th>Feature</th><th>Scenarios</th>");
    for outcome in Outcome::ALL {
        let _ = write!(page, "<th class=\"n\">{}</th>", outcome.text());
    }
    page.push_str("<th class=\"n\">time</th></tr></thead><tbody>");
    for (name, scenarios) in features(results) {
        let _ = write!(page, "<tr><td>{}</td><td class=\"cells\">", escape(name));
        for scenario in &scenarios {
            let _ = write!(
                page,
                "<i class=\"{}\" title=\"{}: {}\"></i>",
                class(scenario.outcome),
                escape(&scenario.name),
                scenario.outcome.text()
            );
        }
        page.push_str("</td>");
        for outcome in Outcome::ALL {
            let count = scenarios.iter().filter(|scenario| scenario.outcome == outcome).count();
            let zero = if count == 0 { " zero" } else { "" };
            let _ = write!(page, "<td class=\"n{zero}\">{count}</td>");
        }
        let seconds: f64 = scenarios.iter().map(|scenario| scenario.seconds()).sum();
        let _ = write!(page, "<td class=\"n\">{}</td></tr>", duration(seconds));
    }
    page.push_str("</tbody></table></div>");
}

/// Where the time went: steps by their sentence, whatever they are about.
fn time(page: &mut String, results: &Results) {
    let mut sentences: HashMap<String, (usize, f64)> = HashMap::new();
    let mut total = 0.0;
    for attempt in results.scenarios.iter().flat_map(|scenario| &scenario.attempts) {
        let mut end = 0.0;
        for step in &attempt.steps {
            let sum = sentences.entry(sentence(&step.text)).or_default();
            *sum = (sum.0 + 1, sum.1 + step.seconds);
            end = step.start + step.seconds;
        }
        let sum = sentences.entry("cleaning up".to_owned()).or_default();
        *sum = (sum.0 + 1, sum.1 + (attempt.seconds - end).max(0.0));
        total += attempt.seconds;
    }
    if total <= 0.0 {
        return;
    }
    let mut sentences: Vec<(String, (usize, f64))> = sentences.into_iter().collect();
    sentences.sort_by(|left, right| right.1.1.total_cmp(&left.1.1).then_with(|| left.0.cmp(&right.0)));
    page.push_str(
        "<h2>Where the time went</h2><div class=\"card\"><table><thead><tr><th>Sentence</th><th class=\"n\">times</th>",
    );
    page.push_str("<th class=\"n\">in all</th><th class=\"n\">each</th><th class=\"n\">share</th></tr></thead><tbody>");
    for (sentence, (count, seconds)) in sentences.iter().take(SENTENCES) {
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{count}</td><td class=\"n\">{}</td><td class=\"n\">{:.0} ms</td><td class=\"n\">{:.0} %</td></tr>",
            escape(sentence),
            duration(*seconds),
            1000.0 * seconds / *count as f64,
            100.0 * seconds / total,
        );
    }
    page.push_str("</tbody></table></div>");
}

/// A step's text without its keyword, and with what is quoted left out.
fn sentence(text: &str) -> String {
    let text = text.split_once(' ').map_or(text, |(_, rest)| rest);
    let mut sentence = String::new();
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => {
                quote = None;
                sentence.push('…');
            }
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None => sentence.push(c),
        }
    }
    sentence
}

/// What became slower or faster since the last run, the largest change first.
fn durations(page: &mut String, results: &Results, previous: Option<&Results>) {
    let Some(previous) = previous else { return };
    let earlier: HashMap<&str, f64> =
        previous.scenarios.iter().map(|scenario| (scenario.id.as_str(), scenario.seconds())).collect();
    let mut changes: Vec<(&str, f64, f64)> = results
        .scenarios
        .iter()
        .filter_map(|scenario| Some((scenario.id.as_str(), *earlier.get(scenario.id.as_str())?, scenario.seconds())))
        .filter(|(_, before, now)| *before > 0.0 && *now > 0.0)
        .collect();
    if changes.is_empty() {
        return;
    }
    let (before, now) = changes.iter().fold((0.0, 0.0), |sum, change| (sum.0 + change.1, sum.1 + change.2));
    let _ = write!(
        page,
        "<h2>Durations against the last run</h2><div class=\"card\"><p>{} scenarios took {} in all, and {} in the run of {}.</p>",
        changes.len(),
        duration(now),
        duration(before),
        escape(&moment(&previous.started)),
    );
    changes.retain(|(_, before, now)| (now - before).abs() >= NOISE);
    changes.sort_by(|left, right| (right.2 - right.1).abs().total_cmp(&(left.2 - left.1).abs()));
    if !changes.is_empty() {
        page.push_str("<table><thead><tr><th>Scenario</th><th class=\"n\">before</th><th class=\"n\">now</th><th class=\"n\">change</th></tr></thead><tbody>");
        for (id, before, now) in changes.iter().take(CHANGES) {
            let way = if now > before { "slower" } else { "faster" };
            let _ = write!(
                page,
                "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n {way}\">{:+.1} s</td></tr>",
                escape(id),
                duration(*before),
                duration(*now),
                now - before,
            );
        }
        page.push_str("</tbody></table>");
    }
    page.push_str("</div>");
}

fn scenarios(page: &mut String, results: &Results) {
    page.push_str("<h2>Scenarios</h2>");
    for (name, scenarios) in features(results) {
        let _ = write!(
            page,
            "<details class=\"card\"><summary><b>{}</b> <span class=\"soft\">{}</span></summary>",
            escape(name),
            counted(scenarios.len(), "scenario")
        );
        for scenario in scenarios {
            let _ = write!(
                page,
                "<details><summary><span class=\"dot {}\"></span>{} <span class=\"soft\">{}</span></summary>",
                class(scenario.outcome),
                escape(&scenario.name),
                match scenario.attempts.is_empty() {
                    true => escape(scenario.message.lines().next().unwrap_or(scenario.outcome.text())),
                    false => duration(scenario.seconds()),
                },
            );
            let tags: Vec<String> = scenario.tags.iter().map(|tag| format!("@{tag}")).collect();
            let _ = write!(page, "<p class=\"soft\">{} · {}</p>", escape(&scenario.place), escape(&tags.join(" ")));
            for attempt in &scenario.attempts {
                page.push_str(&plot(attempt));
            }
            page.push_str("</details>");
        }
        page.push_str("</details>");
    }
}

fn environment(page: &mut String, results: &Results) {
    page.push_str("<h2>What it ran on</h2><div class=\"card\"><table><tbody>");
    let selection = &results.selection;
    let mut facts: Vec<(String, String)> =
        results.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    facts.push(("tags".to_owned(), selection.tags.clone().unwrap_or_else(|| "all".to_owned())));
    if let Some(name) = &selection.name {
        facts.push(("name".to_owned(), name.clone()));
    }
    facts.push(("scenarios".to_owned(), format!("{} of {}", results.scenarios.len(), selection.available)));
    facts.push(("at a time".to_owned(), selection.jobs.to_string()));
    facts.push(("retries".to_owned(), selection.retries.to_string()));
    facts.push(("door".to_owned(), selection.door.clone()));
    facts.extend(results.notes.iter().map(|note| ("note".to_owned(), note.clone())));
    for (name, value) in facts {
        let _ = write!(page, "<tr><td class=\"soft\">{}</td><td>{}</td></tr>", escape(&name), escape(&value));
    }
    page.push_str("</tbody></table></div>");
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A moment as people read it.
fn moment(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A duration as people read it.
fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    format!("{} min {} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::results::tests::sample;

    fn made(folder: &Path) -> String {
        let evidence = folder.join("evidence/rows-7-bad");
        fs_err::create_dir_all(evidence.join("e2e-1")).unwrap();
        fs_err::write(evidence.join("commands.txt"), "$ a9s version\n<script>alert(1)</script>\n").unwrap();
        fs_err::write(evidence.join("e2e-1/long.log"), "x".repeat(EXCERPT + 10)).unwrap();
        let mut previous = sample();
        previous.scenarios[0].attempts[0].seconds = 9.0;
        page(&sample(), Some(&previous), folder)
    }

    #[test]
    fn the_page_is_as_reviewed() {
        let directory = tempfile::tempdir().unwrap();
        let page = made(directory.path()).replace(STYLE, "[STYLE]").replace("><", ">\n<");
        insta::with_settings!({snapshot_path => "../../../snapshots/reports", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("index.html", page);
        });
    }

    #[test]
    fn what_had_failed_when_it_was_cut_off_is_among_the_failures() {
        let directory = tempfile::tempdir().unwrap();
        let mut results = sample();
        let attempts = results.scenarios[2].attempts.clone();
        results.scenarios[5].attempts = attempts;
        results.scenarios[5].message = "the run ended while it ran; by then a step had failed".to_owned();
        let is_told = |results: &Results| {
            let page = page(results, None, directory.path());
            page.contains("<section class=\"card notrun\"><h3>Rows: late")
                && page.contains("<pre>the run ended while it ran; by then a step had failed</pre>")
        };
        results.verdict = Verdict::Interrupted;
        assert!(is_told(&results));
        results.verdict = Verdict::ClusterLost;
        assert!(!is_told(&results));
    }

    #[test]
    fn a_sentence_is_the_same_whatever_it_is_about() {
        let one = sentence("Then \"solo\" answers \"SELECT 1\" with \"1\"");
        assert_eq!((one.as_str(), sentence("When I run `a9s version`").as_str()), ("… answers … with …", "I run …"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_runs_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let page = made(directory.path());
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)"));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        assert!(page.contains("… 10 characters before"));
        assert!(page.contains("-7.5 s"), "the duration against the last run");
    }
}
