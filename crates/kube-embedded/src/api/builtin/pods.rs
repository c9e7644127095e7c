//! Pods, and the pod templates of others.

use serde_json::{Value, json};

use super::causes::Causes;
use super::quantities;
use super::rules::set;
use crate::api::names;
use crate::quantity;

/// As `pkg/apis/core/v1/defaults.go`, and the admission plugins that fill in tolerations and priority.
pub fn default(new: &mut Value) {
    default_spec(&mut new["spec"]);
    let spec = &mut new["spec"];
    set(spec, "enableServiceLinks", true);
    set(spec, "priority", 0);
    set(spec, "preemptionPolicy", "PreemptLowerPriority");
    // Of pods only: a template keeps what it was given (SetDefaults_Pod, not SetDefaults_PodSpec).
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default_requests(&mut container["resources"]);
        }
    }
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = spec["tolerations"].as_array_mut();
        if let Some(tolerations) = tolerations
            && !tolerations.iter().any(|toleration| toleration["key"] == key || toleration["key"].is_null())
        {
            tolerations
                .push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Of a pod's or a template's spec.
pub fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({});
    }
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", "default-scheduler");
    // The older name of the same field is kept in step.
    let account =
        spec["serviceAccountName"].as_str().or(spec["serviceAccount"].as_str()).unwrap_or_default().to_owned();
    if !account.is_empty() {
        spec["serviceAccountName"] = account.as_str().into();
        spec["serviceAccount"] = account.into();
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default_container(container);
        }
    }
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        default_volume(volume);
    }
}

fn default_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().unwrap_or_default().split_once(':').map(|(_, tag)| tag);
    let latest = !image.contains('@') && matches!(tag, None | Some("latest"));
    set(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        set(port, "protocol", "TCP");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            default_probe(&mut container[probe]);
        }
    }
    for hook in ["postStart", "preStop"] {
        if container["lifecycle"][hook]["httpGet"].is_object() {
            default_http(&mut container["lifecycle"][hook]["httpGet"]);
        }
    }
    for variable in container["env"].as_array_mut().into_iter().flatten() {
        if variable["valueFrom"]["fieldRef"].is_object() {
            set(&mut variable["valueFrom"]["fieldRef"], "apiVersion", "v1");
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe[field] == 0 {
            probe[field] = Value::Null;
        }
        set(probe, field, value);
    }
    if probe["httpGet"].is_object() {
        default_http(&mut probe["httpGet"]);
    }
}

fn default_http(action: &mut Value) {
    set(action, "scheme", "HTTP");
    set(action, "path", "/");
}

/// Where only a limit is given, as much is requested.
pub fn default_requests(resources: &mut Value) {
    let Some(limits) = resources["limits"].as_object().cloned() else { return };
    if !resources["requests"].is_object() {
        resources["requests"] = json!({});
    }
    for (name, amount) in limits {
        set(&mut resources["requests"], &name, amount);
    }
}

fn default_volume(volume: &mut Value) {
    const MODE: i32 = 0o644;
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if volume[source].is_object() {
            set(&mut volume[source], "defaultMode", MODE);
        }
    }
    if volume["hostPath"].is_object() {
        set(&mut volume["hostPath"], "type", "");
    }
    let field_references = |items: &mut Value| {
        for item in items.as_array_mut().into_iter().flatten() {
            if item["fieldRef"].is_object() {
                set(&mut item["fieldRef"], "apiVersion", "v1");
            }
        }
    };
    if volume["downwardAPI"].is_object() {
        field_references(&mut volume["downwardAPI"]["items"]);
    }
    if !volume["projected"].is_object() {
        return;
    }
    for source in volume["projected"]["sources"].as_array_mut().into_iter().flatten() {
        if source["serviceAccountToken"].is_object() {
            set(&mut source["serviceAccountToken"], "expirationSeconds", 3600);
        }
        if source["downwardAPI"].is_object() {
            field_references(&mut source["downwardAPI"]["items"]);
        }
    }
}

/// The quality-of-service class of a spec that has its defaults (`GetPodQOS`).
pub fn quality(spec: &Value) -> &'static str {
    let containers: Vec<&Value> =
        ["containers", "initContainers"].iter().flat_map(|list| spec[list].as_array().into_iter().flatten()).collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        container["resources"][kind][name].as_str().and_then(quantity::milli).filter(|amount| *amount > 0)
    };
    let mentions = |container: &&Value| {
        ["requests", "limits"]
            .iter()
            .any(|kind| ["cpu", "memory"].iter().any(|name| amount(container, kind, name).is_some()))
    };
    if !containers.iter().any(mentions) {
        return "BestEffort";
    }
    let full = |container: &&Value| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && limit == amount(container, "requests", name)
        })
    };
    if containers.iter().all(full) { "Guaranteed" } else { "Burstable" }
}

