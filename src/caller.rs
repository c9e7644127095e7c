//! What the program has from whoever calls it: variables, the current directory, standard streams, its own file.
//!
//! Usually that is what the system gave the process. A command that runs inside another program (the suite, with
//! `A9S_DOOR=plan`) has a caller of its own instead, for the thread that it runs on. So nothing else in the program reads
//! the environment or writes to the standard streams.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

thread_local! {
    static INSTEAD: RefCell<Option<Rc<Caller>>> = const { RefCell::new(None) };
}

/// A caller other than the system.
#[derive(Debug, Default)]
pub struct Caller {
    /// All variables.
    pub variables: Vec<(OsString, OsString)>,
    /// Relative paths start here.
    pub directory: PathBuf,
    /// The file of the program, for processes it starts.
    pub program: PathBuf,
    /// What was said.
    pub said: RefCell<Said>,
}

/// What a command said.
#[derive(Debug, Default, Clone)]
pub struct Said {
    /// On standard output.
    pub stdout: Vec<u8>,
    /// On standard error.
    pub stderr: Vec<u8>,
}

/// Runs `work` on this thread for another caller, and gives what it said.
pub fn instead<T>(caller: Caller, work: impl FnOnce() -> T) -> (T, Said) {
    let caller = Rc::new(caller);
    INSTEAD.set(Some(caller.clone()));
    let result = work();
    INSTEAD.set(None);
    (result, caller.said.take())
}

fn with<T>(work: impl FnOnce(Option<&Caller>) -> T) -> T {
    INSTEAD.with_borrow(|caller| work(caller.as_deref()))
}

/// Whether the caller is the system, whose streams may be terminals.
pub fn is_system() -> bool {
    with(|caller| caller.is_none())
}

/// A variable.
pub fn variable(name: impl AsRef<OsStr>) -> Option<OsString> {
    let name = name.as_ref();
    with(|caller| match caller {
        None => std::env::var_os(name),
        Some(caller) => caller.variables.iter().rfind(|(own, _)| own == name).map(|(_, value)| value.clone()),
    })
}

/// A variable that says something: an empty one is as good as none. Scripts and workflows have nothing to say there.
pub fn given(name: impl AsRef<OsStr>) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

/// All variables.
pub fn variables() -> Vec<(OsString, OsString)> {
    with(|caller| match caller {
        None => std::env::vars_os().collect(),
        Some(caller) => caller.variables.clone(),
    })
}

/// A path of the command line as the caller means it.
pub fn path(path: &Path) -> PathBuf {
    with(|caller| match caller {
        None => path.to_owned(),
        Some(caller) => caller.directory.join(path),
    })
}

/// The file of this program.
///
/// # Errors
/// The system does not know it.
pub fn program() -> std::io::Result<PathBuf> {
    with(|caller| match caller {
        None => std::env::current_exe(),
        Some(caller) => Ok(caller.program.clone()),
    })
}

/// Writes to standard output, at once.
///
/// # Errors
/// It can't be written, or the reader has gone away.
pub fn write(bytes: &[u8]) -> std::io::Result<()> {
    with(|caller| match caller {
        None => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Some(caller) => {
            caller.said.borrow_mut().stdout.extend_from_slice(bytes);
            Ok(())
        }
    })
}

/// Writes to standard error. It may be closed or full; that must not stop a command.
pub fn write_error(text: impl AsRef<[u8]>) {
    with(|caller| match caller {
        None => drop(std::io::stderr().lock().write_all(text.as_ref())),
        Some(caller) => caller.said.borrow_mut().stderr.extend_from_slice(text.as_ref()),
    });
}

/// Whether a person can be asked.
pub fn can_answer() -> bool {
    is_system() && std::io::stdin().is_terminal()
}

/// Whether a person reads the answers.
pub fn is_read_by_a_person() -> bool {
    is_system() && std::io::stdout().is_terminal()
}

/// A line of the system's standard input without its end; `None` at the end of input. Whether anybody can be asked says
/// [`can_answer`].
pub fn read_line() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_another_caller_has_its_variables_directory_and_streams() {
        let caller = Caller {
            variables: vec![("HOME".into(), "/nowhere".into()), ("A".into(), "1".into()), ("A".into(), "2".into())],
            directory: PathBuf::from("/somewhere"),
            program: PathBuf::from("/bin/true"),
            ..Caller::default()
        };
        let (seen, said) = instead(caller, || {
            write(b"out").unwrap();
            write_error("error");
            (
                variable("HOME"),
                variable("A"),
                variable("PATH"),
                path(Path::new("x/y")),
                program().unwrap(),
                can_answer(),
            )
        });
        let text = |text: &str| Some(OsString::from(text));
        let (x_y, program) = (PathBuf::from("/somewhere/x/y"), PathBuf::from("/bin/true"));
        assert_eq!(seen, (text("/nowhere"), text("2"), None, x_y, program, false));
        assert_eq!((said.stdout.as_slice(), said.stderr.as_slice()), (&b"out"[..], &b"error"[..]));
        assert!(is_system() && variable("PATH").is_some());
    }
}
