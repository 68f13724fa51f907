//! Clusters of the proxy's own workload: one for each port that it serves or a Sidecar opens.
//!
//! Source: istio pilot/pkg/networking/core/cluster.go `buildInboundClusters`, `cluster_builder.go` `buildInboundCluster`.

use std::collections::BTreeMap;

use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy,
};
use navarch_envoy::envoy::config::core::v3::BindConfig;
use navarch_envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use navarch_model::{
    ConnectionPoolSettings, DestinationRule, IngressListener, InterceptionMode, Labels, Protocol,
    Proxy, ProxyKind, Service, ServicePort, Shared, Sidecar,
};
use navarch_snapshot::{MeshSnapshot, ProxyScope, ServiceTarget};
use prost_types::Duration;

use super::metadata::ClusterMetadata;
use super::policy::EffectivePolicy;
use super::pool::{HttpSide, UpstreamProtocol, apply_connection_pool};
use super::settings::{ClusterClient, ClusterSettings};
use crate::address::{IpMode, build_address, is_ipv6, socket_address};
use crate::name::{delimited_stat_name, inbound_cluster, stat_name};

/// As long as Envoy's clock can count: an inbound cluster never forgets its one host.
const NO_CLEANUP: Duration = Duration {
    seconds: 9_223_372_035,
    nanos: 0,
};

/// Everything that an inbound cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InboundInputs {
    /// The cluster's port: the workload's, or the Sidecar listener's.
    pub port: u32,
    /// Where the workload listens, address and port; `None` for where the connection was going.
    endpoint: Option<(String, u32)>,
    protocol: Protocol,
    /// Services of that port, the oldest first.
    services: Vec<Shared<Service>>,
    /// The first service's port, or the Sidecar listener's.
    service_port: Option<ServicePort>,
    /// The rule for the first service.
    rule: Option<Shared<DestinationRule>>,
    /// The Sidecar's own limits, which win.
    pool: Option<ConnectionPoolSettings>,
    client: Shared<ClusterClient>,
    settings: Shared<ClusterSettings>,
}

impl InboundInputs {
    /// The cluster's name.
    pub fn name(&self) -> String {
        inbound_cluster(self.port)
    }
}

/// The inputs of a proxy's inbound clusters, by port.
pub fn inbound_cluster_inputs(
    mesh: &MeshSnapshot,
    scope: &ProxyScope,
    proxy: &Proxy,
) -> Vec<InboundInputs> {
    if proxy.kind != ProxyKind::Sidecar {
        return Vec::new();
    }
    let context = InboundContext {
        mesh,
        scope,
        proxy,
        targets: sorted_targets(mesh, proxy),
        client: ClusterClient::of(&mesh.mesh_config, &scope.group),
        settings: ClusterSettings::of(&mesh.mesh_config),
    };
    let mut inputs = match scope
        .sidecar
        .as_ref()
        .filter(|s| !s.spec.ingress.is_empty())
    {
        Some(sidecar) => context.of_sidecar(sidecar),
        // Without interception the workload itself holds its ports.
        None if proxy.interception_mode() == InterceptionMode::None => Vec::new(),
        None => context.of_services(),
    };
    inputs.sort_by_key(|inputs| inputs.port);
    inputs.dedup_by_key(|inputs| inputs.port);
    inputs
}

/// What the workload serves, by age of the service and then by host: the first of a port is its primary
/// (istio pilot/pkg/model/context.go `SetServiceTargets`).
pub fn sorted_targets(mesh: &MeshSnapshot, proxy: &Proxy) -> Vec<ServiceTarget> {
    let mut targets = mesh.service_targets(proxy);
    targets.sort_by(|a, b| {
        let age = |target: &ServiceTarget| target.service.creation_time.unwrap_or(i64::MIN);
        age(a)
            .cmp(&age(b))
            .then_with(|| a.service.hostname.cmp(&b.service.hostname))
    });
    targets
}

struct InboundContext<'a> {
    mesh: &'a MeshSnapshot,
    scope: &'a ProxyScope,
    proxy: &'a Proxy,
    targets: Vec<ServiceTarget>,
    client: Shared<ClusterClient>,
    settings: Shared<ClusterSettings>,
}

