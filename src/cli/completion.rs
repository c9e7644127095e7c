//! `a9s completion SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Session};
use crate::finding::Finding;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "For bash: source <(a9s completion bash)")]
pub struct Completion {
    /// The shell
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "a9s", &mut script);
        session.console.raw(&script);
        session.console.document(&serde_json::json!({"script": String::from_utf8_lossy(&script)}));
        Ok(())
    }
}
