//! The command line: `navarch-agent [proxy] [sidecar|router] [FLAGS]`, with the flags of Istio's agent.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::Value;

use super::{ROOT_FILE, SDS_SOCKET, TOKEN_FILE};

/// What happens when Envoy ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The agent ends too, with Envoy's exit code: whoever started it decides.
    Never,
    /// Envoy is started again after a growing pause, unless it ended with 0.
    OnFailure,
}

/// The command line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// `sidecar` or `router`.
    pub proxy_type: String,
    /// The DNS domain of the proxy, such as `shop.svc.cluster.local`; "" if it follows from the namespace.
    pub domain: String,
    /// Envoy's log level.
    pub proxy_log_level: String,
    /// Levels of Envoy's components, `misc:error,http:debug`.
    pub proxy_component_log_level: String,
    /// The agent's own log level.
    pub log_level: tracing::Level,
    /// Envoy's `--service-cluster`.
    pub service_cluster: Option<String>,
    /// How many worker threads Envoy has; by `ProxyConfig` if `None`.
    pub concurrency: Option<u32>,
    /// File of the mesh's configuration.
    pub mesh_config: PathBuf,
    /// The token for the control plane.
    pub token_file: PathBuf,
    /// Roots by which the control plane is known.
    pub root_cert_file: PathBuf,
    /// The socket of the secret service.
    pub sds_socket: PathBuf,
    /// What happens when Envoy ends by itself.
    pub restart_policy: RestartPolicy,
}

fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn path(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    flag(name, "FILE", help)
        .default_value(default)
        .value_parser(value_parser!(PathBuf))
}

/// The command as clap describes it.
fn command() -> Command {
    Command::new("navarch-agent")
        .about("The agent beside Envoy: certificate, secrets, bootstrap, ADS relay, readiness, metrics, DNS.")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(
            Arg::new("words")
                .value_name("[proxy] sidecar|router")
                .num_args(0..=2)
                .value_parser(["proxy", "sidecar", "router"])
                .help("What the proxy is; a sidecar if left out"),
        )
        .arg(flag("domain", "DOMAIN", "DNS domain of the proxy [NAMESPACE.svc.cluster.local]"))
        .arg(flag("proxyLogLevel", "LEVEL", "Envoy's log level").default_value("warning"))
        .arg(
            flag("proxyComponentLogLevel", "LEVELS", "Levels of Envoy's components")
                .default_value("misc:error"),
        )
        .arg(
            flag("log_output_level", "LEVEL", "The agent's own log level: error, warn, info, debug")
                .default_value("info"),
        )
        .arg(flag("serviceCluster", "NAME", "Envoy's --service-cluster"))
        .arg(flag("concurrency", "N", "Worker threads of Envoy").value_parser(value_parser!(u32)))
        .arg(path("meshConfig", "./etc/istio/config/mesh", "The mesh's configuration, for its defaultConfig"))
        .arg(path("token-file", TOKEN_FILE, "The token that the control plane knows the workload by"))
        .arg(path("root-cert-file", ROOT_FILE, "Roots by which the control plane is known"))
        .arg(path("sds-socket", SDS_SOCKET, "Where Envoy finds its secrets"))
        .arg(
            flag("restart-policy", "POLICY", "Whether Envoy is started again when it fails")
                .value_parser(["never", "on-failure"])
                .default_value("never"),
        )
}

impl Flags {
    /// Read the words after the program's name.
    ///
    /// # Errors
    /// Clap's words on what is wrong, or the help that was asked for.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let name = std::iter::once(OsString::from("navarch-agent"));
        Ok(Self::from_matches(
            &command().try_get_matches_from(name.chain(words))?,
        ))
    }

    fn from_matches(found: &ArgMatches) -> Self {
        let text = |name: &str| found.get_one::<String>(name).cloned();
        let file = |name: &str| found.get_one::<PathBuf>(name).cloned().unwrap_or_default();
        let mut words = found.get_many::<String>("words").into_iter().flatten();
        let is_restarted = text("restart-policy").as_deref() == Some("on-failure");
        Self {
            proxy_type: words
                .rfind(|word| *word != "proxy")
                .map_or_else(|| "sidecar".to_owned(), Clone::clone),
            domain: text("domain").unwrap_or_default(),
            proxy_log_level: text("proxyLogLevel").unwrap_or_default(),
            proxy_component_log_level: text("proxyComponentLogLevel").unwrap_or_default(),
            log_level: log_level(&text("log_output_level").unwrap_or_default()),
            service_cluster: text("serviceCluster"),
            concurrency: found.get_one("concurrency").copied(),
            mesh_config: file("meshConfig"),
            token_file: file("token-file"),
            root_cert_file: file("root-cert-file"),
            sds_socket: file("sds-socket"),
            restart_policy: if is_restarted {
                RestartPolicy::OnFailure
            } else {
                RestartPolicy::Never
            },
        }
    }

    /// What flags say of `ProxyConfig`.
    pub(super) fn overlay(&self, proxy: &mut Value) {
        if let Some(cluster) = &self.service_cluster {
            proxy["serviceCluster"] = cluster.as_str().into();
        }
        if let Some(concurrency) = self.concurrency {
            proxy["concurrency"] = concurrency.into();
        }
    }
}

/// Istio's form, `default:info,xdsproxy:debug`: the first level that is one counts.
fn log_level(text: &str) -> tracing::Level {
    let level = |part: &str| {
        let name = part.rsplit(':').next().unwrap_or(part);
        let name = if name == "warning" { "warn" } else { name };
        name.parse().ok()
    };
    text.split(',')
        .find_map(level)
        .unwrap_or(tracing::Level::INFO)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Flags, RestartPolicy};

    fn parse(words: &[&str]) -> Result<Flags, clap::Error> {
        Flags::parse(words.iter().map(Into::into))
    }

    #[test]
    fn istios_command_line_is_taken() {
        let made = parse(&[
            "proxy",
            "router",
            "--domain",
            "a.svc.cluster.local",
            "--proxyLogLevel=info",
            "--proxyComponentLogLevel=misc:error",
            "--log_output_level=default:debug",
            "--concurrency",
            "2",
        ])
        .unwrap();
        assert_eq!(made.proxy_type, "router");
        assert_eq!(made.concurrency, Some(2));
        assert_eq!(made.log_level, tracing::Level::DEBUG);
        assert_eq!(made.restart_policy, RestartPolicy::Never);
    }

    #[test]
    fn without_words_it_is_a_sidecar_with_istios_paths() {
        let made = parse(&[]).unwrap();
        assert_eq!(made.proxy_type, "sidecar");
        assert_eq!(
            made.token_file,
            Path::new("/var/run/secrets/tokens/istio-token")
        );
        assert!(parse(&["gateway"]).is_err());
        assert!(parse(&["--restart-policy", "often"]).is_err());
    }
}
