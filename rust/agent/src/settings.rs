//! What an agent was told: flags, environment, `ProxyConfig` and the pod's own files, as Istio's agent names them.
//!
//! Source: istio `pilot/cmd/pilot-agent/options/options.go`, `pkg/bootstrap/config.go`.

mod duration;
mod flags;
mod metadata;
mod proxy_config;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use navarch_bootstrap::Node;
use serde::Deserialize;
use serde_json::Value;

pub use flags::{Flags, RestartPolicy};
pub use proxy_config::{
    ControlPlaneAuth, Exec, Grpc, Header, HttpGet, ProxyConfig, ReadinessProbe, TcpSocket,
};

use duration::parse_duration;

/// Where Istio's injector mounts the token for the control plane.
pub const TOKEN_FILE: &str = "/var/run/secrets/tokens/istio-token";
/// Where Istio's injector mounts the control plane's root certificate.
pub const ROOT_FILE: &str = "./var/run/secrets/istio/root-cert.pem";
/// Where Envoy finds the agent's secret service.
pub const SDS_SOCKET: &str = "./var/run/secrets/workload-spiffe-uds/socket";
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// The pod's own labels and annotations, by the downward API.
const LABELS_FILE: &str = "./etc/istio/pod/labels";
const ANNOTATIONS_FILE: &str = "./etc/istio/pod/annotations";
const PROXY_CONFIG_ANNOTATION: &str = "proxy.istio.io/config";
/// Roots that every machine trusts, by which a publicly signed control plane is known.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is wrong with what the agent was told.
#[derive(Debug, thiserror::Error)]
#[error("{place} {fault}")]
pub struct SettingsError {
    /// The flag, variable or file.
    pub place: String,
    /// What is wrong with it, and the remedy.
    pub fault: String,
}

impl SettingsError {
    fn new(place: impl Into<String>, fault: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            fault: fault.into(),
        }
    }
}

/// Where the agent runs, which only the machine knows.
pub struct Machine<'a> {
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Reads a file; `None` if there is none.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// The machine's name.
    pub hostname: String,
    /// The machine's own address, where nothing tells it.
    pub ip: Option<String>,
}

/// Who signs, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    /// `HOST:PORT` of `CreateCertificate`.
    pub address: String,
    /// The name that its certificate must have; the address' host if `None`.
    pub server_name: Option<String>,
    /// PEM roots, read anew at every connection.
    pub root_file: PathBuf,
    /// The token, read anew at every request.
    pub token_file: PathBuf,
    /// A directory with `cert-chain.pem` and `key.pem`, for machines without a token.
    pub provisioned_dir: Option<PathBuf>,
    /// The life that is asked for.
    pub ttl: Duration,
    /// The part of a certificate's life after which it is renewed.
    pub renewal_ratio: f64,
    /// How far the moment of renewal may lie off, as a part of the life, either way.
    pub renewal_jitter: f64,
    /// Whether keys are of P-384 rather than P-256.
    pub is_p384: bool,
    /// The workload's name.
    pub spiffe_id: String,
    /// Metadata of the requests.
    pub cluster_id: String,
    /// The signer that is asked for; "" for the authority's own choice.
    pub signer: String,
}

/// How Envoy goes when it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long connections may go on.
    pub duration: Duration,
    /// Whether to leave as soon as no connection is left.
    pub is_until_idle: bool,
    /// How long at least, even when no connection is left.
    pub minimum: Duration,
}

/// DNS for the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// `HOST:PORT` to listen on.
    pub address: String,
    /// Where the resolvers are told that answer what the mesh does not know.
    pub resolv_file: PathBuf,
    /// Whose short names are answered.
    pub namespace: String,
    /// The DNS domain of services, such as `svc.cluster.local`.
    pub domain: String,
    /// Whether all resolvers are asked at once.
    pub is_parallel: bool,
}

/// The application's metrics, by the annotations `prometheus.io/*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Scrape {
    /// `"true"` if they are to be merged.
    pub scrape: String,
    /// `http` if empty.
    pub scheme: String,
    /// `/metrics` if empty.
    pub path: String,
    /// The port; 80 if empty.
    pub port: String,
}

/// A probe of Kubernetes' that the injector has turned to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Istio's own")]
pub struct AppProbe {
    pub http_get: Option<HttpGet>,
    pub tcp_socket: Option<TcpSocket>,
    pub grpc: Option<Grpc>,
    pub timeout_seconds: u32,
}

