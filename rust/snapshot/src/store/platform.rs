//! Kubernetes' own objects, of the mesh's own cluster and of remote ones.
//!
//! Rules count in one cluster alone; services and endpoints of all clusters are one mesh
//! (istio `pilot/pkg/serviceregistry/aggregate/controller.go`).

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_model::{ConfigKey, EndpointSlice, Kind, KubernetesPod, Object, Shared, decode_object};

use super::dirty::Dirty;
use super::{MeshStore, Name, replace};
use crate::Change;
use crate::registry::kubernetes::service_of_slice;
use crate::registry::{IndexedPod, Registry};

impl MeshStore {
    /// Take in an object of a remote cluster; of kinds that count in the mesh's own cluster alone nothing happens.
    pub(super) fn apply_remote(&mut self, cluster: &Arc<str>, change: Change, dirty: &mut Dirty) {
        let key = change.key;
        let object = match change.payload.map(|payload| decode_object(&key, &payload)) {
            None => None,
            Some(Ok(object)) => Some(object),
            Some(Err(diagnostic)) => {
                self.undecodable.insert(key, diagnostic);
                return;
            }
        };
        let root = Arc::from(self.mesh_config.root_namespace.as_str());
        let own = &mut self.registry;
        let remote = own.remotes.entry(cluster.clone()).or_insert_with(|| {
            let mut options = own.options.clone();
            options.cluster_id = cluster.clone();
            Registry {
                options,
                trust_domain: own.trust_domain.clone(),
                networks: own.networks.clone(),
                discovery_selectors: own.discovery_selectors.clone(),
                ..Registry::default()
            }
        });
        remote.put(&key, object, &root, dirty);
        if remote.is_empty() {
            own.remotes.remove(cluster);
        }
    }

    /// What remote clusters inherit from the mesh's settings, and the workloads of all clusters anew.
    pub(super) fn refresh_all_workloads(&mut self) {
        let root = Arc::from(self.mesh_config.root_namespace.as_str());
        let own = &mut self.registry;
        own.refresh_workloads(&root);
        for remote in own.remotes.values_mut() {
            remote.trust_domain = own.trust_domain.clone();
            remote.networks = own.networks.clone();
            remote
                .discovery_selectors
                .clone_from(&own.discovery_selectors);
            remote.refresh_workloads(&root);
        }
    }
}

impl Registry {
    /// This cluster, then the remote ones by name.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.remotes.values())
    }

    fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.nodes.is_empty()
            && self.pods.is_empty()
            && self.services.is_empty()
            && self.slices.is_empty()
    }

    /// Put or remove an object of Kubernetes' own kinds.
    pub(super) fn put(
        &mut self,
        key: &ConfigKey,
        object: Option<Object>,
        root: &str,
        dirty: &mut Dirty,
    ) {
        let name: Name = (key.namespace.clone(), key.name.clone());
        let is_changed = match (key.kind, object) {
            (Kind::Pod, Some(Object::Pod(pod))) => {
                return self.put_pod(key, Some(pod), root, dirty);
            }
            (Kind::Pod, _) => return self.put_pod(key, None, root, dirty),
            (Kind::EndpointSlice, Some(Object::EndpointSlice(slice))) => {
                return self.put_slice(key, Some(slice), dirty);
            }
            (Kind::EndpointSlice, _) => return self.put_slice(key, None, dirty),
            (Kind::Namespace, Some(Object::Namespace(value))) => {
                replace(&mut self.namespaces, name, Some(Shared::new(value)))
            }
            (Kind::Namespace, _) => replace(&mut self.namespaces, name, None),
            (Kind::Node, Some(Object::Node(value))) => {
                replace(&mut self.nodes, name, Some(Shared::new(value)))
            }
            (Kind::Node, _) => replace(&mut self.nodes, name, None),
            (Kind::Service, Some(Object::Service(value))) => {
                replace(&mut self.services, name, Some(Shared::new(value)))
            }
            (Kind::Service, _) => replace(&mut self.services, name, None),
            _ => false,
        };
        if is_changed {
            dirty.add_object(key);
        }
    }

    fn put_pod(
        &mut self,
        key: &ConfigKey,
        pod: Option<KubernetesPod>,
        root: &str,
        dirty: &mut Dirty,
    ) {
        let name: Name = (key.namespace.clone(), key.name.clone());
        let pod = pod.map(Shared::new);
        let old = self.pods.get(&name).map(|indexed| indexed.pod.clone());
        if old == pod {
            return;
        }
        for ip in old.iter().flat_map(|pod| addresses_of(pod)) {
            if self.pods_by_address.get(&ip) == Some(&name) {
                self.pods_by_address.remove(&ip);
            }
            dirty.addresses.insert(ip);
        }
        match pod {
            None => {
                self.pods.remove_mut(&name);
            }
            Some(pod) => {
                for ip in addresses_of(&pod) {
                    self.pods_by_address.insert(ip.clone(), name.clone());
                    dirty.addresses.insert(ip);
                }
                let workload = self.workload_of_pod(&pod, root);
                let indexed = IndexedPod { pod, workload };
                self.pods.insert_mut(name.clone(), indexed);
            }
        }
        dirty.add_object(key);
        dirty.pods.insert(name);
    }

    fn put_slice(&mut self, key: &ConfigKey, slice: Option<EndpointSlice>, dirty: &mut Dirty) {
        let name: Name = (key.namespace.clone(), key.name.clone());
        let slice = slice.map(Shared::new);
        let old = self.slices.get(&name).cloned();
        if old == slice {
            return;
        }
        let service_of = |slice: &Shared<_>| {
            service_of_slice(slice).map(|service| (name.0.clone(), Arc::from(service)))
        };
        let (old_service, new_service) = (
            old.as_ref().and_then(&service_of),
            slice.as_ref().and_then(&service_of),
        );
        if let Some(service) = &old_service
            && let Some(slices) = self.slices_of_service.get_mut(service)
        {
            slices.remove(&name.1);
        }
        if let Some(service) = &new_service {
            let slices: &mut BTreeSet<Arc<str>> =
                self.slices_of_service.entry(service.clone()).or_default();
            slices.insert(name.1.clone());
        }
        self.places_of_slices
            .replace(&name, old.as_deref(), slice.as_deref());
        replace(&mut self.slices, name, slice);
        dirty.add_object(key);
        dirty
            .kubernetes_services
            .extend(old_service.into_iter().chain(new_service));
    }

    /// The workloads of all Pods anew.
    fn refresh_workloads(&mut self, root: &str) {
        let workloads: Vec<_> = self
            .pods
            .iter()
            .map(|(name, indexed)| (name.clone(), self.workload_of_pod(&indexed.pod, root)))
            .collect();
        for (name, workload) in workloads {
            if let Some(indexed) = self.pods.get_mut(&name) {
                indexed.workload = workload;
            }
        }
    }
}

/// The addresses at which a Pod is alone: those of the host network are the Node's.
fn addresses_of(pod: &KubernetesPod) -> Vec<Arc<str>> {
    let is_gone = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    if pod.spec.host_network || is_gone {
        return Vec::new();
    }
    let mut addresses: Vec<Arc<str>> = pod
        .status
        .pod_ips
        .iter()
        .map(|ip| ip.ip.as_str().into())
        .collect();
    if addresses.is_empty() && !pod.status.pod_ip.is_empty() {
        addresses.push(pod.status.pod_ip.as_str().into());
    }
    addresses
}
