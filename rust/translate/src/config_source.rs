//! Where Envoy gets a resource from: this ADS stream, or the agent's secret service.

use navarch_envoy::envoy::config::core::v3::{
    AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
    api_config_source::ApiType,
    config_source::ConfigSourceSpecifier,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use navarch_envoy::envoy::extensions::transport_sockets::tls::v3::SdsSecretConfig;
use prost_types::Duration;

/// The agent's static cluster that serves secrets.
pub const SDS_CLUSTER: &str = "sds-grpc";
/// The secret of the workload's certificate and key.
pub const DEFAULT_SECRET: &str = "default";
/// The secret of the mesh's trust anchors.
pub const ROOT_SECRET: &str = "ROOTCA";

/// Secret names of gateway credentials begin so.
pub const KUBERNETES_SECRET_PREFIX: &str = "kubernetes://";

/// The credential that stands for the workload's own certificate, and the same with the suffix of trust anchors.
const BUILTIN_SECRET: &str = "builtin://";
const BUILTIN_ROOT_SECRET: &str = "builtin://-cacert";
/// Names of credentials that another secret service has begin so.
pub const EXTERNAL_SECRET_PREFIX: &str = "sds://";

/// The duration zero: Envoy waits for the first answer as long as it takes.
const NO_TIMEOUT: Duration = Duration {
    seconds: 0,
    nanos: 0,
};

/// This very ADS stream, awaited without a limit.
pub fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: Some(NO_TIMEOUT),
        resource_api_version: ApiVersion::V3 as i32,
        ..ConfigSource::default()
    }
}

/// This very ADS stream, for secrets that the control plane serves to gateways (credential names).
pub fn ads_for_secrets() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3 as i32,
        ..ConfigSource::default()
    }
}

/// The secret service behind a cluster; the listener or cluster that names it waits for 15 s, Envoy's default.
pub fn sds(cluster: &str) -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
            api_type: ApiType::Grpc as i32,
            set_node_on_first_message_only: true,
            transport_api_version: ApiVersion::V3 as i32,
            grpc_services: vec![GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                    cluster_name: cluster.to_owned(),
                    ..EnvoyGrpc::default()
                })),
                ..GrpcService::default()
            }],
            ..ApiConfigSource::default()
        })),
        resource_api_version: ApiVersion::V3 as i32,
        ..ConfigSource::default()
    }
}

/// A secret that the agent serves: the workload's own ([`DEFAULT_SECRET`], [`ROOT_SECRET`]) are awaited without a limit,
/// files by name (`file-cert:…`, `file-root:…`) as long as Envoy waits by default.
pub fn sds_secret(name: &str) -> SdsSecretConfig {
    let is_own = matches!(name, DEFAULT_SECRET | ROOT_SECRET);
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: is_own.then_some(NO_TIMEOUT),
            ..sds(SDS_CLUSTER)
        }),
    }
}

/// The secret of a certificate and key in files.
pub fn file_certificate_secret(certificate: &str, private_key: &str) -> SdsSecretConfig {
    sds_secret(&format!("file-cert:{certificate}~{private_key}"))
}

/// The secret of trust anchors in a file; `system` stands for the machine's own store.
pub fn file_root_secret(ca_certificates: &str) -> SdsSecretConfig {
    sds_secret(&format!("file-root:{ca_certificates}"))
}

/// The secret of a credential that the control plane serves, by its credential name
/// (istio pilot/pkg/security/model/authentication.go `ConstructSdsSecretConfigForCredential`).
pub fn credential_secret(credential_name: &str) -> SdsSecretConfig {
    match credential_name {
        BUILTIN_SECRET => return sds_secret(DEFAULT_SECRET),
        BUILTIN_ROOT_SECRET => return sds_secret(ROOT_SECRET),
        _ => {}
    }
    let name = if credential_name.contains("://") {
        credential_name.to_owned()
    } else {
        format!("{KUBERNETES_SECRET_PREFIX}{credential_name}")
    };
    SdsSecretConfig {
        name,
        sds_config: Some(ads_for_secrets()),
    }
}

/// The secret of that name from a secret service of the mesh, behind `cluster` and called `authority`.
pub fn external_secret(name: &str, cluster: &str, authority: &str) -> SdsSecretConfig {
    let mut source = sds(cluster);
    if let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = &mut source.config_source_specifier {
        for service in &mut api.grpc_services {
            if let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &mut service.target_specifier {
                authority.clone_into(&mut grpc.authority);
            }
        }
    }
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(source),
    }
}
