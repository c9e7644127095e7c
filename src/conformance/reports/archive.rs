//! The archive of a report: its files, what it ran on, and a checksum of each, so that it can be handed on and trusted.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar::{Builder, Header};

use crate::conformance::results::{FILE, Results};

/// The folder that the archive unpacks to.
const ROOT: &str = "a9s-conformance";

/// Writes the archive of `files` of `folder` to `target`. The same files give the same bytes.
///
/// # Errors
/// What the file system said.
pub fn write(files: &[PathBuf], folder: &Path, target: &Path) -> std::io::Result<()> {
    let encoder = GzEncoder::new(fs_err::File::create(target)?, Compression::default());
    let mut builder = Builder::new(encoder);
    let mut sums = String::new();
    let mut add = |name: &Path, content: &[u8]| -> std::io::Result<()> {
        sums.push_str(&format!("{}  {}\n", HEXLOWER.encode(&Sha256::digest(content)), name.display()));
        append(&mut builder, name, content)
    };
    for file in files {
        add(file, &fs_err::read(folder.join(file))?)?;
    }
    add(Path::new("environment.txt"), environment(folder)?.as_bytes())?;
    append(&mut builder, Path::new("SHA256SUMS"), sums.as_bytes())?;
    builder.into_inner()?.finish()?.sync_all()
}

fn append<W: std::io::Write>(builder: &mut Builder<W>, name: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, Path::new(ROOT).join(name), content)
}

fn environment(folder: &Path) -> std::io::Result<String> {
    let results: Results = serde_json::from_slice(&fs_err::read(folder.join(FILE))?)?;
    let mut text = format!("verdict: {}\nstarted: {}\n", results.verdict.text(), results.started);
    for (name, value) in &results.environment {
        text.push_str(&format!("{name}: {value}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::conformance::results::tests::sample;

    #[test]
    fn the_tools_of_the_system_unpack_and_check_it() {
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(directory.path().join("evidence/a")).unwrap();
        fs_err::write(directory.path().join(FILE), serde_json::to_vec(&sample()).unwrap()).unwrap();
        fs_err::write(directory.path().join("evidence/a/log.txt"), "a line\n").unwrap();
        let target = directory.path().join("x.tar.gz");
        write(&[FILE.into(), "evidence/a/log.txt".into()], directory.path(), &target).unwrap();
        let once = fs_err::read(&target).unwrap();
        write(&[FILE.into(), "evidence/a/log.txt".into()], directory.path(), &target).unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), once, "the same files give the same bytes");
        let run = |program: &str, words: &[&str], place: &Path| {
            let output = Command::new(program).args(words).current_dir(place).output().unwrap();
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run("tar", &["xzf", "x.tar.gz"], directory.path());
        let unpacked = directory.path().join(ROOT);
        let said = match cfg!(target_os = "macos") {
            true => run("shasum", &["--algorithm", "256", "--check", "SHA256SUMS"], &unpacked),
            false => run("sha256sum", &["--check", "--strict", "SHA256SUMS"], &unpacked),
        };
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(fs_err::read_to_string(unpacked.join("environment.txt")).unwrap().contains("cluster: embedded"));
    }
}
