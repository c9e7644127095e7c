//! Makes the directories of a pod's volumes.
//!
//! Containers of another user get only what that user could reach: a mount leads past directories that are closed to them.
//! What is found has no links in it, and the launcher follows none: a path that was looked at here is not another one there.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume, VolumeMount,
};
use kube::Api;

use super::content::{self, Origin};
use super::{Error, Material, Tokens, Volumes, atomic, beneath};
use crate::node::HostUser;
use crate::node::downward::{Capacity, Place};
use crate::node::launcher::spec::Mount;
use crate::node::paths::PodPaths;

/// A volume that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its file or directory on the host, without links.
    pub path: PathBuf,
    /// Containers can't write to it.
    pub read_only: bool,
}

/// What making a pod's volumes takes.
pub struct Shop<'a> {
    /// For claims.
    pub client: &'a kube::Client,
    /// The pod.
    pub pod: &'a Pod,
    /// Its directories.
    pub paths: &'a PodPaths,
    /// Below it missing directories may be made.
    pub volumes: &'a Path,
    /// Its addresses.
    pub place: &'a Place,
    /// What it may use.
    pub capacity: &'a Capacity,
    /// ConfigMaps and Secrets.
    pub material: &'a Material,
    /// Its tokens.
    pub tokens: &'a Tokens,
    /// Owner of files.
    pub owner: Option<&'a HostUser>,
}

