//! Clusters of service ports and their subsets.
//!
//! Source: istio pilot/pkg/networking/core/cluster.go `buildOutboundClusters`, `buildOutboundSniDnatClusters`,
//! `cluster_builder.go` `applyDestinationRule`, `buildSubsetCluster`.

use std::borrow::Cow;
use std::sync::LazyLock;

use navarch_envoy::any;
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
    LbConfig, LbPolicy, OriginalDstLbConfig,
};
use navarch_envoy::envoy::config::core::v3::{HealthStatus, HealthStatusSet, TypedExtensionConfig};
use navarch_envoy::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use navarch_envoy::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use navarch_envoy::field::envoy::config::cluster::v3::cluster as field;
use navarch_envoy::wire::{Template, Writer};
use navarch_model::{ClientTlsMode, ConfigKey, Diagnostic, Kind, Registry, Severity};
use prost::Message;

use super::load_balancer::{apply_load_balancer, build_common_lb_config};
use super::mesh_tls::{MeshNames, MeshTls};
use super::metadata::{ClusterMetadata, metadata_exchange};
use super::outbound_inputs::{OutboundInputs, port_override};
use super::outlier::{build_error_matcher, build_outlier_detection};
use super::policy::{EffectivePolicy, find_subset};
use super::pool::{HttpSide, UpstreamProtocol, apply_connection_pool};
use super::protobuf::duration;
use super::service_cluster::{ClusterMode, Discovery, ServiceCluster};
use super::tls::{TlsFault, TlsInputs, apply_proxy_protocol, apply_tls};
use crate::address::IpMode;
use crate::config_source::ads;
use crate::eds::build_localities;
use crate::eds::locality::LocalityPolicy;
use crate::encoded::{Encoded, References};
use crate::name::{
    Decimal, STAT_NAME_END, delimited_stat_name, dns_cache, sni_dnat_parts, stat_name,
};

/// How many questions one socket of Envoy's resolver asks before it is renewed.
const DNS_UDP_MAX_QUERIES: u32 = 100;
/// Names are resolved again a little apart, in milliseconds.
const DNS_JITTER_MS: i64 = 100;

/// Endpoints by this very stream.
static EDS_BY_ADS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let config = EdsClusterConfig {
        eds_config: Some(ads()),
        ..EdsClusterConfig::default()
    };
    config.encode_to_vec()
});

/// Build a service's cluster; `None` where Envoy would have nothing to resolve.
pub(super) fn build_outbound(
    inputs: &OutboundInputs<'_>,
) -> (Option<Encoded<Cluster>>, Vec<Diagnostic>) {
    let builder = Builder::new(inputs);
    let endpoints = inputs.local_endpoints.as_deref().map(build_localities);
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        return (None, Vec::new());
    }
    let own;
    let common = if let Some(common) = &inputs.common {
        common.get_or_make(|| builder.common_parts())
    } else {
        own = builder.common_parts();
        &own
    };
    match common {
        Ok(common) => {
            let cluster = builder.write(common, endpoints);
            (Some(cluster), Vec::new())
        }
        Err(fault) => (Some(dead_end(inputs)), vec![diagnose(inputs, *fault)]),
    }
}

/// A cluster of the same name without endpoints: its traffic fails, and is not sent in plaintext.
fn dead_end(inputs: &OutboundInputs<'_>) -> Encoded<Cluster> {
    let cluster = Cluster {
        name: inputs.name.to_string(),
        alt_stat_name: delimited_stat_name(&inputs.name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: Some(duration(inputs.settings.connect_timeout)),
        ..Cluster::default()
    };
    Encoded::of(&inputs.name, &cluster, References::Nothing)
}

fn diagnose(inputs: &OutboundInputs<'_>, fault: TlsFault) -> Diagnostic {
    let rule = inputs.rule.map(|rule| &rule.metadata);
    let (namespace, name) = rule.map_or(("", ""), |m| (&m.namespace, &m.name));
    Diagnostic {
        key: ConfigKey::new(Kind::DestinationRule, namespace, name),
        code: fault.code(),
        severity: Severity::Error,
        field_path: "spec.trafficPolicy.tls".to_owned(),
        message: format!("{}: {}", inputs.name, fault.message()),
    }
}

/// A cluster without what is its own: names, endpoints, and whom mutual TLS must meet.
#[derive(Debug)]
pub(super) struct CommonParts {
    fields: Template,
    /// Mutual TLS of the mesh, whose sockets have the names in them.
    mesh_tls: Option<MeshTls>,
}

struct Builder<'a> {
    inputs: &'a OutboundInputs<'a>,
    policy: EffectivePolicy<'a>,
    discovery: Discovery,
    port_digits: Decimal,
}

