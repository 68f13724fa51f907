//! Listeners of small meshes, from objects to filter chains.

use std::sync::Arc;

use navarch_envoy::any::unpack;
use navarch_envoy::envoy::config::core::v3::CidrRange;
use navarch_envoy::envoy::config::listener::v3::filter::ConfigType;
use navarch_envoy::envoy::config::listener::v3::{FilterChain, Listener};
use navarch_envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use navarch_envoy::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use navarch_model::{ConfigKey, Kind, Proxy};
use navarch_snapshot::{Change, MeshOptions, MeshSnapshot, MeshStore};
use prost::Message;

use super::{Encoded, build_listener, inbound_listener_inputs, listener_inputs};

const ISTIO: &str = r#"{"id": "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "ISTIO_VERSION": "1.32.0", "LABELS": {"app": "web"}}}"#;
const STOCK: &str = r#"{"id": "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "LABELS": {"app": "web"}}}"#;
const UNINTERCEPTED: &str = r#"{"id": "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "INTERCEPTION_MODE": "NONE", "LABELS": {"app": "web"}}}"#;
const ROUTER: &str = r#"{"id": "router~10.1.0.9~gw-1.shop~shop.svc.cluster.local",
    "metadata": {"NAMESPACE": "shop", "LABELS": {"app": "gw"}}}"#;

fn change(kind: Kind, name: &str, spec: &str) -> Change {
    let payload =
        format!(r#"{{"metadata": {{"namespace": "shop", "name": "{name}"}}, "spec": {spec}}}"#);
    Change {
        key: ConfigKey::new(kind, "shop", name),
        payload: Some(payload.into_bytes()),
    }
}

/// A Service `name` at 10.96.0.`n` with one port, which its name tells the protocol of.
fn service(name: &str, n: u8, port_name: &str, port: u16) -> Change {
    let spec = format!(
        r#"{{"clusterIP": "10.96.0.{n}", "clusterIPs": ["10.96.0.{n}"], "selector": {{"app": "{name}"}},
            "ports": [{{"name": "{port_name}", "port": {port}, "targetPort": {port}}}]}}"#
    );
    change(Kind::Service, name, &spec)
}

/// A ServiceEntry without an address.
fn entry(name: &str, protocol: &str, port: u16) -> Change {
    let spec = format!(
        r#"{{"hosts": ["{name}.example.com"], "resolution": "DNS", "location": "MESH_EXTERNAL",
            "ports": [{{"number": {port}, "name": "p", "protocol": "{protocol}"}}]}}"#
    );
    change(Kind::ServiceEntry, name, &spec)
}

fn mesh(changes: Vec<Change>) -> Arc<MeshSnapshot> {
    let mut store = MeshStore::new(MeshOptions::default());
    store.apply(changes);
    store.snapshot()
}

struct Answer {
    listeners: Vec<Listener>,
    codes: Vec<&'static str>,
}

fn answer(changes: Vec<Change>, node: &str) -> Answer {
    let mesh = mesh(changes);
    let proxy = Proxy::from_node_json(node.as_bytes()).unwrap();
    let scope = mesh.scope_of(&mesh.group_of(&proxy));
    let mut inputs = listener_inputs(&mesh, &scope);
    inputs.extend(inbound_listener_inputs(&mesh, &scope, &proxy));
    let (listeners, diagnostics): (Vec<_>, Vec<_>) = inputs.iter().map(build_listener).unzip();
    let listeners = listeners.iter().map(Encoded::message).collect();
    let codes = diagnostics.into_iter().flatten().map(|d| d.code).collect();
    Answer { listeners, codes }
}

impl Answer {
    fn names(&self) -> Vec<&str> {
        let names = self.listeners.iter().map(|l| l.name.as_str());
        names.filter(|name| !name.starts_with("virtual")).collect()
    }

    fn find(&self, name: &str) -> &Listener {
        self.listeners.iter().find(|l| l.name == name).unwrap()
    }

    /// Where each chain of a listener leads, the default one last and marked.
    fn chains(&self, name: &str) -> Vec<String> {
        let listener = self.find(name);
        let chains = listener.filter_chains.iter().map(goal);
        let default = listener.default_filter_chain.iter();
        chains
            .chain(default.map(|chain| format!("else {}", goal(chain))))
            .collect()
    }
}

