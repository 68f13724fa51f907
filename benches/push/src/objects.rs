//! The world's objects, as `benches/world.py` writes them.

use navarch_model::{ConfigKey, Kind, Proxy, Shared};
use navarch_snapshot::{Batch, Change};
use serde_json::{Value, json};

/// How large it is: services in ten namespaces, two pods each, a fifth of them with rules.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// How many services.
    pub n_services: usize,
}

const N_NAMESPACES: usize = 10;
const N_VERSIONS: usize = 2;

impl World {
    /// All objects.
    pub fn objects(self) -> Batch {
        let mut batch = Vec::new();
        for number in 0..self.n_services {
            batch.extend(self.service(number));
            if self.has_rules(number) {
                batch.push(virtual_service(number, "canary"));
                batch.push(destination_rule(number));
            }
        }
        batch
    }

    /// The sidecar of a pod.
    ///
    /// # Panics
    /// There is no such pod.
    pub fn proxy(self, pod: usize) -> Shared<Proxy> {
        assert!(pod < self.n_services * N_VERSIONS, "no pod {pod}");
        let (name, namespace) = (name(pod % self.n_services), namespace(pod));
        let ip = pod_ip(pod);
        let node = json!({
            "id": format!("sidecar~{ip}~{name}-pod-{pod}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("{name}.{namespace}"),
            "metadata": {
                "NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "INSTANCE_IPS": ip,
                "SERVICE_ACCOUNT": name, "ISTIO_VERSION": "1.32.0",
                "LABELS": {"app": name, "version": version(pod / self.n_services)},
            },
        });
        let read = Proxy::from_node_json(node.to_string().as_bytes());
        Shared::new(read.unwrap_or_else(|error| panic!("the node can't be read: {error}")))
    }

    /// The last service gets another endpoint.
    pub fn change_endpoint(self, serial: usize) -> Batch {
        let number = self.n_services - 1;
        vec![self.slice(number, Some(added_ip(serial)))]
    }

    /// A rule matches another header.
    pub fn change_rule(self, serial: usize) -> Batch {
        vec![virtual_service(
            self.n_services / 10,
            &format!("canary-{serial}"),
        )]
    }

    /// A service comes, with one endpoint.
    pub fn add_service(self, serial: usize) -> Batch {
        let number = self.n_services + serial;
        vec![service(number), self.slice(number, Some(added_ip(serial)))]
    }

    fn has_rules(self, number: usize) -> bool {
        number < self.n_services / 5
    }

    fn service(self, number: usize) -> Batch {
        let mut batch = vec![service(number), self.slice(number, None)];
        batch.extend(self.pods(number).map(|pod| self.pod(pod)));
        batch
    }

    fn pods(self, number: usize) -> impl Iterator<Item = usize> {
        let is_of_world = number < self.n_services;
        (0..N_VERSIONS)
            .filter(move |_| is_of_world)
            .map(move |version| number + version * self.n_services)
    }

    fn pod(self, pod: usize) -> Change {
        let name = name(pod % self.n_services);
        let labels = json!({"app": name, "version": version(pod / self.n_services)});
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("{name}-pod-{pod}"), "namespace": namespace(pod), "labels": labels,
            },
            "spec": {"serviceAccountName": name, "containers": [{"name": "app", "image": "app"}]},
            "status": {
                "phase": "Running", "podIP": pod_ip(pod), "podIPs": [{"ip": pod_ip(pod)}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        change(Kind::Pod, &object)
    }

    fn slice(self, number: usize, added: Option<String>) -> Change {
        let pods = self.pods(number).map(|pod| {
            let target = json!({
                "kind": "Pod", "name": format!("{}-pod-{pod}", name(number)),
                "namespace": namespace(number),
            });
            json!({"addresses": [pod_ip(pod)], "conditions": {"ready": true}, "targetRef": target})
        });
        let added = added.map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}));
        let endpoints: Vec<Value> = added.into_iter().chain(pods).collect();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{}-1", name(number)), "namespace": namespace(number),
                "labels": {"kubernetes.io/service-name": name(number)},
            },
            "ports": [{"name": "http", "port": 8080}, {"name": "tcp", "port": 9000}],
            "endpoints": endpoints,
        });
        change(Kind::EndpointSlice, &object)
    }
}

fn service(number: usize) -> Change {
    let ip = format!("10.96.{}.{}", number >> 8, number & 255);
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name(number), "namespace": namespace(number)},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name(number)},
            "ports": [
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "tcp", "port": 9000, "targetPort": 9000},
            ],
        },
    });
    change(Kind::Service, &object)
}

fn virtual_service(number: usize, user: &str) -> Change {
    let to = |subset: &str| json!({"host": host(number), "subset": subset});
    let spec = json!({
        "hosts": [host(number)],
        "http": [
            {
                "match": [{"headers": {"x-user": {"exact": user}}}],
                "route": [{"destination": to("v2")}],
            },
            {
                "route": [
                    {"destination": to("v1"), "weight": 90}, {"destination": to("v2"), "weight": 10},
                ],
                "retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,reset"},
                "timeout": "10s",
            },
        ],
    });
    networking(Kind::VirtualService, number, &spec)
}

fn destination_rule(number: usize) -> Change {
    let spec = json!({
        "host": host(number),
        "trafficPolicy": {
            "connectionPool": {
                "tcp": {"maxConnections": 100},
                "http": {"http1MaxPendingRequests": 100, "maxRequestsPerConnection": 10},
            },
            "outlierDetection": {
                "consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s",
            },
        },
        "subsets": [
            {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}},
        ],
    });
    networking(Kind::DestinationRule, number, &spec)
}

fn networking(kind: Kind, number: usize, spec: &Value) -> Change {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind.as_str(),
        "metadata": {"name": name(number), "namespace": namespace(number)},
        "spec": spec,
    });
    change(kind, &object)
}

fn change(kind: Kind, object: &Value) -> Change {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Change {
        key: ConfigKey::new(kind, text("namespace"), text("name")),
        payload: Some(object.to_string().into_bytes()),
    }
}

fn name(number: usize) -> String {
    format!("service-{number}")
}

fn namespace(number: usize) -> String {
    format!("ns-{}", number % N_NAMESPACES)
}

fn host(number: usize) -> String {
    format!("{}.{}.svc.cluster.local", name(number), namespace(number))
}

fn version(index: usize) -> String {
    format!("v{}", index + 1)
}

fn pod_ip(pod: usize) -> String {
    format!("10.{}.{}.{}", 64 + (pod >> 16), pod >> 8 & 255, pod & 255)
}

fn added_ip(serial: usize) -> String {
    format!("10.250.{}.{}", serial >> 8 & 255, serial & 255)
}
