//! Removes what containers have left on this host.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::Uid;

/// Removes a directory with everything in it. One that is not there is removed already.
///
/// Who is not root can't remove what is in a directory that they closed to themselves, as a program of a container may
/// have done that runs as them: such directories are opened first.
///
/// # Errors
/// As of the file operations.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    let removed = match fs_err::remove_dir_all(directory) {
        // What is refused to root, no mode changes.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !Uid::effective().is_root() => {
            open(directory);
            fs_err::remove_dir_all(directory)
        }
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Opens a directory and those in it to their owner. What can't be opened is found when it is removed.
fn open(directory: &Path) {
    let mut closed = vec![directory.to_owned()];
    while let Some(directory) = closed.pop() {
        let _ = fs_err::set_permissions(&directory, std::fs::Permissions::from_mode(0o700));
        let entries = fs_err::read_dir(&directory).into_iter().flatten().flatten();
        // A link is no directory here.
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        closed.extend(inner.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_closed_goes_and_what_a_link_leads_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let (tree, elsewhere) = (root.path().join("tree"), root.path().join("elsewhere"));
        for directory in [tree.join("closed/inner"), elsewhere.clone()] {
            fs_err::create_dir_all(&directory).unwrap();
            fs_err::write(directory.join("file"), "").unwrap();
            fs_err::set_permissions(&directory, PermissionsExt::from_mode(0o500)).unwrap();
        }
        fs_err::os::unix::fs::symlink(&elsewhere, tree.join("link")).unwrap();
        fs_err::set_permissions(tree.join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
        for _ in 0..2 {
            remove_tree(&tree).unwrap();
            assert!(!tree.exists());
        }
        assert!(elsewhere.join("file").exists());
        assert_eq!(fs_err::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o500);
        fs_err::set_permissions(&elsewhere, PermissionsExt::from_mode(0o700)).unwrap();
    }
}
