//! Processes as proc(5) shows them.

use super::contains;

/// A process. It is looked at when something is asked about it, and may be gone by then.
#[derive(Debug)]
pub struct Seen {
    /// Process id.
    pub pid: i32,
}

impl Seen {
    /// All that run.
    pub fn all() -> impl Iterator<Item = Self> {
        let entries = fs_err::read_dir("/proc").into_iter().flatten();
        entries.filter_map(|entry| Some(Self { pid: entry.ok()?.file_name().to_str()?.parse().ok()? }))
    }

    /// The one that has started it.
    pub fn parent(&self) -> Option<i32> {
        let status = String::from_utf8_lossy(&self.read("status")).into_owned();
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    }

    /// Its command line, or its name where that is empty.
    pub fn line(&self) -> String {
        let line = String::from_utf8_lossy(&self.read("cmdline")).replace('\0', " ").trim().to_owned();
        if line.is_empty() { String::from_utf8_lossy(&self.read("comm")).trim().to_owned() } else { line }
    }

    /// Whether its environment has this, a name with its value.
    pub fn has(&self, variable: &str) -> bool {
        self.read("environ").split(|byte| *byte == 0).any(|own| own == variable.as_bytes())
    }

    /// Whether a word is in its command line, environment, working directory or mounts. A mount of the machine itself is in
    /// everybody's table, so only those who have a table of their own belong to a directory by what they have mounted.
    pub fn names(&self, word: &str) -> bool {
        let within = |bytes: &[u8]| contains(bytes, word.as_bytes());
        within(&self.read("cmdline"))
            || within(&self.read("environ"))
            || std::fs::read_link(format!("/proc/{}/cwd", self.pid))
                .is_ok_and(|path| within(path.as_os_str().as_encoded_bytes()))
            || (self.has_mounts_of_its_own() && within(&self.read("mountinfo")))
    }

    /// A file about it; empty where it is gone or not ours to read.
    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(format!("/proc/{}/{file}", self.pid)).unwrap_or_default()
    }

    /// Whether it is in another mount namespace than this process; one that can't be asked is not.
    fn has_mounts_of_its_own(&self) -> bool {
        let own = std::fs::read_link("/proc/self/ns/mnt");
        let other = std::fs::read_link(format!("/proc/{}/ns/mnt", self.pid));
        matches!((own, other), (Ok(own), Ok(other)) if own != other)
    }
}
