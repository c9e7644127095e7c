//! Replaces all files of a volume at once, as kubelets do (kubernetes/kubernetes `pkg/volume/util/atomic_writer.go`):
//! the files are in a directory `..<n>`, `..data` links to it, and every name links into `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt;

use crate::node::HostUser;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the volume.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// The files by their paths: there may be thousands.
type Files<'a> = BTreeMap<&'a Path, &'a File>;

/// Makes `directory` hold exactly these files. Answers whether anything changed. Of two files of one path the latter
/// wins. Paths must be relative and without `..`. Files are given to `owner`.
pub fn write(directory: &Path, files: &[File], owner: Option<&HostUser>) -> io::Result<bool> {
    if let Some(bad) = files.iter().find(|file| !is_plain(&file.path)) {
        return Err(io::Error::other(format!("{} is no path for a file of a volume", bad.path.display())));
    }
    let files: Files<'_> = files.iter().map(|file| (file.path.as_path(), file)).collect();
    if !directory.is_dir() {
        make_directory(directory)?;
    }
    let data = directory.join("..data");
    if data.is_dir() && is_same(&data, &files)? {
        // Whoever was killed in between may have left names out, and files of before.
        update_links(directory, &files)?;
        return Ok(false);
    }
    let name = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = directory.join(&name);
    make_directory(&fresh)?;
    if let Err(error) = files.values().try_for_each(|file| write_file(&fresh, file, owner)) {
        // The next attempt makes another directory.
        let _ = fs_err::remove_dir_all(&fresh);
        return Err(error);
    }
    let next = directory.join("..data_tmp");
    if next.symlink_metadata().is_ok() {
        fs_err::remove_file(&next)?;
    }
    symlink(&name, &next)?;
    fs_err::rename(&next, &data)?;
    update_links(directory, &files)?;
    Ok(true)
}

fn is_plain(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"..")))
}

/// Directories stay the node's: nobody else can put links in its way.
fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn own(path: &Path, owner: Option<&HostUser>) -> io::Result<()> {
    match owner {
        Some(user) => std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

fn write_file(directory: &Path, file: &File, owner: Option<&HostUser>) -> io::Result<()> {
    let path = directory.join(&file.path);
    let parents: Vec<&Path> =
        path.ancestors().skip(1).take_while(|ancestor| *ancestor != directory && !ancestor.is_dir()).collect();
    for parent in parents.into_iter().rev() {
        make_directory(parent)?;
    }
    // Private until it is whole.
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    io::Write::write_all(&mut options.open(&path)?, &file.content)?;
    own(&path, owner)?;
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(file.mode & 0o777))
}

fn is_same(data: &Path, files: &Files<'_>) -> io::Result<bool> {
    let mut found = 0;
    let mut directories = vec![data.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let relative = path.strip_prefix(data).unwrap_or(&path);
            let Some(file) = files.get(relative) else { return Ok(false) };
            let mode = fs_err::metadata(&path)?.permissions().mode();
            if mode & 0o777 != file.mode & 0o777 || fs_err::read(&path)? != file.content {
                return Ok(false);
            }
            found += 1;
        }
    }
    Ok(found == files.len())
}

/// Gives each file its name. Names and directories of files that are no more go: those of before, and what somebody
/// left who was killed in between. Other directories are mount points.
fn update_links(directory: &Path, files: &Files<'_>) -> io::Result<()> {
    let wanted: BTreeSet<_> = files.keys().filter_map(|path| path.iter().next()).collect();
    let present = fs_err::read_link(directory.join("..data"))?;
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"..") {
            if entry.file_type()?.is_dir() && present != Path::new(&name) {
                fs_err::remove_dir_all(entry.path())?;
            }
        } else if entry.file_type()?.is_symlink() && !wanted.contains(name.as_os_str()) {
            fs_err::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = directory.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> File {
        File { path: path.into(), content: content.into(), mode: 0o640 }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs_err::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("..1"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_all_at_once_and_the_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        assert!(write(&root, &[file("a", "1"), file("d/e", "2")], None).unwrap());
        assert_eq!(fs_err::read_to_string(root.join("d/e")).unwrap(), "2");
        assert_eq!(fs_err::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!write(&root, &[file("a", "1"), file("d/e", "2")], None).unwrap(), "nothing changed");
        assert!(write(&root, &[file("a", "3"), file("b", "4")], None).unwrap());
        assert_eq!(fs_err::read_to_string(root.join("a")).unwrap(), "3");
        assert_eq!(names(&root), ["..data", "a", "b"]);
        assert_eq!(fs_err::read_dir(&root).unwrap().count(), 4, "one directory of files is left");
    }

    #[test]
    fn a_changed_mode_is_a_change_and_the_last_of_two_files_wins() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[file("a", "1"), file("a", "2")], None).unwrap();
        assert_eq!(fs_err::read_to_string(directory.path().join("a")).unwrap(), "2");
        assert!(write(directory.path(), &[File { mode: 0o600, ..file("a", "2") }], None).unwrap());
    }

    #[test]
    fn names_that_were_left_out_are_given_later() {
        let directory = tempfile::tempdir().unwrap();
        let files = [file("a", "1"), file("b", "2")];
        write(directory.path(), &files, None).unwrap();
        fs_err::remove_file(directory.path().join("b")).unwrap();
        assert!(!write(directory.path(), &files, None).unwrap());
        assert_eq!(fs_err::read_to_string(directory.path().join("b")).unwrap(), "2");
    }

    #[test]
    fn a_mount_point_in_a_volume_stays() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[file("a", "1")], None).unwrap();
        fs_err::create_dir(directory.path().join("inner")).unwrap();
        write(directory.path(), &[file("b", "2")], None).unwrap();
        assert_eq!(names(directory.path()), ["..data", "b", "inner"]);
    }

    #[test]
    fn what_an_attempt_left_that_was_cut_off_goes() {
        let directory = tempfile::tempdir().unwrap();
        for files in [[file("a", "1")], [file("a", "1")], [file("a", "2")]] {
            fs_err::create_dir(directory.path().join("..1")).unwrap();
            fs_err::write(directory.path().join("..1/a"), "secret").unwrap();
            write(directory.path(), &files, None).unwrap();
            assert!(!directory.path().join("..1").exists());
            assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 3, "one directory of files is left");
        }
    }

    #[test]
    fn an_attempt_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[file("a", "1")], None).unwrap();
        for _ in 0..3 {
            assert!(write(directory.path(), &[file("a", "2"), file("a/b", "3")], None).is_err());
        }
        assert_eq!(fs_err::read_to_string(directory.path().join("a")).unwrap(), "1");
        assert_eq!(names(directory.path()), ["..data", "a"]);
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 3, "one directory of files is left");
    }

    #[test]
    fn what_a_link_of_somebody_else_leads_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (directory.path().join("volume"), directory.path().join("elsewhere"));
        for link in [elsewhere.as_path(), Path::new("../elsewhere"), Path::new("..1/../../elsewhere")] {
            for made in [&root.join("..1"), &elsewhere] {
                fs_err::create_dir_all(made).unwrap();
            }
            symlink(link, root.join("..data")).unwrap();
            assert!(write(&root, &[file("a", "1")], None).unwrap());
            assert_eq!(fs_err::read_to_string(root.join("a")).unwrap(), "1");
            assert!(elsewhere.is_dir(), "{}", link.display());
            fs_err::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn no_file_leaves_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        for path in ["", "/etc/x", "../x", "a/../../x", "..data/x"] {
            assert!(write(directory.path(), &[file(path, "1")], None).is_err(), "{path}");
        }
    }
}
