//! What a stack is made of: which released documents, and which images are elsewhere. The cluster has it on record: whoever
//! installs the stack again, also from another machine, must neither bring another version nor send images back to
//! registries that can't be reached by saying nothing.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Site, inventory};
use crate::finding::{Finding, Id};
use crate::manifest::images::{ImageMap, Rows};
use crate::manifest::release::Version;
use crate::step::{Observation, Step};
use crate::steps::install::StackName;
use crate::steps::release::{CERT_MANAGER, Wanted, is_file};

/// What a stack is made of, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Supply {
    /// Which released manifests; the builtin stack has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// cert-manager's version, or a file with its document; the builtin stack has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<String>,
    /// Images that are elsewhere, beside those that the program knows of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Rows>,
}

impl Supply {
    /// What a stack is made of when nothing is said.
    fn usual(stack: StackName) -> Self {
        let is_released = stack == StackName::Upstream;
        Self {
            version: is_released.then(Version::default),
            cert_manager: is_released.then(|| CERT_MANAGER.to_owned()),
            images: Some(Rows::new()),
        }
    }

    /// The same, and what is not said as the other has it.
    fn or(self, other: &Self) -> Self {
        Self {
            version: self.version.or_else(|| other.version.clone()),
            cert_manager: self.cert_manager.or_else(|| other.cert_manager.clone()),
            images: self.images.or_else(|| other.images.clone()),
        }
    }

    /// The same, with paths that are found from everywhere: they are read again by a run that begins elsewhere.
    #[must_use]
    pub fn with_whole_paths(self) -> Self {
        let whole = |path: &Path| {
            let path = crate::caller::path(path);
            std::path::absolute(&path).unwrap_or(path)
        };
        Self {
            version: self.version.map(|version| match version {
                Version::Directory(path) => Version::Directory(whole(&path)),
                fetched => fetched,
            }),
            cert_manager: self.cert_manager.map(|version| match is_file(&version) {
                true => whole(Path::new(&version)).to_string_lossy().into_owned(),
                false => version,
            }),
            images: self.images,
        }
    }

    fn parse(text: &str) -> Result<Self, Finding> {
        serde_json::from_str(text).map_err(|error| {
            let place = inventory::place_of_supply();
            Finding::new(Id::ManifestsDamaged, format!("the {place} does not say what the stack is made of: {error}"))
                .advise("Correct it, or remove it and say again --deployment-version, --cert-manager and --image-map.")
        })
    }

    /// As the record has it: one line without blanks, so that no line of objects is read in it.
    fn line(&self) -> String {
        // Texts by texts can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The choice of a run: what is said, and the rest as soon as it is known what the cluster has on record.
pub struct Choice {
    wish: Supply,
    usual: Supply,
    found: OnceLock<Supply>,
}

impl Choice {
    /// What is said alone, until something is found.
    pub fn new(stack: StackName, wish: Supply) -> Arc<Self> {
        Arc::new(Self { wish, usual: Supply::usual(stack), found: OnceLock::new() })
    }

    /// What is not said is as it was found; the first that is found counts.
    pub fn settle(&self, found: Supply) {
        let found = if sabotage::sabotaged!("supply-is-forgotten") { Supply::default() } else { found };
        let _ = self.found.set(found);
    }

    /// Whether it is known what the cluster has.
    pub fn is_settled(&self) -> bool {
        self.found.get().is_some()
    }

    /// What the stack is made of; as long as nobody has looked, what is said, or usual.
    fn supply(&self) -> Supply {
        let found = self.found.get().cloned().unwrap_or_default();
        self.wish.clone().or(&found).or(&self.usual)
    }

    /// The released manifests.
    pub fn manifests(&self) -> Wanted {
        Wanted::Manifests(self.supply().version.unwrap_or_default())
    }

    /// cert-manager's document.
    pub fn cert_manager(&self) -> Wanted {
        Wanted::cert_manager(self.supply().cert_manager.as_deref().unwrap_or(CERT_MANAGER))
    }

    /// Images that are elsewhere.
    pub fn images(&self) -> ImageMap {
        ImageMap::with(self.supply().images.unwrap_or_default())
    }

    /// The same, for who reads them when they are known.
    pub fn images_later(self: Arc<Self>) -> impl Fn() -> ImageMap + Send + Sync {
        move || self.images()
    }

    /// What is noted in the cluster.
    pub(super) fn record(&self) -> String {
        self.supply().line()
    }

    /// What was found and stays because nothing is said of it, where it is not what is usual; each with the flag that says
    /// otherwise.
    pub fn kept(&self) -> Vec<String> {
        let (wish, usual) = (&self.wish, &self.usual);
        let Some(found) = self.found.get() else { return Vec::new() };
        let mut kept = Vec::new();
        let mut keep = |what: String, flag: &str| kept.push(format!("{what} ({flag} says otherwise)"));
        if let Some(version) = stays(&wish.version, &found.version, &usual.version) {
            keep(format!("version {version}"), "--deployment-version");
        }
        if let Some(version) = stays(&wish.cert_manager, &found.cert_manager, &usual.cert_manager) {
            keep(format!("cert-manager {version}"), "--cert-manager");
        }
        if stays(&wish.images, &found.images, &usual.images).is_some() {
            keep("its image map".to_owned(), "--image-map");
        }
        kept
    }
}

/// What was found, if nothing is said and it is not what is usual.
fn stays<'a, T: PartialEq>(said: &Option<T>, found: &'a Option<T>, usual: &Option<T>) -> Option<&'a T> {
    found.as_ref().filter(|_| said.is_none() && found != usual)
}

