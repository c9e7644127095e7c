//! Cluster IPs: every Service that wants one gets an address of the cluster's range, and no address comes a second time
//! as long as there are others.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::objects::GroupResource;
use crate::status::{Cause, Status};
use crate::store::Store;

/// The addresses for Services.
pub struct ServiceAddresses {
    first: u32,
    last: u32,
    given: Mutex<HashSet<u32>>,
}

impl ServiceAddresses {
    /// The addresses from the first to the last, both included.
    pub fn new((first, last): (Ipv4Addr, Ipv4Addr)) -> Self {
        Self { first: first.into(), last: last.into(), given: Mutex::new(HashSet::new()) }
    }

    /// Sees to `spec.clusterIP` and `spec.clusterIPs` of a Service that takes the place of `old`.
    ///
    /// # Errors
    /// 422 for an address that is not ours or not free, 500 when there is none left.
    pub fn assign(&self, store: &Store, service: &mut Value, old: Option<&Value>, dry: bool) -> Result<(), Status> {
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            for field in ["clusterIP", "clusterIPs"] {
                spec.as_object_mut().map(|spec| spec.remove(field));
            }
            return Ok(());
        }
        let wanted = [&spec["clusterIP"], &spec["clusterIPs"][0]];
        let wanted = wanted.into_iter().filter_map(Value::as_str).find(|text| !text.is_empty()).map(str::to_owned);
        let before = old.and_then(|old| old["spec"]["clusterIP"].as_str()).filter(|text| !text.is_empty());
        let address = match (wanted, before) {
            (Some(wanted), before) if wanted == "None" || Some(wanted.as_str()) == before => wanted,
            // An update that does not mention the address keeps it; one that changes it is refused elsewhere.
            (Some(wanted), Some(_)) => wanted,
            (None, Some(before)) => before.to_owned(),
            (Some(wanted), None) => self.take(store, &wanted, dry).map_err(|why| refused(&name, &wanted, &why))?,
            (None, None) => self
                .next(store, dry)
                .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?,
        };
        spec["clusterIP"] = address.as_str().into();
        spec["clusterIPs"] = json!([address]);
        Ok(())
    }

    fn take(&self, store: &Store, wanted: &str, dry: bool) -> Result<String, String> {
        let address: Ipv4Addr = wanted.parse().map_err(|_| "must be a valid IP address".to_owned())?;
        let number = u32::from(address);
        if number < self.first || number > self.last {
            return Err(format!(
                "failed to allocate IP {wanted}: the provided IP ({wanted}) is not in the valid range. The range of valid IPs \
                 is {}-{}",
                Ipv4Addr::from(self.first),
                Ipv4Addr::from(self.last)
            ));
        }
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if in_use(store).contains(&number) {
            return Err(format!("failed to allocate IP {wanted}: provided IP is already allocated"));
        }
        if !dry {
            given.insert(number);
        }
        Ok(wanted.to_owned())
    }

    fn next(&self, store: &Store, dry: bool) -> Option<String> {
        let mut given = self.given.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let used = in_use(store);
        let free = |given: &HashSet<u32>| {
            (self.first..=self.last).find(|number| !given.contains(number) && !used.contains(number))
        };
        let number = match free(&given) {
            Some(number) => number,
            None => {
                given.clear();
                free(&given)?
            }
        };
        if !dry {
            given.insert(number);
        }
        Some(Ipv4Addr::from(number).to_string())
    }
}

fn in_use(store: &Store) -> HashSet<u32> {
    let services = store.snapshot(&GroupResource::new("", "services"), None).1;
    let addresses =
        services.iter().filter_map(|service| service.value["spec"]["clusterIP"].as_str()?.parse::<Ipv4Addr>().ok());
    addresses.map(u32::from).collect()
}

fn refused(name: &str, wanted: &str, why: &str) -> Status {
    let message = format!("Invalid value: [\"{wanted}\"]: {why}");
    let cause = Cause { reason: "FieldValueInvalid", field: "spec.clusterIPs".to_owned(), message };
    Status::invalid("", "Service", name, vec![cause])
}