/// All that an agent was told; made once, at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who the proxy is.
    pub node: Node,
    /// What is told of its process.
    pub proxy: ProxyConfig,
    /// Who signs.
    pub authority: Authority,
    /// The name that the control plane's certificate must have.
    pub discovery_name: Option<String>,
    /// PEM roots of the control plane, read anew at every connection.
    pub discovery_root_file: PathBuf,
    /// Headers that go with every ADS stream.
    pub discovery_headers: Vec<(String, String)>,
    /// How Envoy goes.
    pub drain: Drain,
    /// DNS, if it is to be served.
    pub dns: Option<Dns>,
    /// The application's metrics, if they are to be merged.
    pub scrape: Option<Scrape>,
    /// Rewritten probes by path.
    pub app_probes: BTreeMap<String, AppProbe>,
    /// Where Envoy's metrics listener is.
    pub envoy_prometheus_port: u16,
    /// Where readiness is asked through Envoy.
    pub envoy_status_port: u16,
    /// The socket of the secret service.
    pub sds_path: PathBuf,
    /// Whether Envoy is started at all.
    pub has_envoy: bool,
    /// Whether the workload's addresses are of IPv6 only.
    pub is_ipv6: bool,
    /// The rest of the flags.
    pub flags: Flags,
}

impl Settings {
    /// Put together what an agent is told.
    ///
    /// # Errors
    /// Which flag, variable or file is wrong, and how to write it.
    pub fn read(flags: Flags, mut machine: Machine<'_>) -> Result<Self, SettingsError> {
        let annotations = metadata::read_pairs((machine.read)(Path::new(ANNOTATIONS_FILE)));
        let told = proxy_config(&flags, &machine, &annotations)?;
        let proxy: ProxyConfig = serde_json::from_value(told.clone())
            .map_err(|e| SettingsError::new("ProxyConfig", e.to_string()))?;
        // The environment that the mesh gives to all proxies; the pod's own wins.
        for (key, value) in &proxy.proxy_metadata {
            let free = machine.environment.entry(key.clone());
            free.or_insert_with(|| value.clone());
        }
        let labels = metadata::read_pairs((machine.read)(Path::new(LABELS_FILE)));
        let told = metadata::Told {
            flags: &flags,
            proxy: &proxy,
            proxy_config: told,
            labels,
            annotations,
        };
        let node = metadata::build_node(told, &machine)?;
        let environment = Environment(&machine.environment);
        let is_ipv6 = node.ip.split(',').all(|ip| ip.contains(':'));
        let file = |name: &str, other: &str| PathBuf::from(environment.text(name).unwrap_or(other));
        Ok(Self {
            authority: authority(&flags, &environment, &proxy, &node)?,
            discovery_name: environment.text("ISTIOD_SAN").map(ToOwned::to_owned),
            discovery_root_file: root_file(&flags, &environment, "XDS_ROOT_CA"),
            discovery_headers: xds_headers(&machine.environment),
            drain: Drain {
                duration: proxy.termination_drain_duration,
                is_until_idle: environment.truth("EXIT_ON_ZERO_ACTIVE_CONNECTIONS")?,
                minimum: environment
                    .duration("MINIMUM_DRAIN_DURATION")?
                    .unwrap_or(Duration::from_secs(5)),
            },
            dns: dns(
                &environment,
                &node,
                &file("NAVARCH_RESOLV_CONF", "/etc/resolv.conf"),
            )?,
            scrape: scrape(&environment)?,
            app_probes: environment
                .json("ISTIO_KUBE_APP_PROBERS")?
                .unwrap_or_default(),
            envoy_prometheus_port: environment
                .number("ENVOY_PROMETHEUS_PORT")?
                .unwrap_or(15090),
            envoy_status_port: environment.number("ENVOY_STATUS_PORT")?.unwrap_or(15021),
            sds_path: flags.sds_socket.clone(),
            has_envoy: !environment.truth("DISABLE_ENVOY")?,
            is_ipv6,
            node,
            proxy,
            flags,
        })
    }
}

/// `ProxyConfig` from the mesh's file, the injector's variable and the pod's annotation; flags win.
fn proxy_config(
    flags: &Flags,
    machine: &Machine<'_>,
    annotations: &BTreeMap<String, String>,
) -> Result<Value, SettingsError> {
    let file = flags.mesh_config.display().to_string();
    let mesh = (machine.read)(&flags.mesh_config).unwrap_or_default();
    let mut made = if mesh.trim().is_empty() {
        Value::Object(serde_json::Map::new())
    } else {
        proxy_config::default_config(&mesh).map_err(|e| SettingsError::new(file, e))?
    };
    let told = [
        ("PROXY_CONFIG", machine.environment.get("PROXY_CONFIG")),
        (
            PROXY_CONFIG_ANNOTATION,
            annotations.get(PROXY_CONFIG_ANNOTATION),
        ),
    ];
    for (place, text) in told {
        proxy_config::overlay(&mut made, text.map_or("", String::as_str))
            .map_err(|e| SettingsError::new(place, e))?;
    }
    flags.overlay(&mut made);
    Ok(made)
}

