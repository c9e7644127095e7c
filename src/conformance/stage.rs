//! What one run of the suite has: its directory, the program under test, and the cluster that most scenarios share.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OnceCell;

use super::command::{self, Surroundings};
use super::failure::Failure;

static STAGE: OnceLock<Stage> = OnceLock::new();

/// One run of the suite.
#[derive(Debug)]
pub struct Stage {
    /// Everything the run makes lies below it; traversable by others, since a server's user must get to its data.
    pub directory: PathBuf,
    /// The program under test: `A9S_BIN`, or what cargo built.
    pub program: PathBuf,
    /// `kubectl`, or why it can't be a judge.
    pub kubectl: Result<PathBuf, &'static str>,
    /// Where a failed scenario's evidence goes.
    pub evidence: PathBuf,
    shared: OnceCell<Surroundings>,
    scenarios: AtomicUsize,
}

impl Stage {
    /// The stage of this process.
    ///
    /// # Panics
    /// Before [`Stage::open`].
    pub fn get() -> &'static Self {
        #[expect(clippy::expect_used, reason = "run() opens the stage before it starts the first scenario")]
        STAGE.get().expect("the stage is open while scenarios run")
    }

    /// Makes the directory of a run that tests `built`, unless the environment names another program.
    ///
    /// # Errors
    /// What the file system said.
    pub fn open(built: &Path) -> Result<&'static Self, Failure> {
        let directory = std::env::temp_dir().join(format!("a9s-e2e-{:08x}", rand::random::<u32>()));
        fs_err::create_dir_all(&directory)?;
        fs_err::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let program = std::env::var_os("A9S_BIN").map_or_else(|| built.to_owned(), PathBuf::from);
        if !program.is_file() {
            return Err(Failure::unexpected("a program to test", format!("nothing at {}", program.display())));
        }
        let evidence = std::env::var_os("A9S_E2E_EVIDENCE").map_or_else(
            || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from).join("e2e"),
            PathBuf::from,
        );
        let stage = Self {
            directory,
            program,
            kubectl: kubectl(),
            evidence,
            shared: OnceCell::new(),
            scenarios: AtomicUsize::new(0),
        };
        Ok(STAGE.get_or_init(|| stage))
    }

    /// A number that no other scenario of this run has.
    pub fn next_scenario(&self) -> usize {
        self.scenarios.fetch_add(1, Ordering::Relaxed)
    }

    /// The cluster that most scenarios share; the first who asks creates it.
    ///
    /// # Errors
    /// What the program said when it could not be created; every scenario that needs it then fails with it.
    pub async fn shared(&self) -> Result<&Surroundings, Failure> {
        self.shared
            .get_or_try_init(|| async {
                let surroundings = Surroundings::new(&self.directory.join("shared"))?;
                let outcome = command::a9s(&surroundings, &["create", "cluster", "a8s", "--yes"]).await?;
                outcome.require_success()?;
                Ok(surroundings)
            })
            .await
    }
}

/// WebSockets for exec and port-forward came with 1.29 and 1.30; older ones fail for reasons of their own.
const OLDEST_KUBECTL: u32 = 30;

fn kubectl() -> Result<PathBuf, &'static str> {
    let program = command::on_path("kubectl").ok_or("this machine has no kubectl")?;
    let version = std::process::Command::new(&program).args(["version", "--client", "-o", "json"]).output();
    let answer = version.ok().and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
    let minor = answer.and_then(|answer| minor(&answer));
    if minor.is_some_and(|minor| minor >= OLDEST_KUBECTL) { Ok(program) } else { Err("kubectl is older than 1.30") }
}

fn minor(answer: &serde_json::Value) -> Option<u32> {
    let text = answer["clientVersion"]["minor"].as_str()?;
    text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}
