//! Names of clusters, as Istio writes and reads them; format and parse stand side by side.

use std::borrow::Cow;

use navarch_model::{Registry, Service, ServicePort};

/// The cluster of connections that go nowhere.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// The cluster of connections to unknown destinations.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// The cluster of inbound connections to ports without a service.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The cluster of HTTP requests to unknown hosts that are resolved by name.
pub const ALLOW_ANY_DYNAMIC_DNS_CLUSTER: &str = "AllowAnyDynamicDNSCluster";
/// The DNS cache of [`ALLOW_ANY_DYNAMIC_DNS_CLUSTER`], shared with the filter that fills it.
pub const ALLOW_ANY_DNS_CACHE: &str = "allow_any_dfp_dns_cache";

/// The name of a cluster of a service port, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterName<'a> {
    /// `outbound|port|subset|host`; the subset is "" for the whole service.
    Outbound {
        /// The service port's number.
        port: u32,
        /// A subset of the host's DestinationRule, or "".
        subset: &'a str,
        /// The service's host.
        host: &'a str,
    },
    /// `inbound|port||`: the workload's port.
    Inbound {
        /// The workload's (or Sidecar ingress listener's) port.
        port: u32,
    },
    /// `outbound_.port_.subset_.host`: the cluster behind an `AUTO_PASSTHROUGH` gateway, named as its SNI.
    SniDnat {
        /// The service port's number.
        port: u32,
        /// A subset of the host's DestinationRule, or "".
        subset: &'a str,
        /// The service's host.
        host: &'a str,
    },
}

impl<'a> ClusterName<'a> {
    /// Read a cluster's name; `None` for the fixed names and everything foreign.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (separator, rest) = if let Some(rest) = name.strip_prefix("outbound_.") {
            ("_.", rest)
        } else {
            ("|", name.split_once('|')?.1)
        };
        let mut parts = rest.splitn(3, separator);
        let port = parts.next()?.parse().ok()?;
        let (subset, host) = (parts.next()?, parts.next()?);
        if separator == "_." {
            return Some(Self::SniDnat { port, subset, host });
        }
        match name.split('|').next()? {
            "outbound" => Some(Self::Outbound { port, subset, host }),
            "inbound" => Some(Self::Inbound { port }),
            _ => None,
        }
    }
}

impl std::fmt::Display for ClusterName<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outbound { port, subset, host } => write!(f, "outbound|{port}|{subset}|{host}"),
            Self::Inbound { port } => write!(f, "inbound|{port}||"),
            Self::SniDnat { port, subset, host } => {
                write!(f, "outbound_.{port}_.{subset}_.{host}")
            }
        }
    }
}

/// `outbound|port|subset|host`.
pub fn outbound_cluster(port: u32, subset: &str, host: &str) -> String {
    ClusterName::Outbound { port, subset, host }.to_string()
}

/// `inbound|port||`.
pub fn inbound_cluster(port: u32) -> String {
    ClusterName::Inbound { port }.to_string()
}

/// `outbound_.port_.subset_.host`, also the SNI of mutual TLS to a service port.
pub fn sni_dnat_cluster(port: u32, subset: &str, host: &str) -> String {
    ClusterName::SniDnat { port, subset, host }.to_string()
}

/// The DNS cache of a service whose hosts are resolved by the name in each request.
pub fn dns_cache(host: &str) -> String {
    format!("{host}_dfp_dns_cache")
}

/// A statistics prefix, closed by the delimiter by which Istio's tag extraction finds its end.
pub fn delimited_stat_name(name: &str) -> String {
    if name.is_empty() || name.ends_with(';') {
        return name.to_owned();
    }
    format!("{name};")
}

/// Fill in a pattern of `outboundClusterStatName` and its kin (istio pilot/pkg/networking/telemetry/telemetry.go
/// `BuildStatPrefix`); outbound clusters have the target port 0.
pub fn stat_name(
    pattern: &str,
    service: &Service,
    port: &ServicePort,
    subset: &str,
    target_port: u32,
) -> String {
    let host = service.hostname.as_str();
    let is_kubernetes = service.registry == Registry::Kubernetes;
    let (short, name): (Cow<'_, str>, &str) = if is_kubernetes {
        let short = format!("{}.{}", service.name, service.namespace);
        (short.into(), &service.name)
    } else {
        (host.into(), host)
    };
    pattern
        .replace("%SERVICE%", &short)
        .replace("%SERVICE_NAME%", name)
        .replace("%SERVICE_FQDN%", host)
        .replace("%SUBSET_NAME%", subset)
        .replace("%TARGET_PORT%", &target_port.to_string())
        .replace("%SERVICE_PORT%", &port.number.to_string())
        .replace("%SERVICE_PORT_NAME%", &port.name)
}

#[cfg(test)]
mod tests {
    use super::{ClusterName, delimited_stat_name};

    #[test]
    fn a_name_that_was_written_is_read_back() {
        for name in [
            ClusterName::Outbound {
                port: 80,
                subset: "",
                host: "a.b.svc.cluster.local",
            },
            ClusterName::Outbound {
                port: 80,
                subset: "v1",
                host: "*.example.com",
            },
            ClusterName::Inbound { port: 8080 },
            ClusterName::SniDnat {
                port: 443,
                subset: "",
                host: "a.b",
            },
            ClusterName::SniDnat {
                port: 443,
                subset: "v1",
                host: "a.b",
            },
        ] {
            assert_eq!(ClusterName::parse(&name.to_string()), Some(name));
        }
    }

    #[test]
    fn names_that_are_not_ours_are_none() {
        for name in [
            "BlackHoleCluster",
            "",
            "outbound|x||a",
            "outbound|80|a",
            "other|80||a",
        ] {
            assert_eq!(ClusterName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn stat_names_are_closed_once() {
        assert_eq!(delimited_stat_name("a"), "a;");
        assert_eq!(delimited_stat_name("a;"), "a;");
        assert_eq!(delimited_stat_name(""), "");
    }
}
