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

/// A number in decimal digits, without an allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    /// The digits of a number.
    pub(crate) fn new(mut value: u32) -> Self {
        let mut digits = [b'0'; 10];
        let mut start = digits.len() - 1;
        loop {
            // A remainder of ten is one digit.
            digits[start] = b'0' + u8::try_from(value % 10).unwrap_or_default();
            value /= 10;
            if value == 0 {
                return Self { digits, start };
            }
            start -= 1;
        }
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

/// `outbound|port|subset|host`.
pub fn outbound_cluster(port: u32, subset: &str, host: &str) -> String {
    outbound_parts(Decimal::new(port).as_str(), subset, host).concat()
}

/// What [`outbound_cluster`] is made of, of a port in digits.
pub(crate) const fn outbound_parts<'a>(
    port: &'a str,
    subset: &'a str,
    host: &'a str,
) -> [&'a str; 6] {
    ["outbound|", port, "|", subset, "|", host]
}

/// `inbound|port||`.
pub fn inbound_cluster(port: u32) -> String {
    ["inbound|", Decimal::new(port).as_str(), "||"].concat()
}

/// `outbound_.port_.subset_.host`, also the SNI of mutual TLS to a service port.
pub fn sni_dnat_cluster(port: u32, subset: &str, host: &str) -> String {
    sni_dnat_parts(Decimal::new(port).as_str(), subset, host).concat()
}

/// What [`sni_dnat_cluster`] is made of, of a port in digits.
pub(crate) const fn sni_dnat_parts<'a>(
    port: &'a str,
    subset: &'a str,
    host: &'a str,
) -> [&'a str; 6] {
    ["outbound_.", port, "_.", subset, "_.", host]
}

/// The DNS cache of a service whose hosts are resolved by the name in each request.
pub fn dns_cache(host: &str) -> String {
    format!("{host}_dfp_dns_cache")
}

/// The delimiter by which Istio's tag extraction finds the end of a statistics prefix.
pub(crate) const STAT_NAME_END: &str = ";";

/// A statistics prefix, closed by its delimiter.
pub fn delimited_stat_name(name: &str) -> String {
    if name.is_empty() || name.ends_with(STAT_NAME_END) {
        return name.to_owned();
    }
    [name, STAT_NAME_END].concat()
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
    use super::{
        ClusterName, delimited_stat_name, inbound_cluster, outbound_cluster, sni_dnat_cluster,
    };

    #[test]
    fn a_name_that_was_written_is_read_back() {
        let host = "a.b.svc.cluster.local";
        for port in [0, 7, 80, 15_021, u32::MAX] {
            for subset in ["", "v1"] {
                assert_eq!(
                    ClusterName::parse(&outbound_cluster(port, subset, host)),
                    Some(ClusterName::Outbound { port, subset, host })
                );
                assert_eq!(
                    ClusterName::parse(&sni_dnat_cluster(port, subset, "*.b")),
                    Some(ClusterName::SniDnat {
                        port,
                        subset,
                        host: "*.b"
                    })
                );
            }
            assert_eq!(
                ClusterName::parse(&inbound_cluster(port)),
                Some(ClusterName::Inbound { port })
            );
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