fn authority(
    flags: &Flags,
    environment: &Environment<'_>,
    proxy: &ProxyConfig,
    node: &Node,
) -> Result<Authority, SettingsError> {
    let domain = environment.text("TRUST_DOMAIN").unwrap_or("cluster.local");
    let (namespace, account) = (&node.namespace, &node.service_account);
    Ok(Authority {
        address: environment
            .text("CA_ADDR")
            .unwrap_or(&proxy.discovery_address)
            .to_owned(),
        server_name: environment.text("ISTIOD_SAN").map(ToOwned::to_owned),
        root_file: root_file(flags, environment, "CA_ROOT_CA"),
        token_file: flags.token_file.clone(),
        provisioned_dir: environment.text("PROV_CERT").map(PathBuf::from),
        ttl: environment.duration("SECRET_TTL")?.unwrap_or(DEFAULT_TTL),
        renewal_ratio: environment.part("SECRET_GRACE_PERIOD_RATIO", 0.5)?,
        renewal_jitter: environment.part("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.125)?,
        is_p384: environment.text("ECC_CURVE") == Some("P384"),
        spiffe_id: format!("spiffe://{domain}/ns/{namespace}/sa/{account}"),
        cluster_id: node.cluster_id.clone(),
        signer: environment
            .text("ISTIO_META_CERT_SIGNER")
            .unwrap_or_default()
            .to_owned(),
    })
}

fn root_file(flags: &Flags, environment: &Environment<'_>, name: &str) -> PathBuf {
    match environment.text(name) {
        Some("SYSTEM") => SYSTEM_ROOTS.into(),
        Some(path) => path.into(),
        None => match environment.text("PROV_CERT") {
            Some(directory) => Path::new(directory).join("root-cert.pem"),
            None => flags.root_cert_file.clone(),
        },
    }
}

/// Variables `XDS_HEADER_NAME=VALUE`.
fn xds_headers(environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let told = |(key, value): (&String, &String)| {
        let name = key.strip_prefix("XDS_HEADER_")?.to_lowercase();
        Some((name, value.clone()))
    };
    environment.iter().filter_map(told).collect()
}

/// A gateway has no application whose names are to be answered (istio `pkg/istio-agent/agent.go`).
fn dns(
    environment: &Environment<'_>,
    node: &Node,
    resolv_file: &Path,
) -> Result<Option<Dns>, SettingsError> {
    let is_wanted = environment.truth("ISTIO_META_DNS_CAPTURE")?
        || environment.truth("ISTIO_META_ENABLE_DNS_SERVER")?;
    let is_wanted = is_wanted && node.proxy_type == "sidecar";
    Ok(is_wanted.then(|| Dns {
        address: environment
            .text("DNS_PROXY_ADDR")
            .unwrap_or("localhost:15053")
            .to_owned(),
        resolv_file: resolv_file.to_owned(),
        namespace: node.namespace.clone(),
        domain: format!("svc.{}", node.domain_suffix),
        is_parallel: environment.text("DNS_FORWARD_PARALLEL") == Some("true"),
    }))
}

fn scrape(environment: &Environment<'_>) -> Result<Option<Scrape>, SettingsError> {
    let told: Option<Scrape> = environment.json("ISTIO_PROMETHEUS_ANNOTATIONS")?;
    Ok(told.filter(|scrape| scrape.scrape == "true"))
}

/// Variables by what they hold.
struct Environment<'a>(&'a BTreeMap<String, String>);