impl Shop<'_> {
    /// Makes all volumes; those that exist are brought up to date.
    ///
    /// # Errors
    /// The first volume that can't be made, by name.
    pub async fn prepare(&self) -> Result<Volumes, (String, Error)> {
        let mut volumes = Volumes::new();
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let prepared = self.volume(volume).await.map_err(|error| (volume.name.clone(), error))?;
            volumes.insert(volume.name.clone(), prepared);
        }
        Ok(volumes)
    }

    /// Writes the volumes of ConfigMaps, Secrets, tokens and fields again, if they changed. One that can't be written
    /// keeps no other from it: a token must be renewed although a ConfigMap is gone.
    ///
    /// # Errors
    /// As [`Shop::prepare`].
    pub fn refresh(&self) -> Result<(), (String, Error)> {
        let mut result = Ok(());
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let written = self.generated(volume).map_err(|error| (volume.name.clone(), error));
            result = result.and(written.map(drop));
        }
        result
    }

    async fn volume(&self, volume: &Volume) -> Result<Prepared, Error> {
        if let Some(prepared) = self.generated(volume)? {
            return Ok(prepared);
        }
        if let Some(source) = &volume.empty_dir {
            let base = if source.medium.as_deref() == Some("Memory") { &self.paths.run } else { &self.paths.data };
            let base = base.join("volumes");
            self.make_shared(&base, Path::new(&volume.name))?;
            return Ok(Prepared { path: real(&base.join(&volume.name))?, read_only: false });
        }
        if let Some(source) = &volume.persistent_volume_claim {
            let path = self.claim(&source.claim_name).await?;
            return Ok(Prepared { path, read_only: source.read_only == Some(true) });
        }
        if let Some(source) = &volume.host_path {
            return Ok(Prepared { path: self.host_path(source)?, read_only: false });
        }
        Err(Error::Source("volumes of this kind are not supported by this node".into()))
    }

    fn generated(&self, volume: &Volume) -> Result<Option<Prepared>, Error> {
        let origin = Origin {
            pod: self.pod,
            place: self.place,
            capacity: self.capacity,
            material: self.material,
            tokens: self.tokens,
        };
        let Some(files) = content::files(volume, &origin) else { return Ok(None) };
        let path = self.paths.run.join("volumes").join(&volume.name);
        let files = files.map_err(Error::Source)?;
        let failed = |source| Error::Write { path: path.clone(), source };
        atomic::write(&path, &files, self.owner).map_err(failed)?;
        self.make_mount_points(&volume.name, &path).map_err(failed)?;
        Ok(Some(Prepared { path: real(&path)?, read_only: true }))
    }

    /// Makes the directories on which containers mount other volumes in this one, where they can't make them themselves
    /// (kubelet's `MakeNestedMountpoints`).
    fn make_mount_points(&self, volume: &str, path: &Path) -> std::io::Result<()> {
        let Some(spec) = &self.pod.spec else { return Ok(()) };
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let mounts = || container.volume_mounts.iter().flatten();
            for own in mounts().filter(|mount| mount.name == volume) {
                for mount in mounts() {
                    let Ok(inside) = Path::new(&mount.mount_path).strip_prefix(&own.mount_path) else { continue };
                    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
                    let place = path.join(inside);
                    if is_plain && !place.exists() {
                        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(place)?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn claim(&self, name: &str) -> Result<PathBuf, Error> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let missing = || Error::Source(format!("persistentvolumeclaim \"{name}\" not found"));
        let claim = claims.get_opt(name).await?.ok_or_else(missing)?;
        let bound = claim.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Bound");
        let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|_| bound);
        let volume =
            volume.ok_or_else(|| Error::Source(format!("persistentvolumeclaim \"{name}\" is not bound yet")))?;
        let found = Api::<PersistentVolume>::all(self.client.clone()).get_opt(&volume).await?;
        let spec = found.and_then(|volume| volume.spec).unwrap_or_default();
        let path = spec.host_path.map(|source| source.path).or_else(|| spec.local.map(|source| source.path));
        let path = path
            .map(PathBuf::from)
            .ok_or_else(|| Error::Source(format!("persistentvolume \"{volume}\" is not a directory of this host")))?;
        if let Ok(relative) = path.strip_prefix(self.volumes) {
            self.make_volume(relative)?;
        }
        let resolved = real(&path)?;
        self.allow(&resolved, || format!("persistentvolume \"{volume}\""))?;
        Ok(resolved)
    }

    fn host_path(&self, source: &HostPathVolumeSource) -> Result<PathBuf, Error> {
        let path = PathBuf::from(&source.path);
        let kind = source.type_.as_deref().unwrap_or_default();
        if path.components().any(|part| part == Component::ParentDir) || !path.is_absolute() {
            return Err(Error::Source(format!("hostPath {} is not an absolute path", source.path)));
        }
        if let ("DirectoryOrCreate", false) = (kind, path.exists()) {
            let Ok(relative) = path.strip_prefix(self.volumes) else {
                return Err(Error::Source(format!(
                    "hostPath {} does not exist, and is only made below {}",
                    source.path,
                    self.volumes.display()
                )));
            };
            self.make_volume(relative)?;
        }
        let resolved = fs_err::canonicalize(&path)
            .map_err(|_| Error::Source(format!("hostPath type check failed: {} does not exist", source.path)))?;
        let is_right = match kind {
            "Directory" | "DirectoryOrCreate" => resolved.is_dir(),
            "File" | "FileOrCreate" => resolved.is_file(),
            _ => true,
        };
        if !is_right {
            return Err(Error::Source(format!("hostPath type check failed: {} is not a {kind}", source.path)));
        }
        self.allow(&resolved, || format!("hostPath {}", source.path))?;
        Ok(resolved)
    }

    fn allow(&self, resolved: &Path, what: impl Fn() -> String) -> Result<(), Error> {
        self.allow_within(Path::new("/"), resolved, what)
    }

    /// Whether the containers' user may pass through the directories from one down to a path.
    fn allow_within(&self, from: &Path, resolved: &Path, what: impl Fn() -> String) -> Result<(), Error> {
        let Some(user) = self.owner else { return Ok(()) };
        let mut way = resolved.ancestors().skip(1).take_while(|directory| directory.starts_with(from));
        match way.find(|directory| !user.may_pass(directory)) {
            None => Ok(()),
            Some(closed) => Err(Error::Source(format!(
                "{} is behind {}, which the user {} may not pass through",
                what(),
                closed.display(),
                user.name
            ))),
        }
    }

    /// A directory below the cluster's volumes.
    fn make_volume(&self, relative: &Path) -> Result<(), Error> {
        let root = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(self.volumes);
        root.map_err(|source| Error::Write { path: self.volumes.to_path_buf(), source })?;
        self.make_shared(self.volumes, relative)
    }

    /// A directory for the containers' user; what is there stays.
    fn make_shared(&self, root: &Path, relative: &Path) -> Result<(), Error> {
        let made = beneath::make(root, relative, self.owner);
        made.map_err(|source| Error::Write { path: root.join(relative), source })
    }

    /// The mount of a container's `volumeMount`, with `subPathExpr` expanded by `expand`.
    ///
    /// # Errors
    /// An unknown volume, or a subPath that leaves it.
    pub fn mount(
        &self,
        volumes: &Volumes,
        mount: &VolumeMount,
        expand: impl Fn(&str) -> String,
    ) -> Result<Mount, Error> {
        let unknown = || Error::Source(format!("volume \"{}\" not found", mount.name));
        let volume = volumes.get(&mount.name).ok_or_else(unknown)?;
        let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(expression), _) if !expression.is_empty() => expand(expression),
            (_, Some(path)) => path.clone(),
            _ => String::new(),
        };
        let source = if sub_path.is_empty() { volume.path.clone() } else { self.inside(&volume.path, &sub_path)? };
        Ok(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: volume.read_only || mount.read_only == Some(true),
        })
    }

    fn inside(&self, volume: &Path, sub_path: &str) -> Result<PathBuf, Error> {
        let refuse = || Error::Source(format!("subPath {sub_path} is not inside of its volume"));
        let relative = Path::new(sub_path);
        if relative.is_absolute() || relative.components().any(|part| part == Component::ParentDir) {
            return Err(refuse());
        }
        let path = volume.join(relative);
        // A program in another container may have put a link there: what exists is looked at before anything is made.
        let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(volume);
        let found = real(existing)?;
        if !found.starts_with(volume) {
            return Err(refuse());
        }
        if let Ok(missing) = path.strip_prefix(existing)
            && missing.components().next().is_some()
        {
            let root = self.root_of(volume).ok_or_else(|| {
                Error::Source(format!(
                    "subPath {sub_path} does not exist, and is not made outside of the cluster's volumes"
                ))
            })?;
            let target = found.join(missing);
            self.make_shared(&root, target.strip_prefix(&root).map_err(|_| refuse())?)?;
        }
        let resolved = real(&path)?;
        if !resolved.starts_with(volume) {
            return Err(refuse());
        }
        self.allow_within(volume, &resolved, || format!("subPath {sub_path}"))?;
        Ok(resolved)
    }

    /// The directory of the node's own that a volume lies in. With the rights of containers, everything may be made.
    fn root_of(&self, volume: &Path) -> Option<PathBuf> {
        let own = [self.paths.run.join("volumes"), self.paths.data.join("volumes"), self.volumes.to_path_buf()];
        let mut own = own.iter().filter_map(|root| fs_err::canonicalize(root).ok());
        own.find(|root| volume.starts_with(root)).or_else(|| self.owner.is_none().then(|| volume.to_path_buf()))
    }
}

