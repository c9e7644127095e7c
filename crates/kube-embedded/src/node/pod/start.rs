//! Puts together what one run of a container needs.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use crate::image::Image;
use crate::node::container::Plans;
use crate::node::context::Context;
use crate::node::downward::Place;
use crate::node::environment::{Data, expand, variables};
use crate::node::launcher::spec::{Mount, Program, Run, View};
use crate::node::logs::Log;
use crate::node::marks::{self, Mark};
use crate::node::options::HostUser;
use crate::node::paths::PodPaths;
use crate::node::volumes::{Shop, Volumes};

/// `PATH` of containers whose image says nothing, as Docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where programs appear that the containers' user could not reach on the host.
const PROGRAMS: &str = "/run/a9s/bin";
/// Where programs look for their access to the API.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Why a container can't be started with its specification. Reason and message of `waiting`.
#[derive(Debug)]
pub(super) struct Problem(pub(super) &'static str, pub(super) String);

/// What is common to the containers of a pod.
pub(super) struct Origin<'a> {
    pub(super) context: &'a Context,
    pub(super) pod: &'a Pod,
    pub(super) place: &'a Place,
    pub(super) paths: &'a PodPaths,
    pub(super) shop: Shop<'a>,
    pub(super) volumes: &'a Volumes,
}

/// Everything for run number `restarts` of a container.
pub(super) fn plans(
    origin: &Origin<'_>,
    container: &Container,
    image: &Image,
    restarts: i32,
) -> Result<Plans, Problem> {
    let context = origin.context;
    let files = |error: std::io::Error| Problem("CreateContainerError", error.to_string());
    let owner = context.options.run_as.as_ref();
    let uid = origin.pod.metadata.uid.clone().unwrap_or_default();
    let run_name = format!("{}.{restarts}", container.name);
    let mark = marks::value(&context.node_id, &context.run_id, &uid, &run_name);
    std::fs::create_dir_all(origin.paths.container(&container.name)).map_err(files)?;
    let tmp = origin.paths.fresh_tmp(&container.name).map_err(files)?;
    let message = origin.paths.fresh_termination_message(&container.name, owner).map_err(files)?;

    let given = given_environment(origin, container, image)?;
    let lookup = |name: &str| given.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut mounts = Vec::new();
    let mut env = given.clone();
    for mount in container.volume_mounts.iter().flatten() {
        let made = origin
            .shop
            .mount(origin.volumes, mount, |text| expand(text, lookup))
            .map_err(|error| Problem("CreateContainerConfigError", error.to_string()))?;
        if !context.isolation.has_views() {
            let path = short_path(&context.options.run_directory, &made.source)
                .map_err(|error| Problem("CreateContainerConfigError", error.to_string()))?;
            point_to(&mut env, mount, &path);
            env.extend(path_variables(mount, &path));
        }
        mounts.push(made);
    }
    let mut command = command(container, image, lookup)?;
    if context.isolation.has_views() {
        let termination = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        for (source, target, read_only) in
            [(&tmp, "/tmp", false), (&origin.paths.hosts(), "/etc/hosts", true), (&message, termination, false)]
        {
            let source = fs_err::canonicalize(source).map_err(files)?;
            mounts.push(Mount { source, target: target.into(), read_only });
        }
        mounts.extend(make_reachable(&mut command, owner));
        // One that is not there is missed by the program, or not.
        let needed = image.read_only.iter().filter_map(|path| fs_err::canonicalize(path).ok());
        mounts.extend(needed.map(|path| Mount { source: path.clone(), target: path, read_only: true }));
        // A volume at one of these paths wins.
        dedup_targets(&mut mounts);
    } else {
        env.push(("TMPDIR".into(), tmp.display().to_string()));
        env.push(("A9S_HOSTS".into(), origin.paths.hosts().display().to_string()));
        env.push(("A9S_TERMINATION_LOG".into(), message.display().to_string()));
    }
    let marks = own_marks(context, &uid, &mark);
    // Marks come last: a pod can't give itself others.
    env.retain(|(name, _)| !marks.iter().any(|(own, _)| own == name));
    env.extend(marks.clone());

    let directory = container.working_dir.clone().filter(|path| !path.is_empty()).map(PathBuf::from);
    let view = context.isolation.has_views().then(|| View {
        user_namespace: context.isolation.has_user_namespace(),
        root: view_root(&context.options.run_directory),
        label: marks::label(&mark),
        hidden: context.options.hidden.clone(),
        mounts,
    });
    let program = Program {
        command,
        env,
        directory: directory.or_else(|| image.working_dir.clone()).unwrap_or_else(|| "/".into()),
        user: owner.cloned(),
    };
    Ok(Plans {
        container: container.clone(),
        run: Run { view, program },
        id: new_id(),
        mark: Mark {
            node: context.node_id.clone(),
            run: Some(context.run_id.clone()),
            pod: Some(uid),
            container: Some(run_name),
            ..Mark::default()
        },
        marks,
        log: Log::create(&origin.paths.log(&container.name, restarts)).map_err(files)?,
        message,
        pod_ip: origin.place.pod_ip.clone(),
    })
}