/// The cluster or route configuration that the last filter of a chain leads to, after what the chain matches.
fn goal(chain: &FilterChain) -> String {
    let conditions = chain.filter_chain_match.clone().unwrap_or_default();
    let mut words = conditions.server_names;
    words.extend(conditions.application_protocols.first().cloned());
    words.extend(Some(conditions.transport_protocol).filter(|t| t == "tls"));
    let ranges = conditions.prefix_ranges.into_iter();
    words.extend(ranges.map(|range| range.address_prefix));
    let Some(ConfigType::TypedConfig(config)) = chain.filters.last().unwrap().config_type.clone()
    else {
        return String::new();
    };
    if let Some(manager) = unpack::<HttpConnectionManager>(&config) {
        words.push(format!("http({})", manager.stat_prefix));
    } else if let Some(proxy) = unpack::<TcpProxy>(&config) {
        words.push(match proxy.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => cluster,
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                let of = all.clusters.iter();
                let each: Vec<_> = of.map(|c| format!("{}={}", c.name, c.weight)).collect();
                each.join(" ")
            }
            None => String::new(),
        });
    }
    words.join(" ")
}

#[test]
fn http_services_share_a_port_and_tcp_services_have_their_own_address() {
    let answer = answer(
        vec![
            service("a", 1, "http", 80),
            service("b", 2, "http", 80),
            service("db", 3, "tcp", 5432),
            service("any", 4, "", 7000),
        ],
        ISTIO,
    );
    assert_eq!(
        answer.names(),
        ["0.0.0.0_80", "10.96.0.3_5432", "10.96.0.4_7000"]
    );
    assert_eq!(
        answer.chains("0.0.0.0_80"),
        [
            "http/1.1 http(outbound_0.0.0.0_80;)",
            "else PassthroughCluster"
        ]
    );
    assert_eq!(
        answer.chains("10.96.0.3_5432"),
        ["outbound|5432||db.shop.svc.cluster.local"]
    );
    assert_eq!(
        answer.chains("10.96.0.4_7000"),
        [
            "http/1.1 http(outbound_10.96.0.4_7000;)",
            "else outbound|7000||any.shop.svc.cluster.local"
        ]
    );
    assert!(answer.codes.is_empty());
}

#[test]
fn services_on_one_port_are_kept_apart_or_the_oldest_wins() {
    let on_wildcard = |older: Change, younger: Change| {
        let answer = answer(vec![older, younger], ISTIO);
        (answer.chains("0.0.0.0_9000"), answer.codes)
    };
    let http = "http/1.1 http(outbound_0.0.0.0_9000;)";
    let (chains, codes) = on_wildcard(entry("a", "TCP", 9000), entry("b", "HTTP", 9000));
    assert_eq!(chains, [http, "else outbound|9000||a.example.com"]);
    assert!(codes.is_empty());
    let (chains, codes) = on_wildcard(entry("a", "HTTP", 9000), entry("b", "TCP", 9000));
    assert_eq!(chains, [http, "else outbound|9000||b.example.com"]);
    assert!(codes.is_empty());
    let (chains, codes) = on_wildcard(entry("a", "TCP", 9000), entry("b", "TCP", 9000));
    assert_eq!(chains, ["outbound|9000||a.example.com"]);
    assert_eq!(codes, ["outbound-port-conflict"]);
    let (chains, codes) = on_wildcard(entry("a", "TLS", 9000), entry("b", "TLS", 9000));
    assert_eq!(
        chains,
        [
            "a.example.com outbound|9000||a.example.com",
            "b.example.com outbound|9000||b.example.com",
            "else PassthroughCluster"
        ]
    );
    assert!(codes.is_empty());
    let (chains, codes) = on_wildcard(entry("a", "MONGO", 9000), entry("b", "HTTP", 9000));
    assert_eq!(chains, ["outbound|9000||a.example.com"]);
    assert_eq!(codes, ["server-first-port-conflict"]);
}

