//! Which mounts make a container's view of the file system: the host's directories but those that are hidden, with a
//! private `/tmp`, `/run` and `/dev`, and the volumes at their paths. This is the plan only, computed from what the
//! host has; [`super::mount`] carries it out.
//!
//! The root is a tmpfs of the container. A mount point that the host does not have is never created there: the
//! nearest directory that exists is covered by a tmpfs into which the host's entries are bound again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::spec::Mount;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything that can be bound on a file: also devices and sockets.
    File,
    /// A symbolic link and its text.
    Link(PathBuf),
}

/// The host's files, as far as a plan needs them.
pub trait Host {
    /// What is at an absolute path, not following a link in its last part; `None`: nothing.
    fn kind(&self, path: &Path) -> Option<Kind>;

    /// Entries of a directory.
    ///
    /// # Errors
    /// As reading the directory.
    fn entries(&self, path: &Path) -> io::Result<Vec<OsString>>;
}

/// One thing to do. Targets are absolute in the container, free of links, and below directories that exist by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Mount an empty file system, its root with this mode.
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// Permissions of its root.
        mode: u32,
    },
    /// Make a directory.
    Directory {
        /// Where.
        target: PathBuf,
    },
    /// Make an empty file to mount on.
    File {
        /// Where.
        target: PathBuf,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        target: PathBuf,
        /// Its text.
        to: PathBuf,
    },
    /// Mount something of the host.
    Bind {
        /// Path on the host.
        source: PathBuf,
        /// Where.
        target: PathBuf,
        /// No writing.
        read_only: bool,
        /// It belongs to the host's tree rather than to a volume; that it fails hides it and nothing else.
        optional: bool,
    },
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory of the host can't be listed.
    #[error("cannot list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mount path or the source is no path that can be used.
    #[error("{path} cannot be a mount point: {why}")]
    Target {
        /// The path.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The source of a volume is gone.
    #[error("{path} does not exist")]
    Source {
        /// The path.
        path: PathBuf,
    },
}

/// Directories that a container does not share with the host.
const PRIVATE: [&str; 3] = ["dev", "run", "tmp"];
/// Devices every container has (OCI runtime specification, *Default Devices*).
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
/// Links in `/dev` (OCI runtime specification, *Dev symbolic links*).
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// What of the host's `/run` name services need.
const NAME_SERVICES: [&str; 2] = ["/run/nscd", "/run/systemd/userdb"];

/// The steps that make the view with these mounts, in which the `hidden` directories of the host are empty. `/tmp` is
/// private only if a mount says so; it is empty otherwise.
///
/// # Errors
/// A mount whose source is missing, or whose target can't exist.
pub fn plan(host: &dyn Host, hidden: &[PathBuf], mounts: &[Mount]) -> Result<Vec<Step>, Error> {
    let mut planner = Planner { host, hidden, origins: BTreeMap::new(), steps: Vec::new() };
    planner.root()?;
    planner.run();
    planner.devices();
    planner.hide_below(Path::new("/"));
    let mut ordered: Vec<&Mount> = mounts.iter().collect();
    // A mount below another's path has to come after it. The sort is stable.
    ordered.sort_by_key(|mount| mount.target.components().count());
    for mount in ordered {
        planner.mount(mount)?;
    }
    Ok(planner.steps)
}

/// Where what is at a path of the view comes from.
enum Origin {
    /// A tmpfs of the container, with what has been made in it so far.
    Own(BTreeMap<OsString, Kind>),
    /// A directory or file of the host, in place.
    Host(PathBuf),
    /// A volume.
    Volume(PathBuf),
}

struct Planner<'a> {
    host: &'a dyn Host,
    hidden: &'a [PathBuf],
    origins: BTreeMap<PathBuf, Origin>,
    steps: Vec<Step>,
}

