//! `a9s cluster pwd`.

use clap::Args;
use serde_json::json;

use crate::caller;
use crate::cli::Session;
use crate::finding::Finding;

/// Arguments of `cluster pwd`.
#[derive(Debug, Args)]
#[command(after_help = "In scripts: cd \"$(a9s cluster pwd)\"")]
pub struct Pwd {}

impl Pwd {
    pub(super) fn run(self, session: &Session) -> Result<(), Finding> {
        // A script gets the path or nothing; only a person at a terminal is asked for one.
        let directory = match caller::is_read_by_a_person() && session.console.words() {
            true => session.establish_working_directory()?,
            false => session.working_directory()?,
        };
        session.console.raw(directory.0.as_os_str().as_encoded_bytes());
        session.console.document(&json!({"workingDir": directory.0}));
        Ok(())
    }
}
