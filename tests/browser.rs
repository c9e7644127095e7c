//! The page of a report in a real browser; it has no script that could be needed: `cargo test --test browser`. It needs chromium, so `ci/test`
//! runs it where there is one, and says so where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;

const FEATURES: &str = "Feature: Odd things\n  \
    Scenario: It fails & says <why>\n    Given an empty home and no cluster\n    When I run `a9s version --client`\n    \
    Then standard output says \"</pre><script>document.title = 'taken'</script>\"\n\n  \
    Scenario: It passes\n    Given an empty home and no cluster\n    When I run `a9s version --client`\n    Then the command succeeds\n";

/// A report with a failure, made without a cluster.
fn report(directory: &Path) -> PathBuf {
    fs_err::create_dir(directory.join("features")).unwrap();
    fs_err::write(directory.join("features/odd.feature"), FEATURES).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_a9s"))
        .args(["conformance", "run", "--features", "features", "--report", "report"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    directory.join("report/index.html")
}

fn browser() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().find_map(|name| a9s::conformance::command::on_path(name));
    found.expect("a browser: apt-get install chromium")
}

fn chromium(directory: &Path, words: &[String]) -> String {
    let profile = format!("--user-data-dir={}", directory.join("profile").display());
    let output = Command::new(browser())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(profile)
        .args(words)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_shows_verdict_matrix_timeline_and_evidence() {
    let directory = tempfile::tempdir().unwrap();
    let page = report(directory.path());
    let url = format!("file://{}", page.display());
    let dom = chromium(directory.path(), &["--dump-dom".to_owned(), url]);
    for wanted in [
        "<title>a9s conformance: failed</title>",
        "class=\"verdict failed\">failed<",
        "It fails &amp; says &lt;why&gt;",
        "<svg class=\"plot\"",
        "commands.txt",
        "What it ran on",
        "&lt;script&gt;document.title",
    ] {
        assert!(dom.contains(wanted), "{wanted} is not in the page: {dom}");
    }
    assert!(!dom.contains("<script"), "what a command has said became a script");
}

#[test]
fn the_page_fits_a_narrow_screen_and_is_not_blank() {
    let directory = tempfile::tempdir().unwrap();
    let page = report(directory.path());
    let picture = directory.path().join("page.png");
    for width in [400, 1200] {
        let url = format!("file://{}", page.display());
        let words = [format!("--window-size={width},1600"), format!("--screenshot={}", picture.display()), url];
        chromium(directory.path(), &words);
        let bytes = fs_err::read(&picture).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000, "{} bytes at {width}", bytes.len());
    }
}
