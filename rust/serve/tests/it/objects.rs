//! Objects of small meshes in which most things are seen by somebody and much is in conflict.

use navarch_model::{ConfigKey, Kind};
use navarch_snapshot::Change;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const NAMESPACES: [&str; 2] = ["shop", "other"];
const ROOT: &str = "istio-system";
const KEY_SET: &str = "https://keys.example/set";
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Kinds with how often they are drawn, and how many variants they have.
const KINDS: [(Kind, u32, usize); 18] = [
    (Kind::Service, 8, 9),
    (Kind::EndpointSlice, 6, 4),
    (Kind::Pod, 4, 3),
    (Kind::VirtualService, 8, 9),
    (Kind::DestinationRule, 5, 6),
    (Kind::ServiceEntry, 5, 7),
    (Kind::WorkloadEntry, 2, 2),
    (Kind::Sidecar, 3, 6),
    (Kind::Gateway, 2, 3),
    (Kind::PeerAuthentication, 4, 6),
    (Kind::AuthorizationPolicy, 2, 5),
    (Kind::RequestAuthentication, 1, 2),
    (Kind::JsonWebKeySet, 1, 2),
    (Kind::MeshConfig, 1, 4),
    (Kind::Namespace, 1, 2),
    (Kind::Node, 1, 2),
    (Kind::MeshNetworks, 1, 2),
    (Kind::ServiceAccount, 1, 1),
];

/// One object, written in a variant or deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    kind: Kind,
    namespace: &'static str,
    name: &'static str,
    variant: Option<usize>,
}

impl Written {
    pub(crate) fn change(self) -> Change {
        change(self.kind, self.namespace, self.name, self.variant)
    }
}

pub(crate) fn changes() -> impl Strategy<Value = Written> {
    let kinds = KINDS.map(|(kind, weight, n)| (weight, Just((kind, n)).boxed()));
    let kind = prop::strategy::Union::new_weighted(kinds.into());
    let place = (0..NAMESPACES.len(), 0..NAMES.len());
    (kind, place, 0..10_usize, 0..6_u8).prop_map(|((kind, n), (namespace, name), i, fate)| {
        Written {
            kind,
            namespace: NAMESPACES[namespace],
            name: NAMES[name],
            variant: (fate > 0).then_some(i % n),
        }
    })
}

/// A mesh to begin with.
pub(crate) fn base() -> Vec<Change> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        for name in NAMES {
            all.push(change(Kind::Service, namespace, name, Some(1)));
            all.push(change(Kind::EndpointSlice, namespace, name, Some(1)));
            // Some take mutual TLS.
            let variant = usize::from(name == "b");
            all.push(change(Kind::Pod, namespace, name, Some(variant)));
        }
        all.push(change(Kind::VirtualService, namespace, "a", Some(0)));
        all.push(change(Kind::DestinationRule, namespace, "b", Some(1)));
    }
    all
}

pub(crate) fn change(kind: Kind, namespace: &str, name: &str, variant: Option<usize>) -> Change {
    let key = match kind {
        Kind::MeshConfig | Kind::MeshNetworks => ConfigKey::new(kind, "", "mesh"),
        Kind::Namespace => ConfigKey::new(kind, "", namespace),
        Kind::Node => ConfigKey::new(kind, "", "node"),
        Kind::JsonWebKeySet => ConfigKey::new(kind, "", KEY_SET),
        Kind::Sidecar | Kind::AuthorizationPolicy | Kind::PeerAuthentication if name == "c" => {
            ConfigKey::new(kind, ROOT, name)
        }
        _ => ConfigKey::new(kind, namespace, name),
    };
    let payload = variant.map(|variant| {
        let mut object = object(kind, &key.namespace, &key.name, variant);
        if !matches!(
            kind,
            Kind::MeshConfig | Kind::MeshNetworks | Kind::JsonWebKeySet
        ) {
            let mut metadata = json!({"namespace": *key.namespace, "name": *key.name});
            if let (Some(own), Some(all)) = (
                object["metadata"].take().as_object(),
                metadata.as_object_mut(),
            ) {
                all.extend(own.clone());
            }
            object["metadata"] = metadata;
        }
        object.to_string().into_bytes()
    });
    Change { key, payload }
}