impl InboundContext<'_> {
    fn of_services(&self) -> Vec<InboundInputs> {
        let mut by_port: BTreeMap<u32, Vec<&ServiceTarget>> = BTreeMap::new();
        for target in &self.targets {
            by_port.entry(target.target_port).or_default().push(target);
        }
        let is_localhost = self.mesh.mesh_config.inbound_traffic_policy.mode == "LOCALHOST";
        let bind = IpMode::of_proxy(self.proxy)
            .localhosts()
            .first()
            .filter(|_| is_localhost);
        by_port
            .into_iter()
            .filter_map(|(port, targets)| {
                let primary = *targets.first()?;
                let mut services: Vec<Shared<Service>> = Vec::new();
                // Telemetry can tell services of one workload port apart only by one service port.
                for target in targets
                    .iter()
                    .filter(|t| t.port.number == primary.port.number)
                {
                    if services
                        .iter()
                        .all(|s| s.hostname != target.service.hostname)
                    {
                        services.push(target.service.clone());
                    }
                }
                Some(InboundInputs {
                    port,
                    endpoint: bind.map(|bind| ((*bind).to_owned(), port)),
                    protocol: primary.port.protocol,
                    services,
                    service_port: Some(primary.port.clone()),
                    rule: self.rule_of(&primary.service),
                    pool: self.pool_of(port),
                    client: self.client.clone(),
                    settings: self.settings.clone(),
                })
            })
            .collect()
    }

    fn of_sidecar(&self, sidecar: &Sidecar) -> Vec<InboundInputs> {
        let listeners = sidecar.spec.ingress.iter();
        listeners
            .filter_map(|listener| self.of_ingress(listener))
            .collect()
    }

    fn of_ingress(&self, listener: &IngressListener) -> Option<InboundInputs> {
        let port = listener.port.number;
        let endpoint = self.endpoint_of(&listener.default_endpoint)?;
        let target = self
            .targets
            .iter()
            .find(|target| target.target_port == port);
        Some(InboundInputs {
            port,
            endpoint,
            protocol: Protocol::parse(&listener.port.protocol),
            services: target
                .map(|target| target.service.clone())
                .into_iter()
                .collect(),
            service_port: Some(ServicePort {
                name: listener.port.name.as_str().into(),
                number: port,
                protocol: Protocol::parse(&listener.port.protocol),
                target_port: None,
                target_port_name: None,
            }),
            rule: target.and_then(|target| self.rule_of(&target.service)),
            pool: self.pool_of(port),
            client: self.client.clone(),
            settings: self.settings.clone(),
        })
    }

    /// Read `127.0.0.1:PORT`, `0.0.0.0:PORT` (the workload's own address), `unix:///path` or "".
    ///
    /// The outer `None` is for what can't be read.
    #[expect(
        clippy::option_option,
        reason = "no endpoint and no cluster are two things"
    )]
    fn endpoint_of(&self, text: &str) -> Option<Option<(String, u32)>> {
        if text.is_empty() {
            return Some(None);
        }
        if text.starts_with("unix://") {
            return Some(Some((text.to_owned(), 0)));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let own = |is_v6: bool| {
            let mut ips = self.proxy.ip_addresses.iter();
            ips.find(|ip| is_ipv6(ip) == is_v6).map(ToString::to_string)
        };
        let localhosts = IpMode::of_proxy(self.proxy).localhosts();
        let near = |is_v6: bool| {
            let found = localhosts.iter().find(|ip| is_ipv6(ip) == is_v6);
            found.or(localhosts.first()).map(ToString::to_string)
        };
        let address = match host.trim_matches(['[', ']']) {
            "0.0.0.0" => own(false).unwrap_or_else(|| "127.0.0.1".to_owned()),
            "::" => own(true).unwrap_or_else(|| "::1".to_owned()),
            "127.0.0.1" => near(false)?,
            "::1" => near(true)?,
            _ => return Some(None),
        };
        Some(Some((address, port)))
    }

    /// The rule for a service of one's own: those for some clients only do not count.
    fn rule_of(&self, service: &Service) -> Option<Shared<DestinationRule>> {
        let rule = self.scope.destination_rule(&service.hostname)?;
        if rule.spec.workload_selector.is_none() {
            return Some(rule.clone());
        }
        let client = (&*self.scope.group.namespace, &Labels::new());
        self.mesh.destination_rule(client, service).cloned()
    }

    fn pool_of(&self, port: u32) -> Option<ConnectionPoolSettings> {
        let sidecar = &self.scope.sidecar.as_ref()?.spec;
        let mut listeners = sidecar.ingress.iter().filter(|l| l.port.number == port);
        let own = listeners.find_map(|listener| listener.connection_pool.as_ref());
        own.or(sidecar.inbound_connection_pool.as_ref()).cloned()
    }
}

