//! Images: names under which programs of this host run as containers.

use std::path::PathBuf;

/// A program of this host that a container of some image runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// The program, as an absolute path, and its first arguments. A container's `command` replaces it, its `args` follow.
    pub entrypoint: Vec<String>,
    /// Environment that the image brings, `PATH` above all. A container's own variables win.
    pub env: Vec<(String, String)>,
    /// Where the process starts, unless the container says otherwise.
    pub working_dir: Option<PathBuf>,
    /// Files and directories of this host that the program needs and must not change. They are where they are there, also
    /// if the container does not see the directories around them.
    pub read_only: Vec<PathBuf>,
}

/// The images a node can run. Any other image is answered as a registry that does not have it would be.
pub trait ImageCatalogue: Send + Sync + 'static {
    /// The program behind `reference` (for example `a9s/postgresql:15`).
    ///
    /// # Errors
    /// One sentence that says why the image can't be run here; it becomes the message of `ErrImagePull`.
    fn resolve(&self, reference: &str) -> Result<Image, String>;

    /// All references this catalogue answers, for `node.status.images`.
    fn references(&self) -> Vec<String>;
}