fn number(namespace: &str, name: &str) -> usize {
    let at = |all: &[&str], one: &str| all.iter().position(|each| *each == one).unwrap_or(3);
    at(&NAMESPACES, namespace) * 4 + at(&NAMES, name)
}

pub(crate) fn pod_ip(namespace: &str, name: &str) -> String {
    format!("10.1.0.{}", number(namespace, name))
}

fn host(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

fn object(kind: Kind, namespace: &str, name: &str, variant: usize) -> Value {
    match kind {
        Kind::Service => service(namespace, name, variant),
        Kind::EndpointSlice => slice(namespace, name, variant),
        Kind::Pod => pod(namespace, name, variant),
        Kind::VirtualService => virtual_service(namespace, name, variant),
        Kind::DestinationRule => destination_rule(namespace, name, variant),
        Kind::ServiceEntry => service_entry(namespace, name, variant),
        Kind::WorkloadEntry => json!({"spec": {
            "address": format!("10.3.0.{variant}"), "labels": {"app": name}}}),
        Kind::Sidecar => sidecar(variant),
        Kind::Gateway => gateway(name, variant),
        Kind::PeerAuthentication => peer_authentication(name, variant),
        Kind::AuthorizationPolicy => authorization_policy(name, variant),
        Kind::RequestAuthentication => [
            json!({"spec": {"jwtRules": [{"issuer": "i", "jwksUri": KEY_SET}]}}),
            json!({"spec": {"selector": {"matchLabels": {"app": name}},
                "jwtRules": [{"issuer": "j", "jwks": r#"{"keys": []}"#}]}}),
        ][variant]
            .clone(),
        Kind::JsonWebKeySet => json!({"jwks": (["{}", r#"{"keys": []}"#][variant])}),
        Kind::MeshConfig => [
            json!({}),
            json!({"extensionProviders": [{"name": "asked",
                "envoyExtAuthzGrpc": {"service": host("other", "b"), "port": 9000}}]}),
            json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}),
            json!({"defaultServiceExportTo": ["."], "proxyHttpPort": 15007}),
        ][variant]
            .clone(),
        Kind::Namespace => {
            json!({"metadata": {"labels": {"topology.istio.io/network": (["", "net"][variant])}}})
        }
        Kind::Node => json!({"metadata": {"labels": {
            "topology.kubernetes.io/region": (["r1", "r2"][variant])}}}),
        Kind::MeshNetworks => [
            json!({}),
            json!({"networks": {"net": {"endpoints": [{"fromRegistry": "Kubernetes"}],
                "gateways": [{"registryServiceName": host("shop", "a"), "port": 15443}]}}}),
        ][variant]
            .clone(),
        _ => json!({}),
    }
}

fn peer_authentication(name: &str, variant: usize) -> Value {
    let selector = json!({"matchLabels": {"app": name}});
    let spec = match variant {
        0 => json!({"mtls": {"mode": "STRICT"}}),
        1 => json!({"mtls": {"mode": "PERMISSIVE"}}),
        2 => json!({"mtls": {"mode": "DISABLE"}}),
        3 => json!({"selector": selector, "mtls": {"mode": "DISABLE"}}),
        4 => json!({"selector": selector, "portLevelMtls": {"8080": {"mode": "DISABLE"}}}),
        _ => json!({"selector": selector, "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"9000": {"mode": "UNSET"}}}),
    };
    json!({"spec": spec})
}

fn authorization_policy(name: &str, variant: usize) -> Value {
    let spec = match variant {
        0 => json!({"rules": [{"from": [{"source": {"namespaces": ["shop"]}}]}]}),
        1 => json!({"action": "DENY", "rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]}),
        2 => json!({"selector": {"matchLabels": {"app": name}}, "action": "AUDIT", "rules": [{}]}),
        3 => json!({"selector": {"matchLabels": {"app": "gate"}}, "rules": [{}]}),
        _ => json!({"action": "CUSTOM", "provider": {"name": "asked"}, "rules": [{}]}),
    };
    json!({"spec": spec})
}

fn service(namespace: &str, name: &str, variant: usize) -> Value {
    let ip = format!("10.96.0.{}", number(namespace, name));
    let http = json!({"name": "http", "port": 80, "targetPort": 8080});
    let tcp = json!({"name": "tcp", "port": 9000});
    let auto = json!({"name": "any", "port": 7000});
    let tls = json!({"name": "tls", "port": 443});
    let of = |ip: &str, ports: Value| json!({"spec": {"clusterIP": ip, "selector": {"app": name}, "ports": ports}});
    let mut made = match variant {
        0 => of(&ip, json!([http])),
        2 => of("None", json!([tcp, http])),
        3 => of(&ip, json!([auto, tls])),
        4 => {
            json!({"spec": {"type": "ExternalName", "externalName": host("other", "b"), "ports": [http]}})
        }
        5 => of(
            &ip,
            json!([{"name": "http", "port": 9000}, {"name": "tcp", "port": 80}]),
        ),
        6 => json!({"spec": {"clusterIP": ip, "ports": [http, tcp]}}),
        8 => json!({"spec": {"clusterIP": ip, "ports": [tls], "selector": {"app": name},
            "type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}}}),
        _ => of(&ip, json!([http, tcp])),
    };
    made["metadata"] = match variant {
        7 => json!({"annotations": {"networking.istio.io/exportTo": "."}}),
        8 => json!({"labels": {"topology.istio.io/network": "net"}}),
        _ => json!({}),
    };
    made
}

fn slice(namespace: &str, name: &str, variant: usize) -> Value {
    let own = pod_ip(namespace, name);
    let addresses = match variant {
        0 => vec![],
        1 => vec![own],
        2 => vec![own, "10.2.0.1".to_owned()],
        _ => vec!["10.2.0.2".to_owned(), pod_ip("shop", "a")],
    };
    let endpoint = |ip: &String| json!({"addresses": [ip]});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({
        "metadata": {"labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "http", "port": 8080}, {"name": "tcp", "port": 9000}, {"name": "any", "port": 7000}],
        "endpoints": endpoints,
    })
}

fn pod(namespace: &str, name: &str, variant: usize) -> Value {
    let labels = [
        json!({"app": name, "version": "v1"}),
        json!({"app": name, "version": "v2", "security.istio.io/tlsMode": "istio"}),
        json!({"app": "b"}),
    ];
    json!({
        "metadata": {"labels": labels[variant]},
        "spec": {"serviceAccountName": (["x", "y", "x"][variant]), "nodeName": "node"},
        "status": {"phase": "Running", "podIP": pod_ip(namespace, name)},
    })
}

fn virtual_service(namespace: &str, name: &str, variant: usize) -> Value {
    let route = |to: &str| json!([{"destination": {"host": to}}]);
    let own = host(namespace, name);
    let spec = match variant {
        0 => json!({"hosts": [own], "http": [{"route": [
            {"destination": {"host": own, "subset": "v1"}, "weight": 90},
            {"destination": {"host": host("other", "b")}, "weight": 10}]}]}),
        1 => {
            json!({"hosts": ["*.other.svc.cluster.local"], "http": [{"route": route(&host("other", "a"))}]})
        }
        2 => {
            json!({"hosts": ["web.example", "b"], "http": [{"timeout": "3s", "route": route(&host("shop", "c"))}]})
        }
        3 => {
            json!({"hosts": [own], "tcp": [{"match": [{"port": 9000}], "route": route(&host("other", "c"))}]})
        }
        4 => {
            json!({"hosts": ["*.example"], "tls": [{"match": [{"port": 443, "sniHosts": ["x.example"]}],
            "route": route(&host("shop", "b"))}]})
        }
        5 => json!({"hosts": [own], "gateways": ["mesh", "a"], "http": [{"route": route("b")}]}),
        6 => json!({"hosts": [own], "exportTo": ["."], "http": [{"route": route("x.example")}]}),
        7 => {
            json!({"hosts": ["a", "c"], "http": [{"match": [{"sourceLabels": {"app": "a"}}], "route": route("b")},
            {"route": route("c")}]})
        }
        _ => json!({"hosts": [own], "http": [{"delegate": {"name": "b", "namespace": "shop"}}]}),
    };
    json!({"spec": spec})
}

fn destination_rule(namespace: &str, name: &str, variant: usize) -> Value {
    let own = host(namespace, name);
    let subsets = json!([{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]);
    let spec = match variant {
        0 => {
            json!({"host": own, "trafficPolicy": {"connectionPool": {"tcp": {"connectTimeout": "3s"}}}})
        }
        1 => json!({"host": own, "subsets": subsets}),
        2 => {
            json!({"host": "*.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
        }
        3 => json!({"host": own, "exportTo": ["."], "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}),
        4 => json!({"host": "*.example", "subsets": subsets, "trafficPolicy": {
            "loadBalancer": {"consistentHash": {"httpHeaderName": "x"}}}}),
        _ => json!({"host": own, "workloadSelector": {"matchLabels": {"app": "a"}},
            "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 3}}}),
    };
    json!({"spec": spec})
}

fn service_entry(namespace: &str, name: &str, variant: usize) -> Value {
    let tls = json!([{"number": 443, "name": "tls", "protocol": "TLS"}]);
    let http = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
    let tcp = json!([{"number": 9000, "name": "tcp", "protocol": "TCP"}]);
    let spec = match variant {
        0 => json!({"hosts": ["x.example", "y.example"], "ports": tls, "resolution": "DNS"}),
        1 => json!({"hosts": ["*.example"], "ports": http, "resolution": "NONE"}),
        2 => json!({"hosts": ["x.example"], "ports": http, "resolution": "STATIC",
            "endpoints": [{"address": "10.3.0.9"}]}),
        3 => json!({"hosts": [host(namespace, name)], "ports": tcp, "resolution": "STATIC",
            "location": "MESH_INTERNAL", "endpoints": [{"address": pod_ip("shop", "a")}]}),
        4 => json!({"hosts": ["in.example"], "addresses": ["240.1.0.0/16"], "ports": tcp,
            "resolution": "STATIC", "location": "MESH_INTERNAL", "workloadSelector": {"labels": {"app": name}}}),
        5 => {
            json!({"hosts": ["x.example"], "addresses": ["10.8.0.1"], "ports": tcp, "exportTo": ["."],
            "resolution": "NONE"})
        }
        _ => json!({"hosts": ["web.example"], "ports": http, "resolution": "DNS"}),
    };
    json!({"spec": spec})
}

fn sidecar(variant: usize) -> Value {
    let spec = match variant {
        0 => json!({"egress": [{"hosts": ["./*"]}]}),
        1 => {
            json!({"egress": [{"hosts": ["shop/a.shop.svc.cluster.local", "other/*", "~other/b.other.svc.cluster.local"]}]})
        }
        2 => {
            json!({"egress": [{"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "hosts": ["*/*"]},
            {"hosts": ["./*"]}]})
        }
        3 => {
            json!({"egress": [{"port": {"number": 9000, "protocol": "TCP", "name": "tcp"}, "bind": "127.0.0.1",
            "captureMode": "NONE", "hosts": ["*/*"]}]})
        }
        4 => json!({"workloadSelector": {"labels": {"app": "a"}}, "egress": [{"hosts": ["*/*"]}],
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}),
        _ => json!({"egress": [{"hosts": ["*/*.example", "shop/*"]}], "ingress": [{
            "port": {"number": 8080, "protocol": "HTTP", "name": "in"}, "defaultEndpoint": "127.0.0.1:80"}]}),
    };
    json!({"spec": spec})
}

fn gateway(name: &str, variant: usize) -> Value {
    let server = match variant {
        0 => json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}),
        1 => json!({"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["*"],
            "tls": {"mode": "AUTO_PASSTHROUGH"}}),
        _ => {
            json!({"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": [format!("{name}.example")]})
        }
    };
    json!({"spec": {"selector": {"app": "gate"}, "servers": [server]}})
}
