//! What agents say of their workloads' health, from the stream to the endpoints of the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use navarch_envoy::TypeUrl;
use navarch_envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use navarch_envoy::google::rpc;
use navarch_model::{ConfigKey, Kind};
use navarch_serve::{AdsServer, Fleet, MeshEpochs, Metrics, Pusher, StreamLimits};
use navarch_snapshot::{Change, MeshOptions};
use prost_types::{Struct, Value, value};
use serde_json::json;
use tonic::transport::Endpoint;

use super::eventually;
use super::rig::{self, Stream, delta_first};

const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

fn entry(account: &str) -> Change {
    let payload = json!({
        "metadata": {"namespace": "ns", "name": "vm-10.0.0.9",
            "annotations": {"proxy.istio.io/health-checks-enabled": "true"}},
        "spec": {"address": "10.0.0.9", "labels": {"app": "vm"}, "serviceAccount": account},
    });
    change(Kind::WorkloadEntry, "vm-10.0.0.9", &payload)
}

fn change(kind: Kind, name: &str, payload: &serde_json::Value) -> Change {
    Change {
        key: ConfigKey::new(kind, "ns", name),
        payload: Some(payload.to_string().into_bytes()),
    }
}

fn text(value: &str) -> Value {
    Value {
        kind: Some(value::Kind::StringValue(value.to_owned())),
    }
}

fn says(fault: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: HEALTH.to_owned(),
        error_detail: fault.map(|message| rpc::Status {
            code: 13,
            message: message.to_owned(),
            ..rpc::Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    }
}

struct Mesh {
    epochs: Arc<MeshEpochs>,
    fleet: Arc<Fleet>,
    _pusher: Arc<Pusher>,
    server: AdsServer,
}

impl Mesh {
    fn start() -> Self {
        let fleet = Fleet::with_limits(Metrics::new(), StreamLimits::default());
        let epochs = Arc::new(MeshEpochs::new(MeshOptions::default()).hearing(fleet.health()));
        let pusher = Pusher::start(epochs.clone(), Arc::clone(&fleet)).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = AdsServer::start(any_port, 2, Arc::clone(&fleet), pusher.clone()).unwrap();
        Self {
            epochs,
            fleet,
            _pusher: pusher,
            server,
        }
    }

    /// A stream of the machine at 10.0.0.9, which registers itself as one of the group `vm`.
    async fn agent(&self) -> Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.server.address())).unwrap();
        let grpc = rig::grpc(endpoint.connect().await.unwrap()).await;
        let mut stream = rig::open(grpc, "DeltaAggregatedResources", None)
            .await
            .unwrap();
        let mut first = delta_first(TypeUrl::Cluster);
        let node = first.node.as_mut().unwrap();
        "sidecar~10.0.0.9~vm-1.ns~ns.svc.cluster.local".clone_into(&mut node.id);
        let told = [
            ("NAMESPACE", "ns"),
            ("AUTO_REGISTER_GROUP", "vm"),
            ("SERVICE_ACCOUNT", "vm"),
        ];
        node.metadata = Some(Struct {
            fields: told
                .map(|(key, value)| (key.to_owned(), text(value)))
                .into(),
        });
        stream.send(first).await;
        stream.receive().await.unwrap();
        stream
    }

    fn heard(&self) -> Vec<(String, Option<String>)> {
        let (_, rows) = self.epochs.reported_health();
        let told = |fault: Result<(), Arc<str>>| fault.err().map(|fault| fault.to_string());
        rows.into_iter()
            .map(|r| (r.key.name.to_string(), told(r.health)))
            .collect()
    }

    fn is_served(&self) -> bool {
        let mesh = self.epochs.mesh();
        let told = format!("{mesh:?}");
        !told.contains("Unhealthy")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machines_word_counts_from_when_its_entry_comes_until_it_is_gone() {
    let mesh = Mesh::start();
    let service = json!({"metadata": {"namespace": "ns", "name": "vm"}, "spec": {
        "hosts": ["vm.example"], "location": "MESH_INTERNAL", "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "workloadSelector": {"labels": {"app": "vm"}}}});
    mesh.epochs
        .apply(vec![change(Kind::ServiceEntry, "vm", &service)]);
    let agent = mesh.agent().await;
    agent.send(says(None)).await;
    eventually("a fault of an entry that is missing", || {
        mesh.heard().is_empty()
            && mesh
                .epochs
                .diagnostics()
                .iter()
                .any(|d| d.code == "refused-health")
    })
    .await;
    mesh.epochs.apply(vec![entry("other")]);
    assert!(
        !mesh.is_served(),
        "a checked workload is down until it is known to be up"
    );
    assert!(mesh.heard().is_empty(), "it is another account's");
    mesh.epochs.apply(vec![entry("vm")]);
    let name = || "vm-10.0.0.9".to_owned();
    assert_eq!(mesh.heard(), [(name(), None)]);
    assert!(mesh.is_served());
    assert!(
        mesh.epochs
            .diagnostics()
            .iter()
            .all(|d| d.code != "refused-health")
    );

    agent.send(says(Some("it answers 503"))).await;
    eventually("the fault", || {
        mesh.heard() == [(name(), Some("it answers 503".to_owned()))]
    })
    .await;
    assert!(!mesh.is_served());
    agent.send(says(None)).await;
    eventually("the recovery", || mesh.is_served()).await;
    drop(agent);
    eventually("the end", || {
        mesh.fleet.connections().is_empty() && mesh.heard().is_empty()
    })
    .await;
    assert!(mesh.is_served(), "its last word stays");
}