/// A whole pod.
pub fn validate(causes: &mut Causes, new: &Value, old: Option<&Value>) {
    validate_spec(causes, &new["spec"], "spec", &[]);
    let Some(old) = old else { return };
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        if let Some(fields) = spec.as_object_mut() {
            for field in
                ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "ephemeralContainers"]
            {
                fields.remove(field);
            }
        }
        // What was stored by an older program may be written in another way.
        quantities::canonicalize(&mut spec);
        spec
    };
    if fixed(old) != fixed(new) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                   `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                   `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.forbidden("spec", why);
    }
}

/// A pod's spec; `claims` are volumes that a StatefulSet adds.
pub fn validate_spec(causes: &mut Causes, spec: &Value, path: &str, claims: &[&str]) {
    let mut volumes: Vec<&str> = claims.to_vec();
    let mut own: Vec<&str> = Vec::new();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{path}.volumes[{index}].name");
        causes.name(&field, &volume["name"], names::dns_label);
        let name = volume["name"].as_str().unwrap_or_default();
        if own.contains(&name) {
            causes.duplicate(&field, &volume["name"]);
        }
        own.push(name);
        for (number, source) in volume["projected"]["sources"].as_array().into_iter().flatten().enumerate() {
            let token = format!("{path}.volumes[{index}].projected.sources[{number}].serviceAccountToken");
            let life = &source["serviceAccountToken"]["expirationSeconds"];
            causes.token_life(&format!("{token}.expirationSeconds"), life);
        }
    }
    volumes.extend(own);
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        causes.required(&format!("{path}.containers"), "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = container["name"].as_str().unwrap_or_default();
            if !name.is_empty() && seen.contains(&name) {
                causes.duplicate(&format!("{path}.name"), &container["name"]);
            }
            seen.push(name);
            validate_container(causes, container, &path, &volumes);
        }
    }
    for field in ["hostname", "subdomain"] {
        causes.label(&format!("{path}.{field}"), &spec[field]);
    }
    causes.one_of(&format!("{path}.restartPolicy"), &spec["restartPolicy"], &["Always", "OnFailure", "Never"]);
    let grace = &spec["terminationGracePeriodSeconds"];
    causes.not_negative(&format!("{path}.terminationGracePeriodSeconds"), grace);
}

fn validate_container(causes: &mut Causes, container: &Value, path: &str, volumes: &[&str]) {
    causes.name(&format!("{path}.name"), &container["name"], names::dns_label);
    if container["image"].as_str().is_none_or(str::is_empty) {
        causes.required(&format!("{path}.image"), "");
    }
    causes.one_of(
        &format!("{path}.imagePullPolicy"),
        &container["imagePullPolicy"],
        &["Always", "IfNotPresent", "Never"],
    );
    for (index, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let field = format!("{path}.ports[{index}].containerPort");
        match port["containerPort"].as_i64() {
            None | Some(0) => causes.required(&field, ""),
            Some(_) => causes.port(&field, &port["containerPort"]),
        }
    }
    for (index, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        if variable["name"].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("{path}.env[{index}].name"), "");
        }
    }
    let mounts = container["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        match mount["name"].as_str().unwrap_or_default() {
            "" => causes.required(&format!("{path}.name"), ""),
            name if !volumes.contains(&name) => causes.not_found(&format!("{path}.name"), name),
            _ => {}
        }
        if mount["mountPath"].as_str().is_none_or(str::is_empty) {
            causes.required(&format!("{path}.mountPath"), "");
        }
        if mounts[..index].iter().any(|other| other["mountPath"] == mount["mountPath"]) {
            causes.invalid(&format!("{path}.mountPath"), &mount["mountPath"], "must be unique");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        validate_probe(causes, &container[probe], &format!("{path}.{probe}"));
    }
    validate_resources(causes, &container["resources"], &format!("{path}.resources"));
}

fn validate_probe(causes: &mut Causes, probe: &Value, path: &str) {
    if !probe.is_object() {
        return;
    }
    match ["exec", "httpGet", "tcpSocket", "grpc"].iter().filter(|kind| probe[**kind].is_object()).count() {
        0 => causes.required(path, "must specify a handler type"),
        1 => {}
        _ => causes.forbidden(path, "may not specify more than 1 handler type"),
    }
    if probe["grpc"].is_object() {
        // A pod of which nobody can ask whether it is ready would never be.
        let why = "this cluster has no probes by gRPC: exec, httpGet and tcpSocket are served";
        causes.forbidden(&format!("{path}.grpc"), why);
    }
}

