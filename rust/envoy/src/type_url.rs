//! The resource types of the discovery services.

use std::fmt;

/// A resource type, in the order in which a push sends them (make before break):
/// clusters and endpoints before the listeners and routes that name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypeUrl {
    /// Clusters (CDS).
    Cluster,
    /// Endpoints, `ClusterLoadAssignment` (EDS).
    Endpoint,
    /// Listeners (LDS).
    Listener,
    /// Route configurations (RDS).
    Route,
    /// Virtual hosts of route configurations in pieces (VHDS).
    VirtualHost,
    /// The name table of Istio's agent (NDS), one resource.
    NameTable,
    /// Extension configurations, `TypedExtensionConfig` (ECDS).
    ExtensionConfig,
    /// Secrets (SDS).
    Secret,
}

impl TypeUrl {
    /// Every type, in push order.
    pub const ALL: [Self; 8] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
        Self::NameTable,
        Self::ExtensionConfig,
        Self::Secret,
    ];

    /// How many types there are; [`Self::index`] is below it.
    pub const COUNT: usize = Self::ALL.len();

    /// The type URL on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
            Self::ExtensionConfig => {
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
            }
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The short name as in Istio's metrics and status: `cds`, `eds`, …
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::VirtualHost => "vhds",
            Self::NameTable => "nds",
            Self::ExtensionConfig => "ecds",
            Self::Secret => "sds",
        }
    }

    /// The place in [`Self::ALL`], for tables by type.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The type of a URL on the wire, if it is one that we know.
    pub fn find(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == url)
    }

    /// Whether a subscription without names means "all" (the legacy wildcard).
    ///
    /// The protocol has that form for CDS and LDS only; Istio's agent asks NDS the same way.
    pub const fn has_legacy_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::NameTable)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use prost::Name;

    use super::TypeUrl;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::core::v3::TypedExtensionConfig;
    use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use crate::envoy::config::listener::v3::Listener;
    use crate::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
    use crate::envoy::extensions::transport_sockets::tls::v3::Secret;
    use crate::istio::networking::nds::v1::NameTable;

    #[test]
    fn urls_are_those_of_the_generated_types() {
        let generated = [
            Cluster::type_url(),
            ClusterLoadAssignment::type_url(),
            Listener::type_url(),
            RouteConfiguration::type_url(),
            VirtualHost::type_url(),
            NameTable::type_url(),
            TypedExtensionConfig::type_url(),
            Secret::type_url(),
        ];
        for (i, t) in TypeUrl::ALL.into_iter().enumerate() {
            assert_eq!(t.as_str(), generated[i]);
            assert_eq!(t.index(), i);
            assert_eq!(TypeUrl::find(&generated[i]), Some(t));
        }
        assert_eq!(TypeUrl::find("type.googleapis.com/unknown"), None);
    }
}
