//! The flags that say where backups go, and where the keys of that place come from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::caller;
use crate::cli::{Session, prompt};
use crate::finding::{Finding, Id};
use crate::steps::backup_config::{Owner, Secret, Store, Wish};

/// The flag that says whose store it is: with minio, one is part of the stack.
#[derive(Debug, Clone, Args)]
pub struct StoreOwner {
    /// Where backups go [default: as it is on the cluster, else minio]
    #[arg(long, value_name = "PROVIDER", ignore_case = true, help_heading = "Backups")]
    backup_provider: Option<Owner>,
}

impl StoreOwner {
    /// Whether the store is installed with the stack, as far as the flag says.
    pub fn is_minio(&self) -> bool {
        self.backup_provider != Some(Owner::Aws)
    }
}

/// The flags. What none of them says stays as the cluster has it.
#[derive(Debug, Clone, Args)]
pub struct BackupStore {
    #[command(flatten)]
    owner: StoreOwner,
    /// Bucket of backups [default: as it is on the cluster, else a8s-backups]
    #[arg(long, value_name = "BUCKET", help_heading = "Backups")]
    backup_bucket: Option<String>,
    /// Region of the bucket [default: as it is on the cluster, else eu-central-1]
    #[arg(long, value_name = "REGION", help_heading = "Backups")]
    backup_region: Option<String>,
    /// S3 endpoint, with --backup-provider AWS; minio has its own
    #[arg(long, value_name = "URL", help_heading = "Backups")]
    backup_store_endpoint: Option<String>,
    /// Address buckets by path; always so for minio
    #[arg(long, help_heading = "Backups")]
    backup_store_pathstyle: bool,
    /// Access key id of the store, else $A9S_BACKUP_STORE_ACCESSKEY [default for minio: a8s-user]
    #[arg(long, value_name = "KEY", conflicts_with = "backup_store_accesskey_file", help_heading = "Backups")]
    backup_store_accesskey: Option<String>,
    /// File with the access key id
    #[arg(long, value_name = "FILE", help_heading = "Backups")]
    backup_store_accesskey_file: Option<PathBuf>,
    /// Secret key of the store, else $A9S_BACKUP_STORE_SECRETKEY [default for minio: as it is on the cluster, else a random
    /// one]; others on this machine can see it here
    #[arg(long, value_name = "KEY", conflicts_with = "backup_store_secretkey_file", help_heading = "Backups")]
    backup_store_secretkey: Option<String>,
    /// File with the secret key
    #[arg(long, value_name = "FILE", help_heading = "Backups")]
    backup_store_secretkey_file: Option<PathBuf>,
}

/// One of the two keys.
struct Key<'a> {
    name: &'static str,
    flag: Option<&'a String>,
    file: Option<&'a Path>,
    variable: &'static str,
    is_secret: bool,
}

impl BackupStore {
    /// What the flags say, checked. Keys that they don't say stay as they are in the store that `found` tells, where backups
    /// go on there; else it asks for them, where there is a terminal.
    ///
    /// # Errors
    /// A value can't work, or a key is missing and nobody can be asked.
    pub fn wish(
        &self,
        session: &Session,
        found: impl FnOnce() -> Result<Option<Store>, Finding>,
    ) -> Result<Wish, Finding> {
        self.warn(session);
        let access = Key {
            name: "backup-store-accesskey",
            flag: self.backup_store_accesskey.as_ref(),
            file: self.backup_store_accesskey_file.as_deref(),
            variable: "A9S_BACKUP_STORE_ACCESSKEY",
            is_secret: false,
        };
        let secret = Key {
            name: "backup-store-secretkey",
            flag: self.backup_store_secretkey.as_ref(),
            file: self.backup_store_secretkey_file.as_deref(),
            variable: "A9S_BACKUP_STORE_SECRETKEY",
            is_secret: true,
        };
        let mut wish = Wish {
            owner: self.owner.backup_provider,
            bucket: self.backup_bucket.clone(),
            region: self.backup_region.clone(),
            endpoint: self.backup_store_endpoint.clone().filter(|_| !self.owner.is_minio()),
            path_style: self.backup_store_pathstyle.then_some(true),
            access_key: access.given()?,
            secret_key: secret.given()?.map(Secret),
        };
        if self.owner.is_minio() {
            wish.over(None).check()?;
            return Ok(wish);
        }
        let says_no_key = wish.access_key.is_none() && wish.secret_key.is_none();
        let kept = if says_no_key { found()?.filter(|found| wish.goes_on_with(found)) } else { None };
        if kept.is_none() {
            wish.access_key = Some(wish.access_key.map_or_else(|| access.ask(session), Ok)?);
            wish.secret_key = Some(wish.secret_key.map_or_else(|| secret.ask(session).map(Secret), Ok)?);
        }
        wish.over(kept.as_ref()).check()?;
        Ok(wish)
    }