/// Build an inbound cluster.
pub fn build_inbound(inputs: &InboundInputs) -> Cluster {
    let name = inputs.name();
    let mut cluster = Cluster {
        alt_stat_name: delimited_stat_name(&name),
        common_lb_config: Some(CommonLbConfig::default()),
        ..Cluster::default()
    };
    cluster.name = name;
    set_endpoint(&mut cluster, inputs);
    set_stat_name(&mut cluster, inputs);
    set_policy(&mut cluster, inputs);
    // Traffic to localhost needs no mark: iptables does not catch it.
    let address = inputs
        .endpoint
        .as_ref()
        .map(|(address, _)| address.as_str());
    if !matches!(address, Some("127.0.0.1" | "::1")) {
        let source = inputs.client.ip_mode.inbound_passthrough_binds().first();
        cluster.upstream_bind_config = source.map(|source| BindConfig {
            source_address: Some(socket_address(source, 0)),
            ..BindConfig::default()
        });
    }
    cluster
}

fn set_endpoint(cluster: &mut Cluster, inputs: &InboundInputs) {
    let Some((address, port)) = &inputs.endpoint else {
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(
            DiscoveryType::OriginalDst as i32,
        ));
        cluster.set_lb_policy(LbPolicy::ClusterProvided);
        cluster.cleanup_interval = Some(NO_CLEANUP);
        return;
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
    let endpoint = Endpoint {
        address: Some(build_address(address, *port)),
        ..Endpoint::default()
    };
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    };
    cluster.load_assignment = Some(ClusterLoadAssignment {
        cluster_name: cluster.name.clone(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    });
}

fn set_stat_name(cluster: &mut Cluster, inputs: &InboundInputs) {
    let pattern = &inputs.settings.inbound_stat_name;
    let primary = inputs.services.first().zip(inputs.service_port.as_ref());
    if let Some((service, port)) = primary.filter(|_| !pattern.is_empty()) {
        let name = stat_name(pattern, service, port, "", inputs.port);
        cluster.alt_stat_name = delimited_stat_name(&name);
    }
}

/// The receiver keeps the limits of the rule for its clients, so that it can take what they may send.
fn set_policy(cluster: &mut Cluster, inputs: &InboundInputs) {
    let settings = &*inputs.settings;
    let port = inputs
        .service_port
        .as_ref()
        .map_or(inputs.port, |port| port.number);
    let rule = inputs
        .rule
        .as_ref()
        .filter(|rule| rule.spec.traffic_policy.is_some());
    let metadata = ClusterMetadata {
        rule: rule.map(|rule| &**rule),
        ..ClusterMetadata::default()
    };
    cluster.metadata = metadata.build(inputs.services.iter().map(|service| &**service));
    let policy = rule
        .map(|rule| EffectivePolicy::of_rule(rule, port, None))
        .unwrap_or_default();
    let policy = policy.with_mesh_default(settings.default_traffic_policy.as_ref());
    let pool = inputs.pool.as_ref().or(policy.connection_pool);
    apply_connection_pool(cluster, settings, pool, policy.retry_budget);
    let protocol = UpstreamProtocol::of_port(&inputs.client, inputs.protocol);
    HttpSide::new(&inputs.client, protocol, pool).finish(cluster);
}
