//! Gateways: selectors that pick no Pod, ports that no Service of the Pods has.

use std::collections::{BTreeMap, BTreeSet};

use navarch_model::{Gateway, Kind, KubernetesPod, Labels, Service, Shared, is_selected};

use super::{Findings, key_of};
use crate::MeshSnapshot;

type Pair<'a> = (&'a str, &'a str);

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let pods = &mesh.analysis.pods;
    let gateways = mesh.rules.gateways.iter();
    let written: Vec<&Shared<Gateway>> = gateways
        .filter(|gateway| gateway.sources.is_empty() && !gateway.spec.selector.is_empty())
        .collect();
    // Where no Pod is known at all, proxies are not Pods, and their labels are their own word.
    if pods.is_empty() || written.is_empty() {
        return;
    }
    let index = PodIndex::new(&written, pods.values().map(|indexed| &indexed.pod));
    let services = services_by_namespace(mesh);
    let mut picked: BTreeMap<&Labels, Vec<&KubernetesPod>> = BTreeMap::new();
    for gateway in written {
        let selector = &gateway.spec.selector;
        let pods = picked
            .entry(selector)
            .or_insert_with(|| index.find(selector));
        if pods.is_empty() {
            let message = "no Pod has these labels, so that only proxies that tell them themselves have the servers; \
                           correct the selector, or deploy the gateway";
            let key = key_of(Kind::Gateway, &gateway.metadata);
            let path = "spec.selector".to_owned();
            told.info(key, "gateway-selects-nothing", path, message.to_owned());
        } else {
            check_ports(gateway, pods, &services, told);
        }
    }
}

/// Pods by the labels that any selector names.
struct PodIndex<'a>(BTreeMap<Pair<'a>, Vec<&'a KubernetesPod>>);

impl<'a> PodIndex<'a> {
    fn new(
        gateways: &[&'a Shared<Gateway>],
        pods: impl Iterator<Item = &'a Shared<KubernetesPod>>,
    ) -> Self {
        let selectors = gateways.iter().map(|gateway| &gateway.spec.selector);
        let keys: BTreeSet<&str> = selectors
            .flat_map(|s| s.keys())
            .map(String::as_str)
            .collect();
        let mut by_label: BTreeMap<Pair<'a>, Vec<&'a KubernetesPod>> = BTreeMap::new();
        for pod in pods {
            for (key, value) in labels_of(pod) {
                if keys.contains(key.as_str()) {
                    by_label.entry((key, value)).or_default().push(pod);
                }
            }
        }
        Self(by_label)
    }

    /// Pods that a selector picks; the rarest of its labels says which to look at.
    fn find(&self, selector: &'a Labels) -> Vec<&'a KubernetesPod> {
        let of_label = |(key, value): (&'a String, &'a String)| {
            let pair = (key.as_str(), value.as_str());
            self.0.get(&pair).map_or(&[][..], Vec::as_slice)
        };
        let rarest = selector.iter().map(of_label).min_by_key(|pods| pods.len());
        let pods = rarest.unwrap_or_default().iter().copied();
        pods.filter(|pod| is_selected(selector, labels_of(pod)))
            .collect()
    }
}

fn labels_of(pod: &KubernetesPod) -> &Labels {
    &pod.metadata.common.labels
}

type ByNamespace<'a> = BTreeMap<&'a str, Vec<&'a Service>>;

/// Services with a selector.
fn services_by_namespace(mesh: &MeshSnapshot) -> ByNamespace<'_> {
    let mut services = ByNamespace::new();
    for service in mesh.services().iter().filter(|s| !s.selector.is_empty()) {
        services
            .entry(&service.namespace)
            .or_default()
            .push(service);
    }
    services
}

/// A server's port must be one to which a Service of the gateway leads, if it has a Service.
fn check_ports(
    gateway: &Gateway,
    pods: &[&KubernetesPod],
    services: &ByNamespace<'_>,
    told: &mut Findings,
) {
    // The Pods of a gateway are alike: one stands for all.
    let Some(pod) = pods.first() else {
        return;
    };
    let of_namespace = services.get(pod.metadata.common.namespace.as_str());
    let behind: Vec<&&Service> = of_namespace
        .into_iter()
        .flatten()
        .filter(|service| is_selected(&service.selector, labels_of(pod)))
        .collect();
    if behind.is_empty() {
        return;
    }
    let ports: BTreeSet<u32> = behind.iter().flat_map(|s| target_ports(s)).collect();
    // A named targetPort may be any.
    let mut named = behind.iter().flat_map(|s| &s.ports);
    if named.any(|port| port.target_port_name.is_some()) {
        return;
    }
    for (i, server) in gateway.spec.servers.iter().enumerate() {
        let port = server.port.number;
        if !ports.contains(&port) {
            let message = format!(
                "no Service of the gateway's Pods leads to port {port}, only to {ports:?}; add the port to the Service"
            );
            let key = key_of(Kind::Gateway, &gateway.metadata);
            let path = format!("spec.servers[{i}].port.number");
            told.warn(key, "gateway-port-not-exposed", path, message);
        }
    }
}

/// Ports that clients call and those that they lead to: a gateway's server may be meant by either.
fn target_ports(service: &Service) -> impl Iterator<Item = u32> {
    let ports = service.ports.iter();
    ports.flat_map(|port| [Some(port.number), port.target_port].into_iter().flatten())
}