fn validate_resources(causes: &mut Causes, resources: &Value, path: &str) {
    let amount = |kind: &str, name: &str| resources[kind][name].as_str().and_then(quantity::milli);
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            match value.as_str().and_then(quantity::milli) {
                Some(0..) => {}
                Some(_) => {
                    causes.invalid(&format!("{path}.{kind}[{name}]"), value, "must be greater than or equal to 0");
                }
                None => {
                    let why =
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    causes.invalid(&format!("{path}.{kind}[{name}]"), value, why);
                }
            }
        }
    }
    for (name, limit) in resources["limits"].as_object().into_iter().flatten() {
        if let (Some(most), Some(wanted)) = (amount("limits", name), amount("requests", name))
            && wanted > most
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.as_str().unwrap_or_default());
            causes.invalid(&format!("{path}.requests"), &resources["requests"][name], &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{
            "name": "c", "image": "i:1", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            "readinessProbe": {"httpGet": {"port": 80}}, "ports": [{"containerPort": 80}],
        }]}});
        default(&mut pod);
        pod
    }

    fn problems(pod: &Value, old: Option<&Value>) -> Vec<String> {
        let mut causes = Causes::default();
        validate(&mut causes, pod, old);
        causes.0.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn a_pod_gets_what_kubernetes_fills_in() {
        let pod = pod();
        let container = &pod["spec"]["containers"][0];
        assert_eq!(pod["spec"]["restartPolicy"], "Always");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["readinessProbe"]["failureThreshold"], 3);
        assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(quality(&pod["spec"]), "Guaranteed");
        assert!(problems(&pod, None).is_empty());
        let before = pod.clone();
        let mut again = pod;
        default(&mut again);
        assert_eq!(again, before, "defaulting twice changes nothing");
    }

    #[test]
    fn violations_of_a_pod_are_all_told() {
        let mut pod = json!({"spec": {
            "containers": [{"name": "A"}, {"name": "b", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/"}]}],
        }});
        default(&mut pod);
        let found = problems(&pod, None);
        assert!(
            found[0].starts_with("spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label"),
            "{found:?}"
        );
        assert_eq!(found[1], "spec.containers[0].image: Required value");
        assert_eq!(found[2], "spec.containers[1].volumeMounts[0].name: Not found: \"v\"");
    }

    #[test]
    fn a_probe_asks_in_one_way_that_there_is() {
        let found = |probe: Value| {
            let mut pod = pod();
            pod["spec"]["containers"][0]["readinessProbe"] = probe;
            problems(&pod, None)
        };
        let path = "spec.containers[0].readinessProbe";
        assert_eq!(found(json!({"tcpSocket": {"port": 1}})), Vec::<String>::new());
        let none = format!("{path}: Required value: must specify a handler type");
        assert_eq!(found(json!({"periodSeconds": 1})), [none]);
        assert_eq!(
            found(json!({"tcpSocket": {"port": 1}, "exec": {"command": ["true"]}})),
            [format!("{path}: Forbidden: may not specify more than 1 handler type")]
        );
        let gone = "Forbidden: this cluster has no probes by gRPC: exec, httpGet and tcpSocket are served";
        assert_eq!(found(json!({"grpc": {"port": 1}})), [format!("{path}.grpc: {gone}")]);
    }

    #[test]
    fn nothing_is_mounted_over_something_else() {
        let mut pod = pod();
        pod["spec"]["volumes"] = json!([{"name": "v"}]);
        let mount = |path: &str| json!({"name": "v", "mountPath": path});
        pod["spec"]["containers"][0]["volumeMounts"] = json!([mount("/a"), mount("/b"), mount("/a")]);
        let path = "spec.containers[0].volumeMounts[2].mountPath";
        assert_eq!(problems(&pod, None), [format!("{path}: Invalid value: \"/a\": must be unique")]);
    }

    #[test]
    fn tokens_of_a_pod_live_between_ten_minutes_and_a_century() {
        let mut pod = pod();
        let source = |seconds: i64| json!({"serviceAccountToken": {"path": "t", "expirationSeconds": seconds}});
        pod["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [source(600), source(1 << 32)]}}]);
        assert!(problems(&pod, None).is_empty());
        pod["spec"]["volumes"][0]["projected"]["sources"] = json!([source(599), source((1 << 32) + 1)]);
        let field = |index: usize| {
            format!("spec.volumes[0].projected.sources[{index}].serviceAccountToken.expirationSeconds: Invalid value")
        };
        assert_eq!(
            problems(&pod, None),
            [
                format!("{}: 599: may not specify a duration less than 10 minutes", field(0)),
                format!("{}: 4294967297: may not specify a duration larger than 2^32 seconds", field(1)),
            ]
        );
    }

    #[test]
    fn names_of_a_pod_in_dns_are_labels() {
        let mut pod = pod();
        pod["spec"]["hostname"] = "db-0".into();
        pod["spec"]["subdomain"] = "".into();
        assert!(problems(&pod, None).is_empty());
        pod["spec"]["hostname"] = "a\n127.0.0.1 b".into();
        pod["spec"]["subdomain"] = "a.b".into();
        let found = problems(&pod, None);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("spec.hostname: Invalid value: \"a\\n127.0.0.1 b\": a lowercase RFC 1123 label"));
        assert!(found[1].starts_with("spec.subdomain: Invalid value: \"a.b\": a lowercase RFC 1123 label"));
    }

    #[test]
    fn only_images_of_a_pod_can_change() {
        let old = pod();
        let mut new = old.clone();
        new["spec"]["containers"][0]["image"] = "other:2".into();
        assert!(problems(&new, Some(&old)).is_empty());
        new["spec"]["hostname"] = "h".into();
        assert!(problems(&new, Some(&old))[0].starts_with("spec: Forbidden: pod updates may not change fields"));
    }
}
