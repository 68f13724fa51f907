//! Clusters of service ports and their subsets.
//!
//! Source: istio pilot/pkg/networking/core/cluster.go `buildOutboundClusters`, `buildOutboundSniDnatClusters`,
//! `cluster_builder.go` `applyDestinationRule`, `buildSubsetCluster`.

use std::collections::BTreeSet;
use std::sync::Arc;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
    LbConfig, LbPolicy, OriginalDstLbConfig,
};
use navarch_envoy::envoy::config::core::v3::{HealthStatus, HealthStatusSet, TypedExtensionConfig};
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_envoy::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use navarch_model::{
    ClientTlsMode, ConfigKey, DestinationRule, Diagnostic, Kind, Registry, Resolution, Service,
    ServicePort, Severity, Shared,
};
use navarch_snapshot::{MeshSnapshot, ProxyScope};

use super::load_balancer::{apply_load_balancer, build_common_lb_config};
use super::metadata::{ClusterMetadata, metadata_exchange};
use super::outlier::{build_error_matcher, build_outlier_detection};
use super::policy::{EffectivePolicy, find_subset};
use super::pool::{HttpSide, UpstreamProtocol, apply_connection_pool};
use super::protobuf::duration;
use super::service_cluster::{ClusterMode, Discovery, ServiceCluster, service_clusters};
use super::settings::{ClusterClient, ClusterSettings};
use super::tls::{TlsFault, TlsInputs, apply_proxy_protocol, apply_tls};
use crate::address::IpMode;
use crate::config_source::ads;
use crate::eds::locality::LocalityPolicy;
use crate::eds::{EndpointContext, EndpointInputs, build_localities};
use crate::name::{delimited_stat_name, dns_cache, sni_dnat_cluster, stat_name};

/// How many questions one socket of Envoy's resolver asks before it is renewed.
const DNS_UDP_MAX_QUERIES: u32 = 100;
/// Names are resolved again a little apart, in milliseconds.
const DNS_JITTER_MS: i64 = 100;

/// Everything that a service's cluster depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboundInputs {
    /// The cluster's name.
    pub name: String,
    service: Shared<Service>,
    port: ServicePort,
    rule: Option<Shared<DestinationRule>>,
    subset: String,
    mode: ClusterMode,
    client: Shared<ClusterClient>,
    settings: Shared<ClusterSettings>,
    /// Whether mutual TLS is inferred.
    is_automatic_tls: bool,
    /// SPIFFE names of the endpoints and alternative names of the entry, sorted; none where no TLS checks them.
    identities: Shared<Vec<Arc<str>>>,
    /// Endpoints that stand in the cluster itself, as Envoy resolves them.
    local_endpoints: Option<Box<EndpointInputs>>,
}

/// What the inputs of one scope's clusters have in common.
pub(crate) struct OutboundContext<'a> {
    pub(crate) mesh: &'a MeshSnapshot,
    pub(crate) scope: &'a ProxyScope,
    pub(crate) client: Shared<ClusterClient>,
    pub(crate) settings: Shared<ClusterSettings>,
    pub(crate) endpoints: EndpointContext<'a>,
    pub(crate) no_identities: Shared<Vec<Arc<str>>>,
}

impl OutboundContext<'_> {
    /// The inputs of all clusters of one service for one mode.
    pub(crate) fn service_inputs(
        &self,
        service: &Shared<Service>,
        mode: ClusterMode,
    ) -> Vec<OutboundInputs> {
        let clusters = service_clusters(self.scope, service, mode);
        let mut identities = None;
        clusters
            .iter()
            .map(|cluster| {
                let tls = cluster.policy(None).tls.map(|tls| tls.mode);
                let is_automatic_tls = tls.is_none()
                    && mode == ClusterMode::Default
                    && self.client.has_workload_certificate
                    && cluster.is_mutual_tls_inferred(self.mesh);
                let is_checked = is_automatic_tls
                    || tls == Some(ClientTlsMode::IstioMutual)
                    || (tls.is_some() && service.registry == Registry::External);
                let of_service = || Shared::new(identities_of(self.mesh, service));
                let identities = if is_checked && mode == ClusterMode::Default {
                    identities.get_or_insert_with(of_service).clone()
                } else {
                    self.no_identities.clone()
                };
                let is_local = cluster.discovery(self.scope.group.kind).is_dns();
                OutboundInputs {
                    name: cluster.name(),
                    service: service.clone(),
                    port: cluster.port.clone(),
                    rule: cluster.rule.cloned(),
                    subset: cluster.subset_name().to_owned(),
                    mode,
                    client: self.client.clone(),
                    settings: self.settings.clone(),
                    is_automatic_tls,
                    identities,
                    local_endpoints: is_local.then(|| Box::new(self.endpoints.inputs(cluster))),
                }
            })
            .collect()
    }
}