/// The empty directory on which views are built.
pub fn view_root(run_directory: &Path) -> PathBuf {
    run_directory.join("root")
}

fn new_id() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn own_marks(context: &Context, uid: &str, mark: &str) -> Vec<(String, String)> {
    vec![
        ("A9S_CLUSTER".into(), context.options.cluster.clone()),
        ("A9S_POD_UID".into(), uid.to_owned()),
        (marks::VARIABLE.into(), mark.to_owned()),
    ]
}

/// The image's variables, then the container's, which win.
fn given_environment(
    origin: &Origin<'_>,
    container: &Container,
    image: &Image,
) -> Result<Vec<(String, String)>, Problem> {
    let options = &origin.context.options;
    let services = Data::from([
        ("KUBERNETES_SERVICE_HOST".to_owned(), options.api_server.address.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), options.api_server.port.to_string()),
    ]);
    let sources = origin.shop.material.sources(services.clone());
    let own = variables(origin.pod, container, origin.place, &sources, &origin.context.capacity)
        .map_err(|message| Problem("CreateContainerConfigError", message))?;
    let user = options.run_as.clone().or_else(HostUser::current);
    let spec = origin.pod.spec.as_ref();
    let hostname = spec.and_then(|spec| spec.hostname.clone()).or_else(|| origin.pod.metadata.name.clone());
    let mut env: Vec<(String, String)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOSTNAME".into(), hostname.unwrap_or_default()),
        ("HOME".into(), user.map_or_else(|| "/".into(), |user| user.home.display().to_string())),
    ];
    env.extend(services);
    for (name, value) in image.env.iter().cloned().chain(own) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    Ok(env)
}

/// Longest path of a volume that is told as it is, in bytes: with the name of a socket in it, it must stay below the 108
/// of a socket's address (unix(7)).
const LONGEST_PATH: usize = 88;

/// The path under which a container that has no view of its own finds a volume: the volume's, or a link to it in the
/// run directory, whose path is short. Links go with the run directory.
fn short_path(run_directory: &Path, source: &Path) -> std::io::Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    if source.as_os_str().len() <= LONGEST_PATH {
        return Ok(source.to_owned());
    }
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let link = run_directory.join(format!("v{:016x}", hasher.finish()));
    match fs_err::os::unix::fs::symlink(source, &link) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && fs_err::read_link(&link)? == source => {}
        result => result?,
    }
    Ok(link)
}

/// Variables that name the place of a mount name the real one instead.
fn point_to(env: &mut [(String, String)], mount: &VolumeMount, path: &Path) {
    let place = mount.mount_path.trim_end_matches('/');
    for (_, value) in env.iter_mut().filter(|(_, value)| value.trim_end_matches('/') == place) {
        *value = path.display().to_string();
    }
}

