//! The encryption password of a cluster whose stack goes. Backups that lie elsewhere stay, and nobody can read them without it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::{adopted, keep, password_file};
use crate::config::WorkingDirectory;
use crate::finding::{Finding, Id};
use crate::kubernetes::Access;
use crate::step::{Context, Observation, Step};

/// So much of a context is in the name of a file, which must not become longer than a system takes.
const LONGEST: usize = 128;

/// The working directory should have the encryption password of the cluster.
pub struct Saved {
    access: Arc<Access>,
    directory: WorkingDirectory,
    /// What the cluster has: read once, for it may be gone later.
    password: OnceCell<Option<Vec<u8>>>,
}

/// Where a password is, or can be.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Kept(PathBuf),
    Free(PathBuf),
}

impl Saved {
    /// The step.
    pub fn new(access: Arc<Access>, directory: WorkingDirectory) -> Self {
        Self { access, directory, password: OnceCell::new() }
    }

    /// The password, and where it is or can be kept; nothing where the cluster has none.
    async fn look(&self) -> Result<Option<(&[u8], Place)>, Finding> {
        let connection = self.access.connection().await?;
        let password = self.password.get_or_try_init(async || adopted::password(&connection.client).await).await?;
        let Some(password) = password.as_deref() else { return Ok(None) };
        let place = place(&password_file(&self.directory), &connection.context, password)?;
        Ok((!sabotage::sabotaged!("password-goes-with-the-stack")).then_some((password, place)))
    }
}

/// Where a password is, or can be: in the usual file, else in one beside it that says by its name which cluster has it.
/// Nothing that is there is overwritten.
fn place(usual: &Path, context: &str, password: &[u8]) -> Result<Place, Finding> {
    for path in std::iter::once(usual.to_owned()).chain((1..).map(|number| beside(usual, context, number))) {
        match fs_err::read(&path) {
            Ok(there) if there == password => return Ok(Place::Kept(path)),
            Ok(there) if there.is_empty() => return Ok(Place::Free(path)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Free(path)),
            Err(error) => return Err(not_kept(Finding::new(Id::WorkingDirectory, error.to_string()))),
        }
    }
    unreachable!("there are more numbers than files")
}

/// `encryption-password.CONTEXT`, then `encryption-password.CONTEXT.2`.
fn beside(usual: &Path, context: &str, number: u32) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let context: String = context.chars().map(plain).take(LONGEST).collect();
    let mut path = usual.to_owned().into_os_string();
    path.push(format!(".{context}"));
    if number > 1 {
        path.push(format!(".{number}"));
    }
    PathBuf::from(path)
}

fn not_kept(finding: Finding) -> Finding {
    finding.advise(
        "Nothing was removed. Make it possible to keep the password there: without it, backups elsewhere can't be read.",
    )
}

#[async_trait]
impl Step for Saved {
    fn id(&self) -> String {
        "encryption-password".to_owned()
    }

    fn title(&self) -> String {
        "keep the encryption password of the cluster's backups".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        Ok(match self.look().await? {
            None => Observation::satisfied("the cluster has none"),
            Some((_, Place::Kept(path))) => Observation::satisfied(format!("it is at {}", path.display())),
            Some((_, Place::Free(path))) if path == password_file(&self.directory) => {
                Observation::unmet("this working directory does not have it")
            }
            Some((_, Place::Free(path))) => {
                Observation::unmet(format!("this working directory has another one: it goes to {}", path.display()))
            }
        })
    }

    async fn converge(&self, _context: &Context) -> Result<(), Finding> {
        match self.look().await? {
            Some((password, Place::Free(path))) => keep(&path, password).map_err(not_kept),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(files: &[(&str, &str)], context: &str) -> (Place, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs_err::write(directory.path().join(name), text).unwrap();
        }
        (place(&directory.path().join("password"), context, b"ours").unwrap(), directory.path().to_owned())
    }

    #[test]
    fn the_usual_file_has_it_or_gets_it() {
        let cases: [(&[(&str, &str)], bool); 3] =
            [(&[], false), (&[("password", "")], false), (&[("password", "ours")], true)];
        for (files, is_kept) in cases {
            let (found, directory) = placed(files, "prod");
            let path = directory.join("password");
            assert_eq!(found, if is_kept { Place::Kept(path) } else { Place::Free(path) });
        }
    }

    #[test]
    fn another_password_is_never_overwritten() {
        let (other, theirs) = (("password", "other"), ("password.prod", "theirs"));
        let (found, directory) = placed(&[other], "prod");
        assert_eq!(found, Place::Free(directory.join("password.prod")));
        let (found, directory) = placed(&[other, theirs], "prod");
        assert_eq!(found, Place::Free(directory.join("password.prod.2")));
        let (found, directory) = placed(&[other, theirs, ("password.prod.2", "ours")], "prod");
        assert_eq!(found, Place::Kept(directory.join("password.prod.2")));
    }

    #[test]
    fn a_context_becomes_a_part_of_a_name() {
        let (found, directory) = placed(&[("password", "other")], "arn:aws:eks:cluster/../prod");
        assert_eq!(found, Place::Free(directory.join("password.arn-aws-eks-cluster-..-prod")));
        let (found, _) = placed(&[("password", "other")], &"x".repeat(1000));
        assert!(matches!(found, Place::Free(path) if path.file_name().unwrap().len() < 200));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_free() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir(directory.path().join("password")).unwrap();
        let finding = place(&directory.path().join("password"), "prod", b"ours").unwrap_err();
        assert_eq!(finding.id, Id::WorkingDirectory);
    }
}