#[test]
fn tcp_rules_for_a_client_are_those_whose_conditions_it_meets() {
    let rule = |label: &str| {
        let spec = format!(
            r#"{{"hosts": ["db.shop.svc.cluster.local"], "gateways": ["mesh"], "tcp": [
                {{"match": [{{"sourceLabels": {{"app": "{label}"}}}}],
                  "route": [{{"destination": {{"host": "db.shop.svc.cluster.local", "subset": "v1"}}, "weight": 9}},
                            {{"destination": {{"host": "db.shop.svc.cluster.local", "subset": "v2"}}, "weight": 1}}]}}]}}"#
        );
        change(Kind::VirtualService, "db", &spec)
    };
    let chains = |label: &str| {
        let changes = vec![service("db", 3, "tcp", 5432), rule(label)];
        answer(changes, ISTIO).chains("10.96.0.3_5432")
    };
    assert_eq!(
        chains("web"),
        [
            "outbound|5432|v1|db.shop.svc.cluster.local=9 outbound|5432|v2|db.shop.svc.cluster.local=1"
        ]
    );
    assert_eq!(chains("job"), ["outbound|5432||db.shop.svc.cluster.local"]);
}

#[test]
fn a_stock_envoy_without_a_certificate_is_never_open_where_mutual_tls_is_wanted() {
    let policy = |mode: &str| {
        let spec = format!(
            r#"{{"selector": {{"matchLabels": {{"app": "web"}}}}, "mtls": {{"mode": "PERMISSIVE"}},
                "portLevelMtls": {{"8080": {{"mode": "{mode}"}}}}}}"#
        );
        change(Kind::PeerAuthentication, "p", &spec)
    };
    let changes = |mode: &str| vec![service("web", 1, "http", 8080), policy(mode)];
    let of_port = |answer: &Answer| -> Vec<String> {
        let chains = answer.find("virtualInbound").filter_chains.iter();
        let own = chains.filter(|chain| {
            let conditions = chain.filter_chain_match.as_ref().unwrap();
            conditions.destination_port == Some(8080)
        });
        own.map(goal).collect()
    };
    let strict = answer(changes("STRICT"), STOCK);
    assert_eq!(of_port(&strict), ["BlackHoleCluster"]);
    assert_eq!(strict.codes, ["strict-mtls-without-certificate"]);
    let permissive = answer(changes("PERMISSIVE"), STOCK);
    assert_eq!(of_port(&permissive), ["http(inbound_0.0.0.0_8080;)"]);
    assert!(permissive.codes.is_empty());
    let with_certificate = answer(changes("STRICT"), ISTIO);
    assert_eq!(
        of_port(&with_certificate),
        ["tls http(inbound_0.0.0.0_8080;)"]
    );
}

#[test]
fn the_oldest_service_says_what_a_port_of_the_workload_speaks() {
    let with = |name: &str, port_name: &str| {
        let spec = format!(
            r#"{{"clusterIP": "10.96.0.9", "selector": {{"app": "web"}},
                "ports": [{{"name": "{port_name}", "port": 80, "targetPort": 8080}}]}}"#
        );
        change(Kind::Service, name, &spec)
    };
    let of_port = |younger: &str| {
        let answer = answer(vec![with("a", "http"), with("b", younger)], STOCK);
        let chains = answer.find("virtualInbound").filter_chains.iter();
        let own = chains.filter(|chain| chain.name == "0.0.0.0_8080");
        (own.map(goal).collect::<Vec<_>>(), answer.codes)
    };
    let http = vec!["http(inbound_0.0.0.0_8080;)".to_owned()];
    assert_eq!(of_port("http"), (http.clone(), vec![]));
    assert_eq!(of_port("tcp"), (http, vec!["inbound-port-conflict"]));
}

#[test]
fn a_stock_envoy_gets_no_filter_of_istios_build() {
    let answer = answer(vec![service("web", 1, "http", 8080)], STOCK);
    for listener in &answer.listeners {
        let text = String::from_utf8_lossy(&listener.encode_to_vec()).into_owned();
        assert!(
            !text.contains("istio.metadata_exchange"),
            "{}",
            listener.name
        );
        assert!(!text.contains("istio.alpn"), "{}", listener.name);
        assert!(!text.contains("sds-grpc"), "{}", listener.name);
    }
}

