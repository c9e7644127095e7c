//! `/etc/hosts` of pods: here it has the names that a cluster's DNS would answer (kubernetes/dns specification):
//! Services, and the pods of headless Services.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};

use crate::api::names::dns_label;

/// Domain of the cluster.
const DOMAIN: &str = "cluster.local";

/// The names of one namespace: name without namespace, and address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(BTreeMap<String, Vec<(String, Ipv4Addr)>>);

impl Names {
    /// The names that these Services and Endpoints stand for.
    pub fn new<'a>(
        services: impl Iterator<Item = &'a Service>,
        endpoints: &BTreeMap<(String, String), Endpoints>,
    ) -> Self {
        let mut names: BTreeMap<String, Vec<(String, Ipv4Addr)>> = BTreeMap::new();
        for service in services {
            let meta = &service.metadata;
            let (Some(namespace), Some(name)) = (meta.namespace.clone(), meta.name.clone()) else { continue };
            let cluster_ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
            let entries = names.entry(namespace.clone()).or_default();
            if let Ok(address) = cluster_ip.parse() {
                entries.push((name, address));
            } else if let ("None", Some(found)) = (cluster_ip, endpoints.get(&(namespace, name.clone()))) {
                entries.extend(headless(&name, found));
            }
        }
        for entries in names.values_mut() {
            entries.sort();
            entries.dedup();
        }
        Self(names)
    }
}

fn headless(service: &str, endpoints: &Endpoints) -> Vec<(String, Ipv4Addr)> {
    let mut entries = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for address in subset.addresses.iter().flatten() {
            let Ok(ip) = address.ip.parse() else { continue };
            entries.push((service.to_owned(), ip));
            if let Some(hostname) = address.hostname.as_deref().filter(|hostname| dns_label(hostname).is_ok()) {
                entries.push((format!("{hostname}.{service}"), ip));
            }
        }
    }
    entries
}

/// The text of a pod's `/etc/hosts`.
pub fn render(pod: &Pod, pod_ip: &str, names: &Names) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    let own = pod.metadata.namespace.as_deref().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let label = |name: &String| dns_label(name).is_ok();
    let hostname = spec.hostname.filter(label).or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    match spec.subdomain.filter(label) {
        Some(subdomain) => {
            let _ = writeln!(text, "{pod_ip}\t{hostname}.{subdomain}.{own}.svc.{DOMAIN}\t{hostname}");
        }
        None => {
            let _ = writeln!(text, "{pod_ip}\t{hostname}");
        }
    }
    for alias in spec.host_aliases.into_iter().flatten() {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.unwrap_or_default().join("\t"));
    }
    for (namespace, entries) in &names.0 {
        for (name, address) in entries {
            let short = if namespace == own { format!("{name}\t") } else { String::new() };
            let _ = writeln!(
                text,
                "{address}\t{short}{name}.{namespace}\t{name}.{namespace}.svc\t{name}.{namespace}.svc.{DOMAIN}"
            );
        }
    }
    text
}

/// Writes a hosts file in place: it is mounted, so it can't be replaced by another file. One call writes it, never
/// shorter than it was, so that a reader sees whole lines only.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let old = match fs_err::metadata(path) {
        Ok(meta) => usize::try_from(meta.len()).unwrap_or_default(),
        Err(_) => 0,
    };
    let mut content = text.as_bytes().to_vec();
    if content.len() < old {
        content.resize(old, b'\n');
    }
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create(true).truncate(false).open(path)?.write_all(&content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        let services: Vec<Service> = serde_json::from_value(json!([
            {"metadata": {"name": "web", "namespace": "a"}, "spec": {"clusterIP": "127.64.8.1"}},
            {"metadata": {"name": "db", "namespace": "b"}, "spec": {"clusterIP": "None"}},
            {"metadata": {"name": "out", "namespace": "b"}, "spec": {"type": "ExternalName", "externalName": "x.org"}},
        ]))
        .unwrap();
        let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {"name": "db"}, "subsets": [
            {"addresses": [{"ip": "127.64.0.7", "hostname": "db-0"}, {"ip": "127.64.0.8"}],
             "notReadyAddresses": [{"ip": "127.64.0.9", "hostname": "db-2"}]}]}))
        .unwrap();
        Names::new(services.iter(), &[(("b".to_owned(), "db".to_owned()), endpoints)].into())
    }

    #[test]
    fn services_and_pods_of_headless_services_have_names() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "b"},
            "spec": {"hostname": "db-0", "subdomain": "db", "containers": []}}))
        .unwrap();
        let text = render(&pod, "127.64.0.7", &names());
        for line in [
            "127.64.0.7\tdb-0.db.b.svc.cluster.local\tdb-0",
            "127.64.8.1\tweb.a\tweb.a.svc\tweb.a.svc.cluster.local",
            "127.64.0.7\tdb\tdb.b\tdb.b.svc\tdb.b.svc.cluster.local",
            "127.64.0.7\tdb-0.db\tdb-0.db.b\tdb-0.db.b.svc\tdb-0.db.b.svc.cluster.local",
            "127.64.0.8\tdb\tdb.b\tdb.b.svc\tdb.b.svc.cluster.local",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("127.64.0.9") && !text.contains("out"), "{text}");
    }

    #[test]
    fn what_is_no_name_is_not_in_the_file() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "b"}, "spec": {"clusterIP": "None"},
        }))
        .unwrap();
        let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {"name": "db"}, "subsets": [
            {"addresses": [{"ip": "127.64.0.7", "hostname": "x\n127.64.0.9\tforged"}]}]}))
        .unwrap();
        let names = Names::new(std::iter::once(&service), &[(("b".to_owned(), "db".to_owned()), endpoints)].into());
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "b"},
            "spec": {"hostname": "y\n127.64.0.9\tforged", "subdomain": "z\n127.64.0.9\tforged", "containers": []}}))
        .unwrap();
        let text = render(&pod, "127.64.0.1", &names);
        assert!(!text.contains("forged"), "{text}");
        assert!(text.contains("127.64.0.1\tp\n") && text.contains("127.64.0.7\tdb\tdb.b\t"), "{text}");
    }

    #[test]
    fn a_hosts_file_keeps_its_inode_and_never_shrinks() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        write(&path, "1.2.3.4\ta\n5.6.7.8\tb\n").unwrap();
        let inode = fs_err::metadata(&path).unwrap().ino();
        write(&path, "1.2.3.4\ta\n").unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().ino(), inode);
        let text = fs_err::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end(), "1.2.3.4\ta");
        assert_eq!(text.len(), 20);
    }
}
