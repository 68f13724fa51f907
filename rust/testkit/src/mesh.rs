//! A mesh made of objects, and proxies in it.

use std::sync::Arc;

use navarch_encode::{GroupResources, ResourceCache, ResourceSnapshot, assemble_own};
use navarch_model::{ConfigKey, Kind, Proxy};
use navarch_snapshot::{Change, MeshOptions, MeshStore};
use serde_json::{Value, json};

/// A mesh with objects applied.
#[derive(Debug)]
pub struct TestMesh {
    store: MeshStore,
}

impl TestMesh {
    /// A mesh of objects in Kubernetes form; a `MeshConfig` is given as `{"kind": "MeshConfig", ...fields}`.
    ///
    /// # Panics
    /// An object has no known kind, or can't be decoded.
    pub fn new(objects: impl IntoIterator<Item = Value>) -> Self {
        let mut store = MeshStore::new(MeshOptions::default());
        store.apply(objects.into_iter().map(change).collect());
        let faults: Vec<String> = store
            .undecodable()
            .map(|fault| fault.message.clone())
            .collect();
        assert!(faults.is_empty(), "objects can't be decoded: {faults:?}");
        Self { store }
    }

    /// What a proxy of this mesh is sent.
    pub fn resources(&self, proxy: &TestProxy) -> ResourceSnapshot {
        let proxy = proxy.read();
        let mesh = self.store.snapshot();
        let cache = ResourceCache::verifying();
        let scope = Arc::new(mesh.scope_of(&mesh.group_of(&proxy)));
        let shared = GroupResources::new(&cache, &mesh, Arc::clone(&scope));
        let own = assemble_own(&cache, &mesh, &scope, &proxy);
        ResourceSnapshot::new(shared.part(), &own.part)
    }
}

fn change(mut object: Value) -> Change {
    let kind_name = object["kind"].as_str().unwrap_or_default().to_owned();
    let Some(kind) = Kind::from_name(&kind_name) else {
        panic!("`{kind_name}` is no kind");
    };
    let key = if kind_name == "MeshConfig" {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("kind");
        }
        ConfigKey::new(kind, "", "mesh")
    } else {
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        ConfigKey::new(kind, &text("namespace"), &text("name"))
    };
    Change {
        key,
        payload: Some(object.to_string().into_bytes()),
    }
}

/// A proxy as its node tells of it.
#[derive(Clone, Debug)]
pub struct TestProxy {
    node: Value,
}

impl TestProxy {
    /// Istio's sidecar of a workload in `shop` that is labelled `app: <app>`.
    pub fn sidecar(app: &str, ip: &str) -> Self {
        Self::new("sidecar", app, ip)
    }

    /// A gateway in `shop` that is labelled `app: <app>`.
    pub fn gateway(app: &str, ip: &str) -> Self {
        Self::new("router", app, ip)
    }

    fn new(kind: &str, app: &str, ip: &str) -> Self {
        let node = json!({
            "id": format!("{kind}~{ip}~{app}-1.shop~shop.svc.cluster.local"),
            "metadata": {
                "NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0", "CLUSTER_ID": "Kubernetes",
                "INSTANCE_IPS": ip, "LABELS": {"app": app},
            },
        });
        Self { node }
    }

    /// With another value of the node's metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: Value) -> Self {
        self.node["metadata"][key] = value;
        self
    }

    /// Without a value of the node's metadata; a node without `ISTIO_VERSION` is a stock Envoy.
    #[must_use]
    pub fn without_metadata(mut self, key: &str) -> Self {
        if let Some(metadata) = self.node["metadata"].as_object_mut() {
            metadata.remove(key);
        }
        self
    }

    /// In a region and zone.
    #[must_use]
    pub fn with_locality(mut self, region: &str, zone: &str) -> Self {
        self.node["locality"] = json!({"region": region, "zone": zone});
        self
    }

    /// The node as the core reads it.
    ///
    /// # Panics
    /// The node lacks what every proxy has.
    pub fn read(&self) -> Proxy {
        Proxy::from_node_json(self.node.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("the node can't be read: {error}"))
    }
}