impl<'a> Builder<'a> {
    fn new(inputs: &'a OutboundInputs<'a>) -> Self {
        let described = ServiceCluster {
            service: inputs.service,
            port: inputs.port,
            rule: inputs.rule,
            subset: inputs
                .rule
                .and_then(|rule| find_subset(rule, inputs.subset)),
            mode: inputs.mode,
        };
        Self {
            inputs,
            policy: described.policy(inputs.settings.default_traffic_policy.as_ref()),
            discovery: described.discovery(inputs.client.kind),
            port_digits: Decimal::new(inputs.port.number),
        }
    }

    /// Write the cluster: its own fields between those that it has in common with others.
    fn write(
        &self,
        common: &CommonParts,
        endpoints: Option<Vec<LocalityLbEndpoints>>,
    ) -> Encoded<Cluster> {
        let inputs = self.inputs;
        let names = self.mesh_names();
        let room = common.fields.len() + 6 * inputs.name.len() + 512;
        let mut out = Writer::with_capacity(room);
        let mut cluster = common.fields.fill(&mut out);
        cluster.text(field::NAME, &[&inputs.name]);
        if self.discovery == Discovery::Eds {
            cluster.message(field::EDS_CLUSTER_CONFIG, |eds| {
                eds.append(&EDS_BY_ADS);
                eds.text(field::eds_cluster_config::SERVICE_NAME, &[&inputs.name]);
            });
        }
        if let Some(tls) = common.mesh_tls {
            tls.write_socket(&names, cluster.at(field::TRANSPORT_SOCKET));
        }
        let is_named = self.discovery != Discovery::DynamicForwardProxy;
        let services = is_named.then_some(&**inputs.service).into_iter();
        let place = cluster.at(field::METADATA);
        self.metadata().write(field::METADATA, services, place);
        self.write_stat_name(cluster.at(field::ALT_STAT_NAME));
        if let Some(endpoints) = endpoints {
            let place = cluster.at(field::LOAD_ASSIGNMENT);
            place.append_message(&self.with_endpoints(endpoints));
        }
        if let Some(tls) = common.mesh_tls {
            tls.write_socket_matches(&names, cluster.at(field::TRANSPORT_SOCKET_MATCHES));
        }
        cluster.finish();
        let references = match self.discovery {
            Discovery::Eds => References::SameName,
            _ => References::Nothing,
        };
        Encoded::new(inputs.name.clone(), out, references)
    }

