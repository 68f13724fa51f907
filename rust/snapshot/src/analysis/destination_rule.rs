//! DestinationRules: hosts that nobody has, rules that an older one takes over, subsets without a workload.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{
    ConfigKey, DestinationRule, Hostname, Kind, ServiceEndpoints, Shared, is_selected,
};

use super::{Findings, full_name, key_of};
use crate::MeshSnapshot;

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let rules = &mesh.analysis.written.destination_rules;
    let mut wildcards: Option<ReversedHosts> = None;
    let mut older: BTreeMap<(&str, Hostname), Vec<&DestinationRule>> = BTreeMap::new();
    for rule in rules {
        let host = host_of(mesh, rule);
        let is_known = if host.is_wildcard() {
            wildcards
                .get_or_insert_with(|| ReversedHosts::new(mesh))
                .has_any(&host)
        } else {
            !mesh.services_of_host(host.as_str()).is_empty()
        };
        if !is_known {
            let message =
                format!("no service has the host `{host}`; correct it, or add the service");
            told.warn(
                rule_key(rule),
                "unknown-host",
                "spec.host".to_owned(),
                message,
            );
        }
        let same_host = older.entry((&rule.metadata.namespace, host)).or_default();
        check_merge(rule, same_host, told);
        same_host.push(rule);
    }
}

fn rule_key(rule: &DestinationRule) -> ConfigKey {
    key_of(Kind::DestinationRule, &rule.metadata)
}

fn host_of(mesh: &MeshSnapshot, rule: &DestinationRule) -> Hostname {
    let namespace = &rule.metadata.namespace;
    Hostname::resolve(&rule.spec.host, namespace, &mesh.domain_suffix)
}

/// Hosts of services, written backwards: those of a wildcard stand together.
struct ReversedHosts(BTreeSet<String>);

impl ReversedHosts {
    fn new(mesh: &MeshSnapshot) -> Self {
        let hosts = mesh.services().iter();
        Self(hosts.map(|s| reversed(s.hostname.as_str())).collect())
    }

    fn has_any(&self, wildcard: &Hostname) -> bool {
        let suffix = reversed(wildcard.as_str().trim_start_matches('*'));
        let mut from = self.0.range(suffix.clone()..);
        from.next().is_some_and(|host| host.starts_with(&suffix))
    }
}

fn reversed(host: &str) -> String {
    host.chars().rev().collect()
}

/// Rules of one host, selector and visibility are one: the oldest policy holds, and the oldest subset of a name.
fn check_merge(rule: &DestinationRule, older: &[&DestinationRule], told: &mut Findings) {
    let spec = &rule.spec;
    let is_same = |other: &&&DestinationRule| {
        let tokens = |rule: &DestinationRule| rule.spec.export_to.iter().cloned().collect();
        let (mine, theirs): (BTreeSet<String>, BTreeSet<String>) = (tokens(rule), tokens(other));
        mine == theirs && other.spec.workload_selector == spec.workload_selector
    };
    let same: Vec<&&DestinationRule> = older.iter().filter(is_same).collect();
    let mut tell = |path: String, what: &str, holder: &DestinationRule| {
        let message = format!(
            "the older DestinationRule `{}` of this host has {what}, which holds; put both into one object",
            full_name(&holder.metadata)
        );
        told.warn(rule_key(rule), "destination-rule-conflict", path, message);
    };
    let with_policy = same
        .iter()
        .find(|other| other.spec.traffic_policy.is_some());
    if let Some(holder) = with_policy.filter(|_| spec.traffic_policy.is_some()) {
        tell("spec.trafficPolicy".to_owned(), "a trafficPolicy", holder);
    }
    for (i, subset) in spec.subsets.iter().enumerate() {
        let has_it = |other: &&&&DestinationRule| {
            other
                .spec
                .subsets
                .iter()
                .any(|known| known.name == subset.name)
        };
        if let Some(holder) = same.iter().find(has_it) {
            let what = format!("a subset `{}`", subset.name);
            tell(format!("spec.subsets[{i}]"), &what, holder);
        }
    }
}

/// Subsets that pick none of the endpoints of a service that has some.
pub(super) fn check_subsets(mesh: &MeshSnapshot, told: &mut Findings) {
    for rule in &mesh.analysis.written.destination_rules {
        if rule.spec.subsets.is_empty() {
            continue;
        }
        let host = host_of(mesh, rule);
        let services = mesh.services_of_host(host.as_str()).iter();
        let endpoints: Vec<Shared<ServiceEndpoints>> =
            services.map(|service| mesh.endpoints(service)).collect();
        if endpoints.iter().all(|of_one| of_one.endpoints.is_empty()) {
            continue;
        }
        for (i, subset) in rule.spec.subsets.iter().enumerate() {
            let mut all = endpoints.iter().flat_map(|of_one| &of_one.endpoints);
            if all.any(|endpoint| is_selected(&subset.labels, &endpoint.workload.labels)) {
                continue;
            }
            let message = format!(
                "no endpoint of `{host}` has these labels: requests to the subset `{}` get 503",
                subset.name
            );
            let path = format!("spec.subsets[{i}].labels");
            told.warn(rule_key(rule), "subset-selects-nothing", path, message);
        }
    }
}