#[test]
fn without_interception_listeners_bind_and_nothing_is_redirected() {
    let answer = answer(vec![service("a", 1, "http", 80)], UNINTERCEPTED);
    let names: Vec<_> = answer.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1_80"]);
    assert_eq!(answer.find("127.0.0.1_80").bind_to_port, None);
}

#[test]
fn a_gateway_has_a_listener_for_each_port_of_its_servers() {
    let gateway = change(
        Kind::Gateway,
        "gw",
        r#"{"selector": {"app": "gw"}, "servers": [
            {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
            {"port": {"number": 8443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.com"],
             "tls": {"mode": "SIMPLE", "credentialName": "a"}},
            {"port": {"number": 8444, "name": "mesh", "protocol": "TLS"}, "hosts": ["b.com"],
             "tls": {"mode": "ISTIO_MUTUAL"}}]}"#,
    );
    let answer = answer(vec![gateway], ROUTER);
    assert_eq!(
        answer.names(),
        ["0.0.0.0_8080", "0.0.0.0_8443", "0.0.0.0_8444"]
    );
    assert_eq!(
        answer.chains("0.0.0.0_8443"),
        ["a.com http(outbound_0.0.0.0_8443;)"]
    );
    // Without a workload certificate mutual TLS of the mesh can't end there.
    assert_eq!(answer.chains("0.0.0.0_8444"), ["b.com BlackHoleCluster"]);
    assert_eq!(answer.codes, ["istio-mutual-without-certificate"]);
}

#[test]
fn equal_meshes_give_equal_inputs_and_bytes_whatever_the_order_of_changes() {
    let changes = || {
        vec![
            service("a", 1, "http", 80),
            service("db", 3, "tcp", 5432),
            entry("x", "TLS", 443),
            entry("y", "TLS", 443),
        ]
    };
    let bytes = |answer: &Answer| -> Vec<Vec<u8>> {
        answer
            .listeners
            .iter()
            .map(Message::encode_to_vec)
            .collect()
    };
    let reversed = changes().into_iter().rev().collect();
    assert_eq!(
        bytes(&answer(changes(), ISTIO)),
        bytes(&answer(reversed, ISTIO))
    );
}

#[test]
fn routers_take_the_subnets_of_the_mesh_for_its_own_and_sidecars_leave_that_open() {
    let internal = |listener: &Listener| -> Vec<Option<Vec<String>>> {
        let chains = listener.filter_chains.iter();
        let filters = chains.flat_map(|chain| &chain.filters);
        let managers = filters.filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(config)) => unpack::<HttpConnectionManager>(config),
            _ => None,
        });
        let text = |r: CidrRange| format!("{}/{}", r.address_prefix, r.prefix_len.unwrap_or(999));
        managers
            .map(|manager| {
                let ranges = manager.internal_address_config?.cidr_ranges;
                Some(ranges.into_iter().map(text).collect())
            })
            .collect()
    };
    let gateway = || {
        change(
            Kind::Gateway,
            "gw",
            r#"{"selector": {"app": "gw"}, "servers": [
                {"port": {"number": 8080, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}"#,
        )
    };
    let networks = || {
        Change {
        key: ConfigKey::new(Kind::MeshNetworks, "", "mesh"),
        payload: Some(
            br#"{"networks": {"a": {"endpoints": [{"fromCidr": "10.2.0.0/16"}, {"fromRegistry": "r"}]},
                "b": {"endpoints": [{"fromCidr": "10.1.0.0/16"}]}}}"#
                .to_vec(),
        ),
    }
    };
    let router = answer(vec![gateway(), networks()], ROUTER);
    let want = ["10.1.0.0/16", "10.2.0.0/16"].map(str::to_owned).to_vec();
    assert_eq!(internal(router.find("0.0.0.0_8080")), [Some(want)]);
    let alone = answer(vec![gateway()], ROUTER);
    assert_eq!(internal(alone.find("0.0.0.0_8080")), [None]);
    let web = service("a", 1, "http", 80);
    let sidecar = answer(vec![web, networks()], ISTIO);
    assert_eq!(internal(sidecar.find("0.0.0.0_80")), [None]);
}
