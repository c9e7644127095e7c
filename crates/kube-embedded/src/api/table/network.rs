//! Services and their endpoints in a table.

use serde_json::Value;

use super::{Layout, age, column, items, labels, name, or, text, wide};

pub static SERVICES: Layout = Layout {
    columns: &[
        column("Name"),
        column("Type"),
        column("Cluster-IP"),
        column("External-IP"),
        column("Port(s)"),
        column("Age"),
        wide("Selector"),
    ],
    row: |object| {
        let spec = &object["spec"];
        vec![
            name(object),
            spec["type"].clone(),
            or(text(&spec["clusterIP"]), "<none>").into(),
            external(object).into(),
            ports(&spec["ports"]).into(),
            age(object),
            labels(&spec["selector"]).into(),
        ]
    },
};

pub static ENDPOINTS: Layout = Layout {
    columns: &[column("Name"), column("Endpoints"), column("Age")],
    row: |object| {
        let mut all = Vec::new();
        for subset in items(&object["subsets"]) {
            for address in items(&subset["addresses"]) {
                let address = text(&address["ip"]);
                let ports: Vec<_> = items(&subset["ports"]).collect();
                if ports.is_empty() {
                    all.push(address.to_owned());
                }
                all.extend(ports.iter().map(|port| format!("{address}:{}", port["port"])));
            }
        }
        vec![name(object), few(&all, ",").into(), age(object)]
    },
};

pub static ENDPOINT_SLICES: Layout = Layout {
    columns: &[column("Name"), column("AddressType"), column("Ports"), column("Endpoints"), column("Age")],
    row: |object| {
        let ports: Vec<String> = items(&object["ports"]).map(|port| port["port"].to_string()).collect();
        let addresses: Vec<String> = items(&object["endpoints"])
            .flat_map(|endpoint| items(&endpoint["addresses"]))
            .map(|address| text(address).to_owned())
            .collect();
        let ports = if ports.is_empty() { "<unset>".to_owned() } else { few(&ports, ",") };
        let addresses = if addresses.is_empty() { "<unset>".to_owned() } else { few(&addresses, ",") };
        vec![name(object), object["addressType"].clone(), ports.into(), addresses.into(), age(object)]
    },
};

/// Three of them, and how many more there are.
fn few(all: &[String], separator: &str) -> String {
    match all.len() {
        0 => "<none>".to_owned(),
        1..=3 => all.join(separator),
        more => format!("{} + {} more...", all[..3].join(separator), more - 3),
    }
}

fn ports(ports: &Value) -> String {
    let shown: Vec<String> = items(ports)
        .map(|port| {
            let protocol = or(text(&port["protocol"]), "TCP");
            match port["nodePort"].as_i64() {
                Some(node) if node > 0 => format!("{}:{node}/{protocol}", port["port"]),
                _ => format!("{}/{protocol}", port["port"]),
            }
        })
        .collect();
    if shown.is_empty() { "<none>".to_owned() } else { shown.join(",") }
}

fn external(object: &Value) -> String {
    let spec = &object["spec"];
    let given = items(&spec["externalIPs"]).map(text).collect::<Vec<_>>().join(",");
    match text(&spec["type"]) {
        "LoadBalancer" => {
            let ingress = items(&object["status"]["loadBalancer"]["ingress"]);
            let balancers: Vec<&str> = ingress.map(|one| or(text(&one["ip"]), text(&one["hostname"]))).collect();
            match (balancers.join(","), given) {
                (balancers, given) if balancers.is_empty() => or(&given, "<pending>").to_owned(),
                (balancers, given) if given.is_empty() => balancers,
                (balancers, given) => format!("{balancers},{given}"),
            }
        }
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        _ => or(&given, "<none>").to_owned(),
    }
}
