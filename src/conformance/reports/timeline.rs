//! When each step of a scenario began and how long it took, as text and as a plot.

use super::html::escape;
use crate::conformance::results::{Attempt, Outcome, Scenario};

/// The steps of all attempts as text, with the reason at the end of each attempt that failed.
pub fn text(scenario: &Scenario) -> String {
    let mut text = format!("{}\n{}\n", scenario.id, scenario.place);
    for (number, attempt) in scenario.attempts.iter().enumerate() {
        text.push_str(&format!(
            "\nattempt {}, {:.3} s after the start of the run, {:.3} s\n",
            number + 1,
            attempt.start,
            attempt.seconds
        ));
        for step in &attempt.steps {
            let (start, seconds, outcome) = (step.start, step.seconds, step.outcome.text());
            text.push_str(&format!(
                "{start:>9.3} s {seconds:>9.3} s  {outcome:<8} {} (line {})\n",
                step.text, step.line
            ));
        }
        text.push_str(&attempt.message);
        text.push('\n');
    }
    text
}

/// Width of the plot, in its own units.
const WIDTH: f64 = 1000.0;
/// Height of a step's row.
const ROW: f64 = 18.0;
/// Where bars begin: the texts are to their left.
const LEFT: f64 = 430.0;
/// Room for the longest duration.
const RIGHT: f64 = 70.0;

/// One attempt as SVG: a row per step, its bar where it was in time, and one for what came after the last step.
pub fn plot(attempt: &Attempt) -> String {
    let span = attempt.seconds.max(0.001);
    let scale = (WIDTH - LEFT - RIGHT) / span;
    let after = attempt.steps.last().map_or(0.0, |last| last.start + last.seconds);
    let mut rows: Vec<(String, Outcome, f64, f64)> =
        attempt.steps.iter().map(|step| (step.text.clone(), step.outcome, step.start, step.seconds)).collect();
    rows.push(("cleaning up".to_owned(), Outcome::NotRun, after, (attempt.seconds - after).max(0.0)));
    let height = ROW * (rows.len() as f64) + 4.0;
    let mut svg = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"timeline of the steps\">"
    );
    for (index, (text, outcome, start, seconds)) in rows.iter().enumerate() {
        let y = ROW * (index as f64);
        let x = LEFT + start * scale;
        let width = (seconds * scale).max(1.0);
        let label: String =
            if text.chars().count() > 66 { text.chars().take(65).chain(['…']).collect() } else { text.clone() };
        svg.push_str(&format!(
            "<g><title>{full}: {seconds:.3} s</title><text x=\"0\" y=\"{base:.1}\">{label}</text>\
             <rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"12\" rx=\"2\"/>\
             <text class=\"time\" x=\"{end:.1}\" y=\"{base:.1}\">{seconds:.2} s</text></g>",
            full = escape(text),
            label = escape(&label),
            class = class(*outcome),
            base = y + 13.0,
            top = y + 3.0,
            end = x + width + 5.0,
        ));
    }
    svg.push_str("</svg>");
    svg
}

/// The class of an outcome in the page's style.
pub fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Flaky => "flaky",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
        Outcome::NotRun => "notrun",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::results::tests::sample;

    #[test]
    fn a_timeline_tells_every_attempt_and_why_it_failed() {
        let text = text(&sample().scenarios[1]);
        assert!(text.contains("attempt 1, 0.000 s after the start of the run, 1.500 s"), "{text}");
        assert!(text.contains("    0.500 s     1.000 s  failed   Then <b> & c (line 7)"), "{text}");
        assert!(text.contains("but found three"), "{text}");
    }

    #[test]
    fn a_plot_has_a_bar_for_each_step_within_its_width_and_no_markup_of_others() {
        let attempt = &sample().scenarios[2].attempts[0];
        let svg = plot(attempt);
        assert_eq!(svg.matches("<rect").count(), attempt.steps.len() + 1);
        assert!(!svg.contains("<b>") && svg.contains("&lt;b&gt;"));
        for width in svg.split(" x=\"").skip(1).filter_map(|part| part.split('"').next()?.parse::<f64>().ok()) {
            assert!(width <= WIDTH, "{width}");
        }
    }
}