/// Identities of a service: those of its endpoints and its own, in all trust domains of the mesh.
fn identities_of(mesh: &MeshSnapshot, service: &Service) -> Vec<Arc<str>> {
    let endpoints = mesh.endpoints(service);
    let mut names: BTreeSet<Arc<str>> = endpoints
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.workload.service_account)
        .filter(|account| !account.is_empty())
        .chain(&service.service_accounts)
        .chain(&service.subject_alt_names)
        .cloned()
        .collect();
    let config = &mesh.mesh_config;
    if !config.trust_domain_aliases.is_empty() {
        let mut expanded = BTreeSet::new();
        for name in &names {
            let Some((_, rest)) = name
                .strip_prefix("spiffe://")
                .and_then(|n| n.split_once('/'))
            else {
                continue;
            };
            let domains = config
                .trust_domain_aliases
                .iter()
                .chain([&config.trust_domain]);
            expanded.extend(domains.map(|domain| Arc::from(format!("spiffe://{domain}/{rest}"))));
        }
        names.extend(expanded);
    }
    names.into_iter().collect()
}

/// Build a service's cluster; `None` where Envoy would have nothing to resolve.
pub fn build_outbound(inputs: &OutboundInputs) -> (Option<Cluster>, Vec<Diagnostic>) {
    let built = Builder::new(inputs).and_then(Builder::build);
    match built {
        Ok(cluster) => (Some(cluster), Vec::new()),
        Err(Absence::NoEndpoints) => (None, Vec::new()),
        Err(Absence::Tls(fault)) => (Some(dead_end(inputs)), vec![diagnose(inputs, fault)]),
    }
}

/// Why a cluster can't be built as it should be.
enum Absence {
    NoEndpoints,
    Tls(TlsFault),
}

/// A cluster of the same name without endpoints: its traffic fails, and is not sent in plaintext.
fn dead_end(inputs: &OutboundInputs) -> Cluster {
    Cluster {
        name: inputs.name.clone(),
        alt_stat_name: delimited_stat_name(&inputs.name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: Some(duration(inputs.settings.connect_timeout)),
        ..Cluster::default()
    }
}

fn diagnose(inputs: &OutboundInputs, fault: TlsFault) -> Diagnostic {
    let rule = inputs.rule.as_ref().map(|rule| &rule.metadata);
    let (namespace, name) = rule.map_or(("", ""), |m| (&m.namespace, &m.name));
    Diagnostic {
        key: ConfigKey::new(Kind::DestinationRule, namespace, name),
        code: fault.code(),
        severity: Severity::Error,
        field_path: "spec.trafficPolicy.tls".to_owned(),
        message: format!("{}: {}", inputs.name, fault.message()),
    }
}

struct Builder<'a> {
    inputs: &'a OutboundInputs,
    policy: EffectivePolicy<'a>,
    discovery: Discovery,
    locality: LocalityPolicy,
    cluster: Cluster,
}

impl<'a> Builder<'a> {
    fn new(inputs: &'a OutboundInputs) -> Result<Self, Absence> {
        let rule = inputs.rule.as_ref();
        let described = ServiceCluster {
            service: &inputs.service,
            port: &inputs.port,
            rule,
            subset: rule.and_then(|rule| find_subset(rule, &inputs.subset)),
            mode: inputs.mode,
        };
        let policy = described.policy(inputs.settings.default_traffic_policy.as_ref());
        let locality = LocalityPolicy::of(
            &inputs.service,
            policy.load_balancer,
            policy.outlier_detection.is_some(),
            &inputs.settings,
        );
        let mut builder = Self {
            inputs,
            policy,
            discovery: described.discovery(inputs.client.kind),
            locality,
            cluster: Cluster {
                name: inputs.name.clone(),
                ..Cluster::default()
            },
        };
        builder.set_discovery()?;
        Ok(builder)
    }

