//! Where the services of extension providers are.
//!
//! Source: istio `pilot/pkg/extensionproviders/cluster.go` `LookupCluster`.

use navarch_model::ProviderService;
use navarch_snapshot::MeshSnapshot;

use crate::name;

/// A provider's service as proxies reach it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProviderCluster {
    /// The name of the service's cluster.
    pub(crate) cluster: String,
    /// The service's host.
    pub(crate) host: String,
}

/// The cluster of a provider; without a namespace a host that several namespaces have names nobody.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn find_cluster(
    mesh: &MeshSnapshot,
    provider: &ProviderService,
) -> Result<ProviderCluster, String> {
    let service = &provider.service;
    if service.is_empty() {
        return Err("its `service` is empty; write [namespace/]host".to_owned());
    }
    if !(1..=65535).contains(&provider.port) {
        return Err(format!("its port {} is none", provider.port));
    }
    let (namespace, host) = match service.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, service.as_str()),
    };
    let all = mesh.services_of_host(host).iter();
    let mut found = all.filter(|s| namespace.is_none_or(|namespace| *s.namespace == *namespace));
    let Some(first) = found.next() else {
        return Err(format!("there is no service `{service}`"));
    };
    if found.next().is_some() {
        return Err(format!(
            "several namespaces have a service `{service}`; write namespace/host"
        ));
    }
    let host = first.hostname.to_string();
    let cluster = name::outbound_cluster(provider.port, "", &host);
    Ok(ProviderCluster { cluster, host })
}
