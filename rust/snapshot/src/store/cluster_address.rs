//! A Service that several clusters have, as clients of each know it: by the address that it has there.
//!
//! Source: istio `pilot/pkg/model/service.go` `ClusterVIPs`, `pilot/pkg/serviceregistry/aggregate/controller.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{Service, Shared};

use crate::ServiceKey;
use crate::registry::Registry;
use crate::registry::kubernetes::cluster_addresses;

use super::Name;

/// Services that clients of a cluster know by other addresses than clients elsewhere, by the cluster's name.
pub(crate) type ServicesOfClusters = BTreeMap<Arc<str>, BTreeMap<ServiceKey, Shared<Service>>>;

impl Registry {
    /// The addresses of a Service in the clusters where they are others than `own`; none where it is headless, as
    /// Istio has `0.0.0.0` there. Whether its endpoints are chosen from is the same for all: what `own` says.
    pub(super) fn addresses_of_clusters(
        &self,
        name: &Name,
        own: &[Arc<str>],
        root: &str,
    ) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
        if self.remotes.is_empty() {
            return BTreeMap::new();
        }
        let others = self.clusters().filter_map(|cluster| {
            let service = cluster.services.get(name)?;
            let addresses = cluster_addresses(service);
            (addresses != own && cluster.is_discovered(&name.0, root))
                .then(|| (cluster.options.cluster_id.clone(), addresses))
        });
        others.collect()
    }
}

/// Each service with the addresses that it has in another cluster, for clients there.
pub(super) fn services_of_clusters(services: &[Shared<Service>]) -> ServicesOfClusters {
    let mut made = ServicesOfClusters::new();
    for service in services {
        for (cluster, addresses) in &service.addresses_of_clusters {
            let mut there = (**service).clone();
            there.addresses.clone_from(addresses);
            let of_cluster = made.entry(cluster.clone()).or_default();
            of_cluster.insert(ServiceKey::of(service), Shared::new(there));
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use navarch_model::{ConfigKey, Kind, Proxy};

    use crate::{Change, MeshOptions, MeshStore};

    fn service(addresses: &str) -> Change {
        let payload = format!(
            r#"{{"metadata": {{"namespace": "shop", "name": "a"}},
                "spec": {{"clusterIPs": [{addresses}], "ports": [{{"name": "http", "port": 80}}]}}}}"#
        );
        Change {
            key: ConfigKey::new(Kind::Service, "shop", "a"),
            payload: Some(payload.into_bytes()),
        }
    }

    fn addresses(store: &MeshStore, cluster: &str) -> String {
        let node = format!(
            r#"{{"id": "sidecar~10.1.0.9~web-1.shop~shop.svc.cluster.local",
                "metadata": {{"NAMESPACE": "shop", "CLUSTER_ID": "{cluster}"}}}}"#
        );
        let mesh = store.snapshot();
        let group = mesh.group_of(&Proxy::from_node_json(node.as_bytes()).unwrap());
        let scope = mesh.scope_of(&group);
        let found = scope.find_service("a.shop.svc.cluster.local").unwrap();
        found.addresses.join(" ")
    }

    #[test]
    fn each_cluster_has_its_own_address_or_that_of_the_first() {
        let mut store = MeshStore::new(MeshOptions::default());
        let remote = |cluster: &str, addresses| (cluster.into(), service(addresses));
        let far = remote("far", r#""10.3.0.1", "fd00::3""#);
        store.apply_clusters(vec![service(r#""10.2.0.1""#)], vec![far]);
        assert_eq!(addresses(&store, "Kubernetes"), "10.2.0.1");
        assert_eq!(addresses(&store, "far"), "10.3.0.1 fd00::3");
        assert_eq!(addresses(&store, "elsewhere"), "10.2.0.1");

        let changes = store.apply_clusters(vec![], vec![remote("far", r#""10.3.0.2""#)]);
        assert!(changes.is_configuration);
        assert_eq!(addresses(&store, "far"), "10.3.0.2");
        store.apply_clusters(vec![], vec![remote("far", r#""None""#)]);
        assert_eq!(addresses(&store, "far"), "", "it is headless there");
        store.apply_clusters(vec![], vec![remote("near", r#""10.4.0.1""#)]);
        assert_eq!(addresses(&store, "near"), "10.4.0.1");
        let gone = Change {
            payload: None,
            ..service("")
        };
        store.apply(vec![gone]);
        // Of the clusters that are left the first by name has none.
        assert_eq!(addresses(&store, "elsewhere"), "");
        assert_eq!(addresses(&store, "near"), "10.4.0.1");
    }
}