impl Planner<'_> {
    fn root(&mut self) -> Result<(), Error> {
        self.tmpfs(Path::new("/"), 0o755);
        let entries = list(self.host, Path::new("/"))?;
        for name in entries {
            if PRIVATE.iter().any(|private| name == *private) {
                continue;
            }
            self.reuse(&Path::new("/").join(&name), &Path::new("/").join(&name));
        }
        for name in PRIVATE {
            self.directory(&Path::new("/").join(name));
        }
        Ok(())
    }

    fn run(&mut self) {
        // Unprivileged programs make their socket directories here, as images prepare it for them elsewhere.
        self.tmpfs(Path::new("/run"), 0o1777);
        for path in NAME_SERVICES.map(Path::new) {
            if self.host.kind(path) == Some(Kind::Directory) {
                self.directories(path);
                self.bind(path, path, false, true);
            }
        }
        // Where the resolver's configuration is a link into /run, that file stays visible.
        if let Some(Kind::Link(to)) = self.host.kind(Path::new("/etc/resolv.conf")) {
            let target = normal(&Path::new("/etc").join(to));
            if target.starts_with("/run") && self.host.kind(&target) == Some(Kind::File) {
                if let Some(parent) = target.parent() {
                    self.directories(parent);
                }
                self.file(&target);
                self.bind(&target, &target, true, true);
            }
        }
    }

    fn devices(&mut self) {
        let dev = Path::new("/dev");
        self.tmpfs(dev, 0o755);
        for name in DEVICES {
            self.reuse(&dev.join(name), &dev.join(name));
        }
        self.reuse(&dev.join("pts"), &dev.join("pts"));
        for (name, to) in DEVICE_LINKS {
            self.link(&dev.join(name), Path::new(to));
        }
        self.directory(&dev.join("shm"));
        self.tmpfs(&dev.join("shm"), 0o1777);
    }

    /// Covers the hidden directories, where the host's are shown below a directory.
    fn hide_below(&mut self, directory: &Path) {
        for hidden in self.hidden {
            let Some((place, missing)) = self.resolve(hidden) else { continue };
            let is_shown = missing.as_os_str().is_empty() && matches!(self.origin(&place), (Origin::Host(_), _));
            if is_shown && place.starts_with(directory) && self.kind(&place) == Some(Kind::Directory) {
                self.tmpfs(&place, 0o755);
            }
        }
    }

    fn mount(&mut self, mount: &Mount) -> Result<(), Error> {
        let problem = |why| Error::Target { path: mount.target.clone(), why };
        if !mount.target.is_absolute() || mount.target.components().any(|part| part == Component::ParentDir) {
            return Err(problem("it is not an absolute path without `..`"));
        }
        let kind = match self.host.kind(&mount.source) {
            None | Some(Kind::Link(_)) => return Err(Error::Source { path: mount.source.clone() }),
            Some(kind) => kind,
        };
        let (target, missing) = self.resolve(&mount.target).ok_or_else(|| problem("too many symbolic links"))?;
        if missing.as_os_str().is_empty() {
            if target == Path::new("/") {
                return Err(problem("it is the root directory"));
            }
            if self.kind(&target) != Some(kind) {
                return Err(problem("a directory and a file can't be mounted on each other"));
            }
            self.bind(&mount.source, &target, mount.read_only, false);
            return Ok(());
        }
        if self.kind(&target) != Some(Kind::Directory) {
            return Err(problem("a part of it is not a directory"));
        }
        self.make_writable(&target)?;
        let full = target.join(&missing);
        match kind {
            Kind::Directory => self.directories(&full),
            Kind::File | Kind::Link(_) => {
                if let Some(parent) = full.parent() {
                    self.directories(parent);
                }
                self.file(&full);
            }
        }
        self.bind(&mount.source, &full, mount.read_only, false);
        Ok(())
    }

    /// Covers `directory` by a tmpfs with the host's entries, if it is the host's own.
    fn make_writable(&mut self, directory: &Path) -> Result<(), Error> {
        let (origin, rest) = self.origin(directory);
        let Origin::Host(base) = origin else { return Ok(()) };
        let source = join(base, &rest);
        let entries = list(self.host, &source)?;
        self.tmpfs(directory, 0o755);
        for name in entries {
            self.reuse(&source.join(&name), &directory.join(&name));
        }
        self.hide_below(directory);
        Ok(())
    }

    /// The deepest existing path, without links, and what of the wanted path is missing below it.
    fn resolve(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let mut rest: Vec<OsString> = names(path).rev().collect();
        let mut reached = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                reached.pop();
                continue;
            }
            let next = reached.join(&name);
            match self.kind(&next) {
                Some(Kind::Link(to)) => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    if to.is_absolute() {
                        reached = PathBuf::from("/");
                    }
                    rest.extend(names(&to).rev());
                }
                Some(_) => reached = next,
                None => {
                    rest.push(name);
                    break;
                }
            }
        }
        Some((reached, rest.into_iter().rev().collect()))
    }

    /// What is at a path of the view whose parents have no links.
    fn kind(&self, path: &Path) -> Option<Kind> {
        if path == Path::new("/") {
            return Some(Kind::Directory);
        }
        match self.origin(path) {
            (Origin::Host(base) | Origin::Volume(base), rest) => self.host.kind(&join(base, &rest)),
            (Origin::Own(_), rest) if rest.as_os_str().is_empty() => Some(Kind::Directory),
            (Origin::Own(made), rest) => made.get(rest.as_os_str()).cloned(),
        }
    }

    fn origin(&self, path: &Path) -> (&Origin, PathBuf) {
        for ancestor in path.ancestors() {
            if let Some(origin) = self.origins.get(ancestor) {
                let rest = path.strip_prefix(ancestor).unwrap_or(Path::new("")).to_path_buf();
                return (origin, rest);
            }
        }
        unreachable!("the root is planned before anything else")
    }

    /// Shows an entry of the host at `target`, as what it is.
    fn reuse(&mut self, source: &Path, target: &Path) {
        match self.host.kind(source) {
            None => {}
            Some(Kind::Link(to)) => self.link(target, &to),
            Some(Kind::Directory) => {
                self.directory(target);
                self.bind_host(source, target);
            }
            Some(Kind::File) => {
                self.file(target);
                self.bind_host(source, target);
            }
        }
    }

    fn bind_host(&mut self, source: &Path, target: &Path) {
        self.origins.insert(target.to_path_buf(), Origin::Host(source.to_path_buf()));
        self.steps.push(Step::Bind {
            source: source.to_path_buf(),
            target: target.to_path_buf(),
            read_only: false,
            optional: true,
        });
    }

    fn bind(&mut self, source: &Path, target: &Path, read_only: bool, optional: bool) {
        // What was known below is hidden now.
        self.origins.retain(|path, _| !path.starts_with(target));
        self.origins.insert(target.to_path_buf(), Origin::Volume(source.to_path_buf()));
        self.steps.push(Step::Bind { source: source.to_path_buf(), target: target.to_path_buf(), read_only, optional });
    }

    fn tmpfs(&mut self, target: &Path, mode: u32) {
        self.origins.retain(|path, _| !path.starts_with(target));
        self.origins.insert(target.to_path_buf(), Origin::Own(BTreeMap::new()));
        self.steps.push(Step::Tmpfs { target: target.to_path_buf(), mode });
    }

    fn directories(&mut self, path: &Path) {
        let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| self.kind(ancestor).is_none()).collect();
        for directory in missing.into_iter().rev() {
            self.directory(directory);
        }
    }

    fn directory(&mut self, target: &Path) {
        self.made(target, Kind::Directory);
        self.steps.push(Step::Directory { target: target.to_path_buf() });
    }

    fn file(&mut self, target: &Path) {
        self.made(target, Kind::File);
        self.steps.push(Step::File { target: target.to_path_buf() });
    }

    fn link(&mut self, target: &Path, to: &Path) {
        self.made(target, Kind::Link(to.to_path_buf()));
        self.steps.push(Step::Link { target: target.to_path_buf(), to: to.to_path_buf() });
    }

    /// Remembers what was made in a tmpfs of ours. Entries are kept by their path below the tmpfs.
    fn made(&mut self, target: &Path, kind: Kind) {
        for ancestor in target.ancestors().skip(1) {
            if let Some(origin) = self.origins.get_mut(ancestor) {
                if let (Origin::Own(made), Ok(rest)) = (origin, target.strip_prefix(ancestor)) {
                    made.insert(rest.as_os_str().to_owned(), kind);
                }
                return;
            }
        }
    }
}