/// Where views are impossible, containers learn the real path of each mount.
fn path_variables(mount: &VolumeMount, source: &Path) -> Vec<(String, String)> {
    let name: String =
        mount.name.chars().map(|c| if c == '-' || c == '.' { '_' } else { c.to_ascii_uppercase() }).collect();
    let path = source.display().to_string();
    let mut all = vec![(format!("A9S_MOUNT_{name}"), path.clone())];
    if mount.mount_path.trim_end_matches('/') == ACCOUNT {
        all.push(("A9S_SERVICEACCOUNT_DIR".into(), path));
    }
    all
}

fn command(
    container: &Container,
    image: &Image,
    lookup: impl Fn(&str) -> Option<String> + Copy,
) -> Result<Vec<String>, Problem> {
    let own = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, lookup)).collect()
    };
    let mut command = own(&container.command);
    if command.is_empty() {
        command.clone_from(&image.entrypoint);
    }
    command.extend(own(&container.args));
    if command.is_empty() {
        return Err(Problem("CreateContainerError", "no command specified".into()));
    }
    Ok(command)
}

/// Later mounts of a path are dropped: the container's own come first.
fn dedup_targets(mounts: &mut Vec<Mount>) {
    let mut seen = std::collections::BTreeSet::new();
    mounts.retain(|mount| seen.insert(mount.target.clone()));
}

/// A program below a directory that the user can't pass through (`/root`, say) is mounted where they can.
fn make_reachable(command: &mut [String], user: Option<&HostUser>) -> Option<Mount> {
    let (user, program) = (user?, command.first_mut()?);
    let source = fs_err::canonicalize(Path::new(program.as_str())).ok().filter(|path| path.is_file())?;
    if user.may_reach(&source) {
        return None;
    }
    let target = Path::new(PROGRAMS).join(source.file_name()?);
    *program = target.display().to_string();
    Some(Mount { source, target, read_only: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(command: &[&str], args: &[&str]) -> Container {
        let words = |words: &[&str]| (!words.is_empty()).then(|| words.iter().map(|word| (*word).to_owned()).collect());
        Container { command: words(command), args: words(args), ..Container::default() }
    }

    #[test]
    fn a_command_replaces_the_entrypoint_and_arguments_follow() {
        let image = Image { entrypoint: vec!["/a9s".into(), "agent".into()], ..Image::default() };
        let make = |command: &[&str], args: &[&str]| {
            super::command(&container(command, args), &image, |name| (name == "X").then(|| "1".to_owned())).unwrap()
        };
        assert_eq!(make(&[], &["postgres"]), ["/a9s", "agent", "postgres"]);
        assert_eq!(make(&["sh", "-c"], &["echo $(X) $(Y)"]), ["sh", "-c", "echo 1 $(Y)"]);
        assert!(super::command(&container(&[], &[]), &Image::default(), |_| None).is_err());
    }

    #[test]
    fn mounts_without_a_view_are_told_by_variables() {
        let mount = VolumeMount { name: "api-access".into(), mount_path: ACCOUNT.into(), ..VolumeMount::default() };
        let told = path_variables(&mount, Path::new("/x/y"));
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A9S_MOUNT_API_ACCESS", "A9S_SERVICEACCOUNT_DIR"]);
        assert!(told.iter().all(|(_, value)| value == "/x/y"));
    }

    #[test]
    fn variables_that_name_a_mount_name_its_real_and_short_place_without_a_view() {
        let run = tempfile::tempdir().unwrap();
        let source = run.path().join("x".repeat(LONGEST_PATH));
        fs_err::create_dir(&source).unwrap();
        let link = short_path(run.path(), &source).unwrap();
        assert_eq!(short_path(run.path(), &source).unwrap(), link);
        assert!(link.as_os_str().len() < source.as_os_str().len() && link.is_dir());
        assert_eq!(short_path(run.path(), Path::new("/x")).unwrap(), Path::new("/x"));

        let mount = VolumeMount { name: "s".into(), mount_path: "/run/s/".into(), ..VolumeMount::default() };
        let mut env = vec![("PGHOST".to_owned(), "/run/s".to_owned()), ("OTHER".to_owned(), "/run/s/x".to_owned())];
        point_to(&mut env, &mount, &link);
        assert_eq!(env[0].1, link.display().to_string());
        assert_eq!(env[1].1, "/run/s/x");
    }
}