    fn set_discovery(&mut self) -> Result<(), Absence> {
        let kind = match self.discovery {
            Discovery::Eds => {
                self.cluster.eds_cluster_config = Some(EdsClusterConfig {
                    service_name: self.inputs.name.clone(),
                    eds_config: Some(ads()),
                });
                DiscoveryType::Eds
            }
            Discovery::StrictDns | Discovery::LogicalDns => {
                self.set_local_endpoints()?;
                self.set_dns();
                match self.discovery {
                    Discovery::StrictDns => DiscoveryType::StrictDns,
                    _ => DiscoveryType::LogicalDns,
                }
            }
            Discovery::OriginalDst => {
                self.cluster.lb_config = self.port_override();
                DiscoveryType::OriginalDst
            }
            Discovery::DynamicForwardProxy => {
                self.cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(
                    self.dynamic_forward_proxy(),
                ));
                return Ok(());
            }
        };
        self.cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
        Ok(())
    }

    fn set_local_endpoints(&mut self) -> Result<(), Absence> {
        let inputs = self.inputs.local_endpoints.as_ref();
        let mut endpoints = inputs
            .map(|inputs| build_localities(inputs))
            .unwrap_or_default();
        if endpoints.is_empty() {
            return Err(Absence::NoEndpoints);
        }
        if self.discovery == Discovery::LogicalDns {
            // Envoy refuses a logical DNS cluster of more than one endpoint.
            endpoints.truncate(1);
            endpoints[0].lb_endpoints.truncate(1);
        }
        self.cluster.load_assignment = Some(ClusterLoadAssignment {
            cluster_name: self.inputs.name.clone(),
            endpoints,
            ..ClusterLoadAssignment::default()
        });
        Ok(())
    }

    fn set_dns(&mut self) {
        let resolver = CaresDnsResolverConfig {
            udp_max_queries: Some(DNS_UDP_MAX_QUERIES),
            ..CaresDnsResolverConfig::default()
        };
        let family = if self.inputs.service.is_happy_eyeballs {
            DnsLookupFamily::All
        } else {
            dns_lookup_family(self.inputs.client.ip_mode)
        };
        self.cluster.set_dns_lookup_family(family);
        self.cluster.typed_dns_resolver_config = Some(TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(any::pack(&resolver)),
        });
        self.cluster.dns_jitter = Some(duration(navarch_model::Span::from_millis(DNS_JITTER_MS)));
        self.cluster.dns_refresh_rate = Some(duration(self.inputs.settings.dns_refresh_rate));
        self.cluster.respect_dns_ttl = true;
    }

    /// The targetPort of an entry without resolution: the original destination's port gives way to it.
    fn port_override(&self) -> Option<LbConfig> {
        let service = &self.inputs.service;
        let is_own =
            service.registry == Registry::External && service.resolution == Resolution::Passthrough;
        let port = self.inputs.port.target_port.filter(|_| is_own)?;
        (port != self.inputs.port.number).then(|| {
            LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                upstream_port_override: Some(port),
                ..OriginalDstLbConfig::default()
            })
        })
    }

    fn dynamic_forward_proxy(&self) -> CustomClusterType {
        let tls = self.policy.tls;
        let is_unverified = tls.is_some_and(|tls| tls.insecure_skip_verify == Some(true));
        super::fixed::dynamic_forward_proxy(
            &dns_cache(self.inputs.service.hostname.as_str()),
            dns_lookup_family(self.inputs.client.ip_mode),
            None,
            is_unverified,
        )
    }

    fn build(mut self) -> Result<Cluster, Absence> {
        let inputs = self.inputs;
        self.set_stat_name();
        let (settings, policy) = (&*inputs.settings, self.policy);
        let pool = policy.connection_pool;
        apply_connection_pool(&mut self.cluster, settings, pool, policy.retry_budget);
        let protocol = UpstreamProtocol::of_port(&inputs.client, inputs.port.protocol).upgraded(
            settings,
            inputs.port.protocol,
            pool,
        );
        let mut http = HttpSide::new(&inputs.client, protocol, pool);
        if let Some(outlier) = policy.outlier_detection {
            self.cluster.outlier_detection = Some(build_outlier_detection(outlier));
            http.outlier_detection = build_error_matcher(outlier);
        }
        self.set_load_balancer();
        if inputs.mode == ClusterMode::Default {
            let tls = self.tls_inputs();
            apply_tls(&mut self.cluster, &mut http, &tls).map_err(Absence::Tls)?;
            if let Some(proxy_protocol) = policy.proxy_protocol {
                apply_proxy_protocol(&mut self.cluster, proxy_protocol);
            }
        }
        http.finish(&mut self.cluster);
        if inputs.client.is_istio {
            self.cluster.filters.push(metadata_exchange());
        }
        self.cluster.metadata = self.metadata().finish();
        Ok(self.cluster)
    }

    fn set_stat_name(&mut self) {
        let inputs = self.inputs;
        let pattern = &inputs.settings.outbound_stat_name;
        self.cluster.alt_stat_name = if pattern.is_empty() {
            delimited_stat_name(&inputs.name)
        } else {
            delimited_stat_name(&stat_name(
                pattern,
                &inputs.service,
                &inputs.port,
                &inputs.subset,
                0,
            ))
        };
    }

    fn set_load_balancer(&mut self) {
        let outlier = self.policy.outlier_detection;
        let min_health_percent = outlier.map_or(0, |outlier| outlier.min_health_percent);
        if self.discovery == Discovery::DynamicForwardProxy {
            self.cluster.set_lb_policy(LbPolicy::ClusterProvided);
            self.cluster.common_lb_config =
                outlier.map(|_| build_common_lb_config(&LocalityPolicy::Off, min_health_percent));
            return;
        }
        let mut common = build_common_lb_config(&self.locality, min_health_percent);
        common.override_host_status = self.override_host_status();
        self.cluster.common_lb_config = Some(common);
        if self.discovery == Discovery::OriginalDst {
            self.cluster.set_lb_policy(LbPolicy::ClusterProvided);
        } else {
            apply_load_balancer(&mut self.cluster, self.policy.load_balancer);
        }
    }

    /// Endpoints that drain stay for the sessions that are theirs.
    fn override_host_status(&self) -> Option<HealthStatusSet> {
        let is_kept = self.inputs.service.is_persistent_session && self.inputs.subset.is_empty();
        is_kept.then(|| HealthStatusSet {
            statuses: [
                HealthStatus::Healthy,
                HealthStatus::Draining,
                HealthStatus::Unknown,
                HealthStatus::Degraded,
            ]
            .map(|status| status as i32)
            .into(),
        })
    }

    fn tls_inputs(&self) -> TlsInputs<'a> {
        let inputs = self.inputs;
        let service = &inputs.service;
        let selector = inputs
            .rule
            .as_ref()
            .and_then(|rule| rule.spec.workload_selector.as_ref());
        TlsInputs {
            client: &inputs.client,
            settings: &inputs.settings,
            tls: self.policy.tls,
            is_automatic: inputs.is_automatic_tls,
            identities: &inputs.identities,
            mesh_sni: sni_dnat_cluster(
                inputs.port.number,
                &inputs.subset,
                service.hostname.as_str(),
            ),
            is_external_registry: service.registry == Registry::External,
            is_mesh_external: service.is_mesh_external,
            has_workload_selector: selector.is_some(),
            is_matched_by_endpoint: self.discovery != Discovery::OriginalDst,
            is_dynamic: self.discovery == Discovery::DynamicForwardProxy,
        }
    }

    fn metadata(&self) -> ClusterMetadata {
        let inputs = self.inputs;
        let mut metadata = ClusterMetadata::default();
        if self.discovery != Discovery::DynamicForwardProxy {
            metadata.set_services(std::iter::once(&*inputs.service));
        }
        if let Some(rule) = &inputs.rule {
            metadata.set_rule(rule);
            let mode = self.policy.tls.map(|tls| tls.mode);
            if matches!(mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual)) {
                metadata.set_alpn_kept();
            }
        }
        if !inputs.subset.is_empty() {
            metadata.set_subset(&inputs.subset);
        } else if inputs.service.is_mesh_external {
            metadata.set_external();
        }
        metadata
    }
}

/// A proxy of both families looks IPv4 up: Istio's dual-stack mode is off by default.
pub(crate) const fn dns_lookup_family(mode: IpMode) -> DnsLookupFamily {
    match mode {
        IpMode::V6 => DnsLookupFamily::V6Only,
        IpMode::V4 | IpMode::Dual => DnsLookupFamily::V4Only,
    }
}