fn list(host: &dyn Host, path: &Path) -> Result<Vec<OsString>, Error> {
    let mut entries = host.entries(path).map_err(|source| Error::List { path: path.to_path_buf(), source })?;
    entries.sort();
    Ok(entries)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_path_buf() } else { base.join(rest) }
}

/// The path without `.` and `..`, taken by their words.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for name in names(path) {
        if name == ".." {
            out.pop();
        } else {
            out.push(name);
        }
    }
    out
}

/// The files of this machine.
pub struct ThisHost;

impl Host for ThisHost {
    fn kind(&self, path: &Path) -> Option<Kind> {
        let meta = fs_err::symlink_metadata(path).ok()?;
        if meta.is_symlink() {
            return fs_err::read_link(path).ok().map(Kind::Link);
        }
        Some(if meta.is_dir() { Kind::Directory } else { Kind::File })
    }

    fn entries(&self, path: &Path) -> io::Result<Vec<OsString>> {
        fs_err::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of the listed directories (ending in `/`), files, and links (`path -> text`).
    struct Fake(BTreeMap<PathBuf, Kind>);

    impl Fake {
        fn new(lines: &[&str]) -> Self {
            let mut all = BTreeMap::new();
            for line in lines {
                let (path, kind) = match line.split_once(" -> ") {
                    Some((path, to)) => (path, Kind::Link(to.into())),
                    None if line.ends_with('/') => (line.trim_end_matches('/'), Kind::Directory),
                    None => (*line, Kind::File),
                };
                all.insert(PathBuf::from(path), kind);
            }
            Self(all)
        }
    }

    impl Host for Fake {
        fn kind(&self, path: &Path) -> Option<Kind> {
            self.0.get(path).cloned()
        }

        fn entries(&self, path: &Path) -> io::Result<Vec<OsString>> {
            let children = self.0.keys().filter(|entry| entry.parent() == Some(path));
            Ok(children.filter_map(|entry| entry.file_name()).map(OsString::from).collect())
        }
    }

    fn host() -> Fake {
        Fake::new(&[
            "/bin -> usr/bin",
            "/dev/",
            "/dev/null",
            "/etc/",
            "/etc/hosts",
            "/home/",
            "/home/ann/",
            "/home/note",
            "/proc/",
            "/run/",
            "/run/x",
            "/tmp/",
            "/usr/",
            "/usr/bin/",
            "/var/",
            "/var/run -> /run",
            "/v/",
            "/v/sub/",
            "/f",
        ])
    }

    fn mount(source: &str, target: &str) -> Mount {
        Mount { source: source.into(), target: target.into(), read_only: false }
    }

    fn steps(mounts: &[Mount]) -> Vec<String> {
        let base = plan(&host(), &[], &[]).unwrap().len();
        plan(&host(), &[], mounts).unwrap()[base..].iter().map(words).collect()
    }

    fn words(step: &Step) -> String {
        match step {
            Step::Tmpfs { target, mode } => format!("tmpfs {} {mode:o}", target.display()),
            Step::Directory { target } => format!("dir {}", target.display()),
            Step::File { target } => format!("file {}", target.display()),
            Step::Link { target, to } => format!("link {} {}", target.display(), to.display()),
            Step::Bind { source, target, read_only, .. } => {
                let mode = if *read_only { " ro" } else { "" };
                format!("bind {} {}{mode}", source.display(), target.display())
            }
        }
    }

    #[test]
    fn the_root_shows_the_host_but_its_own_tmp_run_and_dev() {
        let all: Vec<String> = plan(&host(), &[], &[]).unwrap().iter().map(words).collect();
        assert!(all.contains(&"link /bin usr/bin".to_owned()));
        assert!(all.contains(&"bind /etc /etc".to_owned()));
        assert!(all.contains(&"tmpfs /run 1777".to_owned()));
        assert!(all.contains(&"bind /dev/null /dev/null".to_owned()));
        assert!(all.contains(&"tmpfs /dev/shm 1777".to_owned()));
        assert!(!all.iter().any(|step| step.starts_with("bind /run") || step.starts_with("bind /tmp")));
    }

    #[test]
    fn a_mount_point_that_exists_is_only_mounted_on() {
        assert_eq!(steps(&[mount("/f", "/etc/hosts")]), ["bind /f /etc/hosts"]);
    }

    #[test]
    fn a_missing_mount_point_at_the_root_is_made_in_the_container() {
        assert_eq!(steps(&[mount("/v", "/pgdata/16")]), ["dir /pgdata", "dir /pgdata/16", "bind /v /pgdata/16"]);
    }

    #[test]
    fn a_missing_mount_point_in_a_directory_of_the_host_covers_that_directory() {
        assert_eq!(
            steps(&[mount("/v", "/home/postgres/pgdata")]),
            [
                "tmpfs /home 755",
                "dir /home/ann",
                "bind /home/ann /home/ann",
                "file /home/note",
                "bind /home/note /home/note",
                "dir /home/postgres",
                "dir /home/postgres/pgdata",
                "bind /v /home/postgres/pgdata",
            ]
        );
    }

    #[test]
    fn links_of_the_host_are_followed_inside_the_view() {
        assert_eq!(
            steps(&[mount("/v", "/var/run/secrets/token")]),
            ["dir /run/secrets", "dir /run/secrets/token", "bind /v /run/secrets/token"]
        );
    }

    #[test]
    fn a_mount_below_another_volume_is_made_in_the_volume() {
        assert_eq!(
            steps(&[mount("/etc", "/data/a/b"), mount("/v", "/data")]),
            ["dir /data", "bind /v /data", "dir /data/a", "dir /data/a/b", "bind /etc /data/a/b"]
        );
        assert_eq!(
            steps(&[mount("/v", "/data"), mount("/etc", "/data/sub")]),
            ["dir /data", "bind /v /data", "bind /etc /data/sub"]
        );
    }

    #[test]
    fn a_second_mount_in_a_covered_directory_covers_nothing_again() {
        let all = steps(&[mount("/v", "/home/one"), mount("/v", "/home/two")]);
        assert_eq!(all.iter().filter(|step| step.starts_with("tmpfs")).count(), 1);
        assert_eq!(all.last().unwrap(), "bind /v /home/two");
    }

    #[test]
    fn hidden_directories_are_empty_but_for_what_is_mounted_there() {
        let hidden = ["/home/ann", "/var/run/x", "/tmp/own", "/nowhere", "/home/note", "/"].map(PathBuf::from);
        let base = plan(&host(), &[], &[]).unwrap().len();
        let mounts = [mount("/v", "/home/ann/shown"), mount("/home/ann", "/data")];
        let all = plan(&host(), &hidden, &mounts).unwrap();
        assert_eq!(
            all[base..].iter().map(words).collect::<Vec<_>>(),
            [
                "tmpfs /home/ann 755",
                "dir /data",
                "bind /home/ann /data",
                "dir /home/ann/shown",
                "bind /v /home/ann/shown",
            ]
        );
        // They stay hidden where the directory that they are in is made anew.
        let all = plan(&host(), &hidden, &[mount("/v", "/home/new")]).unwrap();
        let all: Vec<String> = all[base..].iter().map(words).collect();
        assert_eq!(all.iter().filter(|step| *step == "tmpfs /home/ann 755").count(), 2);
        assert!(all.ends_with(&["dir /home/new".to_owned(), "bind /v /home/new".to_owned()]), "{all:?}");
        let of_ann = |step: &String| step.ends_with("/home/ann") || step.ends_with("/home/ann 755");
        assert_eq!(all.iter().rfind(|step| of_ann(step)).unwrap(), "tmpfs /home/ann 755");
    }

    #[test]
    fn what_cannot_be_a_mount_point_is_refused() {
        for (source, target, message) in [
            ("/v", "/", "/ cannot be a mount point: it is the root directory"),
            ("/v", "relative", "relative cannot be a mount point: it is not an absolute path without `..`"),
            ("/v", "/a/../b", "/a/../b cannot be a mount point: it is not an absolute path without `..`"),
            ("/v", "/f/x", "/f/x cannot be a mount point: a part of it is not a directory"),
            ("/v", "/f", "/f cannot be a mount point: a directory and a file can't be mounted on each other"),
            ("/gone", "/a", "/gone does not exist"),
        ] {
            assert_eq!(plan(&host(), &[], &[mount(source, target)]).unwrap_err().to_string(), message);
        }
    }
}