/// What the stack of the cluster is made of should be what this run goes on with.
pub struct Adopted {
    /// The cluster.
    pub site: Arc<Site>,
    /// What this run says of it.
    pub choice: Arc<Choice>,
}

#[async_trait]
impl Step for Adopted {
    fn id(&self) -> String {
        "supply-adopted".to_owned()
    }

    fn title(&self) -> String {
        "go on with the versions and images of the cluster's stack".to_owned()
    }

    async fn observe(&self) -> Result<Observation, Finding> {
        let noted = inventory::supply(&self.site).await?;
        self.choice.settle(noted.as_deref().map(Supply::parse).transpose()?.unwrap_or_default());
        let kept = self.choice.kept();
        Ok(Observation::satisfied(match kept.as_slice() {
            [] => "there are no others than those that are said, or usual".to_owned(),
            _ => format!("the stack keeps {}", kept.join(", ")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str) -> Option<Version> {
        Some(Version::Tag(name.to_owned()))
    }

    fn rows() -> Option<Rows> {
        Some([("quay.io/".to_owned(), "mirror.test/quay/".to_owned())].into())
    }

    fn before() -> Supply {
        Supply { version: tag("v1.2.0"), cert_manager: Some("/kept/cert-manager.yaml".to_owned()), images: rows() }
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let choice = Choice::new(StackName::Upstream, Supply::default());
        choice.settle(before());
        assert_eq!(choice.supply(), before());
        assert_eq!(choice.images().replacement("quay.io/x:1").as_deref(), Some("mirror.test/quay/x:1"));
        assert_eq!(
            choice.kept(),
            [
                "version v1.2.0 (--deployment-version says otherwise)",
                "cert-manager /kept/cert-manager.yaml (--cert-manager says otherwise)",
                "its image map (--image-map says otherwise)",
            ]
        );
    }

    #[test]
    fn what_is_said_wins_and_is_noted() {
        let said = Supply { version: Some(Version::Latest), cert_manager: None, images: Some(Rows::new()) };
        let choice = Choice::new(StackName::Upstream, said);
        choice.settle(before());
        assert_eq!(choice.kept(), ["cert-manager /kept/cert-manager.yaml (--cert-manager says otherwise)"]);
        assert_eq!(choice.record(), r#"{"version":"latest","certManager":"/kept/cert-manager.yaml","images":{}}"#);
    }

    #[test]
    fn what_is_usual_is_noted_as_what_it_is_today_and_not_told() {
        let choice = Choice::new(StackName::Upstream, Supply::default());
        let record = choice.record();
        assert_eq!(Supply::parse(&record).unwrap(), Supply::usual(StackName::Upstream));
        choice.settle(Supply::parse(&record).unwrap());
        assert_eq!(choice.kept(), Vec::<String>::new());
    }

    #[test]
    fn the_builtin_stack_has_images_and_no_versions() {
        let choice = Choice::new(StackName::Builtin, Supply { images: rows(), ..Supply::default() });
        assert!(!choice.is_settled());
        choice.settle(Supply::default());
        assert!(choice.is_settled());
        assert_eq!(choice.record(), r#"{"images":{"quay.io/":"mirror.test/quay/"}}"#);
    }

    #[test]
    fn a_path_is_kept_as_it_is_found_from_everywhere() {
        let said = Supply {
            version: Some(Version::Directory("release".into())),
            cert_manager: Some("./cert-manager.yaml".to_owned()),
            images: None,
        };
        let Supply { version, cert_manager, .. } = said.with_whole_paths();
        let here = std::env::current_dir().unwrap();
        assert_eq!(version, Some(Version::Directory(here.join("release"))));
        assert_eq!(cert_manager, Some(here.join("cert-manager.yaml").to_string_lossy().into_owned()));
        assert_eq!(before().with_whole_paths(), before());
    }

    #[test]
    fn a_damaged_record_is_a_finding_that_names_it() {
        for text in ["", "{", r#"{"version": ""}"#, r#"{"images": ["a"]}"#] {
            let finding = Supply::parse(text).unwrap_err();
            assert_eq!(finding.id, Id::ManifestsDamaged);
            let cause = format!("the {} does not say what the stack is made of: ", inventory::place_of_supply());
            assert!(cause.contains("a9s-inventory") && finding.cause.starts_with(&cause), "{finding:?}");
            let advice = "Correct it, or remove it and say again --deployment-version, --cert-manager and --image-map.";
            assert_eq!(finding.advice, [advice]);
        }
    }
}
