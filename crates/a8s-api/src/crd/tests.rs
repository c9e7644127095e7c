//! The types and the schemas agree, and documents of the released examples' shape are understood.

use super::*;
use serde::{Serialize, de::DeserializeOwned};

fn schema_of(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind).expect("a kind of ours");
    serde_json::to_value(crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema)).expect("plain data")
}

/// A value with every property the schema knows.
fn full(schema: &Value) -> Value {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return json!("1Gi");
    }
    match schema["type"].as_str() {
        Some("object") => match (schema.get("properties"), schema.get("additionalProperties")) {
            (Some(properties), _) => {
                let fields = properties.as_object().expect("an object");
                Value::Object(fields.iter().map(|(name, schema)| (name.clone(), full(schema))).collect())
            }
            (None, Some(values)) => json!({"key": full(values)}),
            (None, None) => json!({}),
        },
        Some("array") => json!([full(&schema["items"])]),
        Some("integer") => json!(schema["minimum"].as_f64().map_or(7, |minimum| minimum as i64)),
        Some("boolean") => json!(true),
        Some("string") if schema["format"] == "date-time" => json!("2026-01-02T03:04:05Z"),
        Some("string") => schema["enum"].get(0).cloned().unwrap_or(json!("text")),
        other => panic!("no type: {other:?} in {schema}"),
    }
}

/// Deserialises everything the schema allows and serialises it again: a field that the type does not know is missing
/// afterwards, and one the schema does not know is extra.
fn agree<K: DeserializeOwned + Serialize>(kind: &str) {
    let document = full(&schema_of(kind));
    let object: K = serde_json::from_value(document.clone()).expect("the type reads what the schema allows");
    assert_eq!(serde_json::to_value(&object).expect("plain data"), document, "{kind}");
}

#[test]
fn every_field_of_the_schemas_is_a_field_of_the_types_and_back() {
    agree::<Postgresql>("Postgresql");
    agree::<Backup>("Backup");
    agree::<Restore>("Restore");
    agree::<ServiceBinding>("ServiceBinding");
}

#[test]
fn an_object_without_spec_is_read() {
    let object: Postgresql = serde_json::from_value(json!({"metadata": {"name": "solo"}})).expect("no spec");
    assert_eq!(object.spec.version, 0);
    assert_eq!(object.api_version, "postgresql.anynines.com/v1beta3");
}

/// Documents of the shape of the released examples.
#[test]
fn documents_of_users_are_read() {
    let instance: Postgresql = serde_saphyr::from_str(concat!(
        "apiVersion: postgresql.anynines.com/v1beta3\nkind: Postgresql\nmetadata: {name: clustered}\n",
        "spec:\n  replicas: 3\n  volumeSize: 1Gi\n  version: 14\n  expose: LoadBalancer\n",
        "  extensions: [postgis, uuid-ossp]\n",
        "  resources: {requests: {cpu: 100m}, limits: {memory: 200Mi}}\n",
        "  schedulingConstraints:\n    affinity:\n      podAntiAffinity:\n",
        "        requiredDuringSchedulingIgnoredDuringExecution:\n",
        "        - podAffinityTerm:\n          labelSelector:\n            matchExpressions:\n",
        "            - {key: a8s.a9s/dsi-name, operator: In, values: [clustered]}\n",
        "          topologyKey: topology.kubernetes.io/zone\n",
        "    tolerations:\n    - {key: pg-node, operator: Equal, value: \"true\", effect: NoSchedule}\n",
    ))
    .expect("an instance");
    assert_eq!((instance.spec.replicas(), instance.spec.version), (3, 14));
    assert_eq!(instance.spec.resources().requests.expect("given")["cpu"], "100m".into());

    let reference = "serviceInstance: {apiGroup: postgresql.anynines.com, kind: PostgreSQL, name: clustered}";
    let backup: Backup =
        serde_saphyr::from_str(&format!("metadata: {{name: b}}\nspec:\n  {reference}\n")).expect("a backup");
    assert_eq!(backup.spec.service_instance.kind, "PostgreSQL");
    let restore: Restore =
        serde_saphyr::from_str(&format!("metadata: {{name: r}}\nspec:\n  backupName: b\n  {reference}\n"))
            .expect("a restore");
    assert_eq!(restore.spec.backup_name, "b");
    let binding: ServiceBinding = serde_saphyr::from_str(concat!(
        "metadata: {name: sb}\nspec:\n  instance:\n    apiVersion: postgresql.anynines.com/v1beta3\n",
        "    kind: Postgresql\n    name: clustered\n    namespace: default\n",
    ))
    .expect("a binding");
    assert_eq!(binding.spec.instance.namespace.as_deref(), Some("default"));
}

#[test]
fn the_definitions_are_as_reviewed() {
    for crd in crds() {
        let name = crd.metadata.name.clone().expect("named");
        insta::assert_snapshot!(name, serde_saphyr::to_string(&crd).expect("plain data"));
    }
}