/// The path without links.
fn real(path: &Path) -> Result<PathBuf, Error> {
    fs_err::canonicalize(path).map_err(|source| Error::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_volume_that_cannot_be_written_keeps_no_other_from_being_brought_up_to_date() {
        let directory = tempfile::tempdir().unwrap();
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let client = kube::Client::new(service, "default");
        let volume = |name: &str| json!({"name": name, "configMap": {"name": name}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [], "volumes": [volume("gone"), volume("there"), volume("lost")]},
        }))
        .unwrap();
        let map = serde_json::from_value(json!({"data": {"k": "v"}})).unwrap();
        let material = Material { config_maps: [("there".to_owned(), Some(map))].into(), ..Material::default() };
        let paths = PodPaths::new(&directory.path().join("data"), &directory.path().join("run"), "u");
        let shop = Shop {
            client: &client,
            pod: &pod,
            paths: &paths,
            volumes: directory.path(),
            place: &Place::default(),
            capacity: &Capacity { cpus: 1.0, memory: 1.0, storage: 1.0 },
            material: &material,
            tokens: &Tokens::default(),
            owner: None,
        };
        let (volume, error) = shop.refresh().unwrap_err();
        assert_eq!((volume.as_str(), error.to_string().as_str()), ("gone", "configmap \"gone\" not found"));
        assert_eq!(fs_err::read_to_string(paths.run.join("volumes/there/k")).unwrap(), "v");
    }
}