    fn mesh_names(&self) -> MeshNames<'_> {
        let inputs = self.inputs;
        MeshNames::new(self.policy.tls, &inputs.identities, self.mesh_sni())
    }

    fn mesh_sni(&self) -> [&str; 6] {
        if self.discovery == Discovery::DynamicForwardProxy {
            // Where hosts are resolved one by one, each request's own is the name.
            return [""; 6];
        }
        let inputs = self.inputs;
        let host = inputs.service.hostname.as_str();
        sni_dnat_parts(self.port_digits.as_str(), inputs.subset, host)
    }

    fn write_stat_name(&self, out: &mut Writer) {
        let inputs = self.inputs;
        let pattern = &inputs.settings.outbound_stat_name;
        if pattern.is_empty() && !inputs.name.ends_with(STAT_NAME_END) {
            out.text(field::ALT_STAT_NAME, &[&inputs.name, STAT_NAME_END]);
            return;
        }
        let name: Cow<'_, str> = if pattern.is_empty() {
            (&*inputs.name).into()
        } else {
            stat_name(pattern, inputs.service, inputs.port, inputs.subset, 0).into()
        };
        let name = delimited_stat_name(&name);
        if !name.is_empty() {
            out.text(field::ALT_STAT_NAME, &[&name]);
        }
    }

    /// The endpoints as a cluster that has nothing else.
    fn with_endpoints(&self, mut endpoints: Vec<LocalityLbEndpoints>) -> Cluster {
        if self.discovery == Discovery::LogicalDns {
            // Envoy refuses a logical DNS cluster of more than one endpoint.
            endpoints.truncate(1);
            endpoints[0].lb_endpoints.truncate(1);
        }
        Cluster {
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: self.inputs.name.to_string(),
                endpoints,
                ..ClusterLoadAssignment::default()
            }),
            ..Cluster::default()
        }
    }

    /// Everything but what is the cluster's own.
    fn common_parts(&self) -> Result<CommonParts, TlsFault> {
        let inputs = self.inputs;
        let mut cluster = Cluster::default();
        self.set_discovery(&mut cluster);
        let (settings, policy) = (&*inputs.settings, self.policy);
        let pool = policy.connection_pool;
        apply_connection_pool(&mut cluster, settings, pool, policy.retry_budget);
        let protocol = UpstreamProtocol::of_port(&inputs.client, inputs.port.protocol).upgraded(
            settings,
            inputs.port.protocol,
            pool,
        );
        let mut http = HttpSide::new(&inputs.client, protocol, pool);
        if let Some(outlier) = policy.outlier_detection {
            cluster.outlier_detection = Some(build_outlier_detection(outlier));
            http.outlier_detection = build_error_matcher(outlier);
        }
        self.set_load_balancer(&mut cluster);
        let mut mesh_tls = None;
        if inputs.mode == ClusterMode::Default {
            mesh_tls = apply_tls(&mut cluster, &mut http, &self.tls_inputs())?;
            if let Some(proxy_protocol) = policy.proxy_protocol {
                if let Some(tls) = mesh_tls.take() {
                    tls.apply(&self.mesh_names(), &mut cluster);
                }
                apply_proxy_protocol(&mut cluster, proxy_protocol);
            }
        }
        http.finish(&mut cluster);
        if inputs.client.is_istio {
            cluster.filters.push(metadata_exchange());
        }
        Ok(CommonParts {
            fields: Template::of(&cluster, field::ONEOFS),
            mesh_tls,
        })
    }

    fn set_discovery(&self, cluster: &mut Cluster) {
        let kind = match self.discovery {
            Discovery::Eds => DiscoveryType::Eds,
            Discovery::StrictDns => DiscoveryType::StrictDns,
            Discovery::LogicalDns => DiscoveryType::LogicalDns,
            Discovery::OriginalDst => {
                cluster.lb_config = self.port_override();
                DiscoveryType::OriginalDst
            }
            Discovery::DynamicForwardProxy => {
                let custom = self.dynamic_forward_proxy();
                cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(custom));
                return;
            }
        };
        if self.discovery.is_dns() {
            self.set_dns(cluster);
        }
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
    }

    fn set_dns(&self, cluster: &mut Cluster) {
        let resolver = CaresDnsResolverConfig {
            udp_max_queries: Some(DNS_UDP_MAX_QUERIES),
            ..CaresDnsResolverConfig::default()
        };
        let family = if self.inputs.service.is_happy_eyeballs {
            DnsLookupFamily::All
        } else {
            dns_lookup_family(self.inputs.client.ip_mode)
        };
        cluster.set_dns_lookup_family(family);
        cluster.typed_dns_resolver_config = Some(TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(any::pack(&resolver)),
        });
        cluster.dns_jitter = Some(duration(navarch_model::Span::from_millis(DNS_JITTER_MS)));
        cluster.dns_refresh_rate = Some(duration(self.inputs.settings.dns_refresh_rate));
        cluster.respect_dns_ttl = true;
    }

    fn port_override(&self) -> Option<LbConfig> {
        port_override(self.inputs.service, self.inputs.port).map(|port| {
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

    fn set_load_balancer(&self, cluster: &mut Cluster) {
        let outlier = self.policy.outlier_detection;
        let min_health_percent = outlier.map_or(0, |outlier| outlier.min_health_percent);
        if self.discovery == Discovery::DynamicForwardProxy {
            cluster.set_lb_policy(LbPolicy::ClusterProvided);
            cluster.common_lb_config =
                outlier.map(|_| build_common_lb_config(&LocalityPolicy::Off, min_health_percent));
            return;
        }
        let locality = LocalityPolicy::of(
            self.inputs.service,
            self.policy.load_balancer,
            outlier.is_some(),
            &self.inputs.settings,
        );
        let mut common = build_common_lb_config(&locality, min_health_percent);
        common.override_host_status = self.override_host_status();
        cluster.common_lb_config = Some(common);
        if self.discovery == Discovery::OriginalDst {
            cluster.set_lb_policy(LbPolicy::ClusterProvided);
        } else {
            apply_load_balancer(cluster, self.policy.load_balancer);
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

    fn tls_inputs(&self) -> TlsInputs<'_> {
        let inputs = self.inputs;
        let service = inputs.service;
        let selector = inputs
            .rule
            .and_then(|rule| rule.spec.workload_selector.as_ref());
        TlsInputs {
            client: &inputs.client,
            settings: &inputs.settings,
            tls: self.policy.tls,
            is_automatic: inputs.is_automatic_tls,
            identities: &inputs.identities,
            mesh_sni: self.mesh_sni(),
            is_external_registry: service.registry == Registry::External,
            is_mesh_external: service.is_mesh_external,
            has_workload_selector: selector.is_some(),
            is_matched_by_endpoint: self.discovery != Discovery::OriginalDst,
            is_dynamic: self.discovery == Discovery::DynamicForwardProxy,
        }
    }

    fn metadata(&self) -> ClusterMetadata<'_> {
        let inputs = self.inputs;
        let mode = self.policy.tls.map(|tls| tls.mode);
        let is_originating = matches!(mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
        ClusterMetadata {
            rule: inputs.rule.map(|rule| &**rule),
            is_alpn_kept: inputs.rule.is_some() && is_originating,
            is_external: inputs.subset.is_empty() && inputs.service.is_mesh_external,
            subset: inputs.subset,
        }
    }
}

/// A proxy of both families looks IPv4 up: Istio's dual-stack mode is off by default.
pub(crate) const fn dns_lookup_family(mode: IpMode) -> DnsLookupFamily {
    match mode {
        IpMode::V6 => DnsLookupFamily::V6Only,
        IpMode::V4 | IpMode::Dual => DnsLookupFamily::V4Only,
    }
}
