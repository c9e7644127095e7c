//! The images of the embedded cluster: programs of this host under the names that images have elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use a8s_operators::object_store;
use a8s_operators::postgresql::{Installation, template};
use kube_embedded::image::{Image, ImageCatalogue};

/// Name of the PostgreSQL image, before its tag.
const POSTGRESQL: &str = "a9s/postgresql";
/// This program, whatever became of its file since it was started. It needs no path that a container could not see.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Where commands of containers are looked for after PostgreSQL's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One image per PostgreSQL major of this host, and the object store.
#[derive(Debug)]
pub struct Images {
    installations: BTreeMap<u32, Installation>,
    templates: PathBuf,
}

impl Images {
    /// The images of these installations; `templates` is where their template data directories are, or will be.
    pub fn new(installations: Vec<Installation>, templates: PathBuf) -> Self {
        Self { installations: installations.into_iter().map(|found| (found.major, found)).collect(), templates }
    }

    /// Major → image, for the stack's ConfigMap.
    pub fn by_major(&self) -> BTreeMap<u32, String> {
        self.installations.keys().map(|major| (*major, name(*major))).collect()
    }

    /// The installations, newest first: the order in which templates are wanted.
    pub fn newest_first(&self) -> impl Iterator<Item = &Installation> {
        self.installations.values().rev()
    }

    /// Where templates are.
    pub fn templates(&self) -> &Path {
        &self.templates
    }
}

fn name(major: u32) -> String {
    format!("{POSTGRESQL}:{major}")
}

impl ImageCatalogue for Images {
    fn resolve(&self, reference: &str) -> Result<Image, String> {
        let wanted = reference.strip_prefix("docker.io/").unwrap_or(reference);
        // Whatever version a cluster was made with: this program is the one there is.
        if wanted.split_once(':').map_or(wanted, |(name, _)| name) == object_store::manifests::IMAGE {
            let env = vec![("PATH".to_owned(), PATH.to_owned())];
            return Ok(Image { entrypoint: agent(), env, ..Image::default() });
        }
        let tag = wanted.strip_prefix(POSTGRESQL).and_then(|rest| rest.strip_prefix(':'));
        let found = tag.and_then(|tag| tag.parse().ok()).and_then(|major: u32| self.installations.get(&major));
        let Some(found) = found else {
            let known = self.references().join(", ");
            return Err(format!(
                "failed to pull image \"{reference}\": not found: the embedded cluster runs programs of this host and has only {known}"
            ));
        };
        let bin = found.bin_directory.display();
        let template = template::path(&self.templates, found);
        Ok(Image {
            entrypoint: agent(),
            env: vec![
                ("PATH".to_owned(), format!("{bin}:{PATH}")),
                ("A9S_POSTGRESQL_MAJOR".to_owned(), found.major.to_string()),
                ("A9S_POSTGRESQL_BIN".to_owned(), bin.to_string()),
                ("A9S_PGDATA_TEMPLATE".to_owned(), template.display().to_string()),
            ],
            working_dir: None,
            read_only: vec![self.templates.clone()],
        })
    }

    fn references(&self) -> Vec<String> {
        let servers = self.installations.keys().map(|major| name(*major));
        servers.chain([object_store::manifests::VERSIONED.to_owned()]).collect()
    }
}

/// Both images are this program; the pod's arguments say what to be.
fn agent() -> Vec<String> {
    vec![THIS_PROGRAM.to_owned(), "agent".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        let installation = Installation {
            major: 15,
            version: "15.8".to_owned(),
            bin_directory: PathBuf::from("/usr/lib/postgresql/15/bin"),
        };
        Images::new(vec![installation], PathBuf::from("/templates"))
    }

    #[test]
    fn an_image_is_this_program_with_the_tools_of_its_major_first() {
        let image = images().resolve("a9s/postgresql:15").unwrap();
        assert_eq!(image.entrypoint, ["/proc/self/exe", "agent"]);
        assert!(image.env[0].1.starts_with("/usr/lib/postgresql/15/bin:"));
        assert_eq!(image.read_only, [PathBuf::from("/templates")]);
    }

    #[test]
    fn the_object_store_is_this_program_too() {
        for reference in [object_store::manifests::IMAGE, object_store::manifests::VERSIONED, "a9s/object-store:0.0.1"]
        {
            assert_eq!(images().resolve(reference).unwrap().entrypoint, ["/proc/self/exe", "agent"]);
        }
        assert_eq!(images().references(), ["a9s/postgresql:15", object_store::manifests::VERSIONED]);
    }

    #[test]
    fn any_other_image_is_refused_by_its_name() {
        for reference in ["a9s/postgresql:14", "a9s/postgresql", "nginx:latest", "a9s/postgresqlx:15"] {
            let error = images().resolve(reference).unwrap_err();
            assert!(error.contains(reference) && error.contains("a9s/postgresql:15"), "{error}");
        }
    }
}