impl<'a> Environment<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        let value = self.0.get(name)?.as_str();
        (!value.is_empty()).then_some(value)
    }

    fn read<T>(
        &self,
        name: &str,
        form: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let fault = || SettingsError::new(name, format!("must be {form}, not {text:?}"));
        parse(text).map(Some).ok_or_else(fault)
    }

    fn truth(&self, name: &str) -> Result<bool, SettingsError> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "t" => Some(true),
            "false" | "0" | "f" => Some(false),
            _ => None,
        };
        Ok(self.read(name, "true or false", parse)?.unwrap_or(false))
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, SettingsError> {
        self.read(name, "a duration, such as 24h", parse_duration)
    }

    fn number(&self, name: &str) -> Result<Option<u16>, SettingsError> {
        self.read(name, "a port", |text| text.parse().ok())
    }

    /// A number between 0 and 1.
    fn part(&self, name: &str, default: f64) -> Result<f64, SettingsError> {
        let is_part = |number: &f64| (0.0..=1.0).contains(number);
        let parse = |text: &str| text.parse().ok().filter(is_part);
        Ok(self
            .read(name, "a number from 0 to 1", parse)?
            .unwrap_or(default))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SettingsError> {
        self.text(name)
            .map(serde_json::from_str)
            .transpose()
            .map_err(|e| SettingsError::new(name, format!("must be JSON: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use super::{Flags, Machine, Settings, SettingsError};

    fn read(pairs: &[(&str, &str)], words: &[&str]) -> Result<Settings, SettingsError> {
        let mut environment: BTreeMap<String, String> = [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IP", "10.1.1.1"),
            ("SERVICE_ACCOUNT", "web"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        environment.extend(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let files = |path: &Path| match path.to_str() {
            Some("./etc/istio/pod/labels") => Some("app=\"web\"\nversion=\"v1\"\n".to_owned()),
            Some("./etc/istio/pod/annotations") => {
                Some("proxy.istio.io/config=\"drainDuration: 7s\\n\"\n".to_owned())
            }
            _ => None,
        };
        let machine = Machine {
            environment,
            read: &files,
            hostname: "host".into(),
            ip: None,
        };
        Settings::read(Flags::parse(words.iter().map(Into::into)).unwrap(), machine)
    }

    #[test]
    fn a_pod_tells_who_it_is_as_istios_injector_writes_it() {
        let told = [
            ("ISTIO_META_CLUSTER_ID", "east"),
            ("ISTIO_META_DNS_CAPTURE", "true"),
            ("ISTIO_METAJSON_POD_PORTS", r#"[{"containerPort":8080}]"#),
            ("TRUST_DOMAIN", "mesh.example"),
            (
                "PROXY_CONFIG",
                r#"{"discoveryAddress":"navarch.mesh.svc:15012"}"#,
            ),
        ];
        let made = read(
            &told,
            &["proxy", "sidecar", "--domain", "shop.svc.mesh.local"],
        )
        .unwrap();
        assert_eq!(made.node.cluster_id, "east");
        assert_eq!(made.node.labels["app"], "web");
        assert_eq!(made.node.domain_suffix, "mesh.local");
        assert_eq!(made.node.metadata["WORKLOAD_CERTIFICATE"], true);
        assert_eq!(made.node.metadata["POD_PORTS"][0]["containerPort"], 8080);
        assert_eq!(
            made.authority.spiffe_id,
            "spiffe://mesh.example/ns/shop/sa/web"
        );
        assert_eq!(made.authority.address, "navarch.mesh.svc:15012");
        assert_eq!(made.proxy.drain_duration, Duration::from_secs(7));
        assert_eq!(made.dns.unwrap().domain, "svc.mesh.local");
    }

    #[test]
    fn a_gateway_serves_no_names() {
        let told = [("ISTIO_META_DNS_CAPTURE", "true")];
        assert!(read(&told, &["proxy", "router"]).unwrap().dns.is_none());
    }

    #[test]
    fn the_authority_may_be_elsewhere_and_a_machine_provisioned() {
        let told = [
            ("CA_ADDR", "ca:15012"),
            ("PROV_CERT", "/etc/certs"),
            ("SECRET_TTL", "30s"),
            ("ISTIOD_SAN", "istiod.istio-system.svc"),
        ];
        let made = read(&told, &[]).unwrap().authority;
        assert_eq!(made.address, "ca:15012");
        assert_eq!(made.root_file, Path::new("/etc/certs/root-cert.pem"));
        assert_eq!(made.ttl, Duration::from_secs(30));
        assert_eq!(made.server_name.as_deref(), Some("istiod.istio-system.svc"));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (name, value) in [
            ("SECRET_TTL", "soon"),
            ("SECRET_GRACE_PERIOD_RATIO", "2"),
            ("ISTIO_META_DNS_CAPTURE", "perhaps"),
            ("ISTIO_KUBE_APP_PROBERS", "{"),
            ("PROXY_CONFIG", "- a"),
            ("ISTIO_METAJSON_LABELS", "x"),
        ] {
            let error = read(&[(name, value)], &[]).unwrap_err();
            assert!(error.place.contains(name), "{error}");
        }
    }
}