    fn warn(&self, session: &Session) {
        if self.backup_store_secretkey.is_some() {
            session.warn(
                "others on this machine can see the --backup-store-secretkey of a running command; a file or the variable A9S_BACKUP_STORE_SECRETKEY keeps it",
            );
        }
        if self.owner.is_minio() && self.backup_store_endpoint.is_some() {
            session.warn("--backup-store-endpoint has no effect without --backup-provider AWS");
        }
    }
}

impl Key<'_> {
    /// What was said of it on the command line or in the environment.
    fn given(&self) -> Result<Option<String>, Finding> {
        if let Some(given) = self.flag {
            return Ok(Some(given.clone()));
        }
        if let Some(path) = self.file {
            let content = fs_err::read_to_string(caller::path(path))
                .map_err(|error| Finding::new(Id::KeyUnreadable, error.to_string()))?;
            // Editors of Windows begin a file with a mark, and end its lines with two characters.
            return Ok(Some(content.trim_start_matches('\u{feff}').trim_end().to_owned()));
        }
        let given = caller::given(self.variable).map(OsString::into_string).transpose();
        given.map_err(|_| Finding::new(Id::KeyUnreadable, format!("the variable {} is not UTF-8", self.variable)))
    }

    fn ask(&self, session: &Session) -> Result<String, Finding> {
        let missing = || {
            Finding::new(Id::NoKey, format!("the backup provider AWS needs a --{}", self.name))
                .advise(format!("Give it in the variable {} or in a file with --{}-file.", self.variable, self.name))
        };
        if !caller::can_answer() {
            return Err(missing());
        }
        let question = "In order to store backups on an object store such as S3, we need";
        let answer = match self.is_secret {
            true => prompt::secret(session, &format!("{question} a SECRET KEY: "))?,
            false => prompt::line(session, &format!("{question} an ACCESS KEY ID: "))?,
        };
        answer.filter(|answer| !answer.is_empty()).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::caller::{Caller, instead};

    #[test]
    fn a_variable_that_is_no_text_is_not_taken_for_none() {
        let variable = "A9S_BACKUP_STORE_SECRETKEY";
        let key = Key { name: "backup-store-secretkey", flag: None, file: None, variable, is_secret: true };
        let given = |value: &[u8]| {
            let variables = vec![(variable.into(), OsString::from_vec(value.to_vec()))];
            instead(Caller { variables, ..Caller::default() }, || key.given()).0
        };
        assert_eq!(given(b"k3y").unwrap().as_deref(), Some("k3y"));
        assert_eq!(given(b"").unwrap(), None);
        let finding = given(b"k\xff").unwrap_err();
        let cause = "the variable A9S_BACKUP_STORE_SECRETKEY is not UTF-8";
        assert_eq!((finding.id, finding.cause.as_str()), (Id::KeyUnreadable, cause));
    }

    #[test]
    fn a_key_is_what_its_file_says_whatever_editor_has_written_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let file = Some(path.as_path());
        let key = Key { name: "backup-store-secretkey", flag: None, file, variable: "A9S_NOT_SET", is_secret: true };
        for content in ["k3y", "k3y\n", "k3y\r\n", "\u{feff}k3y\r\n"] {
            fs_err::write(&path, content).unwrap();
            assert_eq!(key.given().unwrap().as_deref(), Some("k3y"), "{content:?}");
        }
    }
}
