//! A proxy's resources, decoded when they are asked for.

use navarch_encode::{EncodedResource, Resource, ResourceSnapshot};
use navarch_envoy::envoy::config::cluster::v3::Cluster;
use navarch_envoy::envoy::config::core::v3::{
    Address, TypedExtensionConfig, address, socket_address,
};
use navarch_envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use navarch_envoy::envoy::config::listener::v3::Listener;
use navarch_envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use navarch_envoy::istio::networking::nds::v1::NameTable;
use navarch_envoy::{Any, any};
use prost::Message as _;

/// A view of one proxy's resources.
#[derive(Clone, Copy)]
pub(crate) struct Resources<'a>(pub(crate) &'a ResourceSnapshot);

impl Resources<'_> {
    fn find<M: Resource>(self, name: &str) -> Option<M> {
        self.0
            .resources(M::TYPE)
            .find(name)
            .and_then(|found| decode(found))
    }

    fn all<M: Resource>(self) -> Vec<M> {
        self.0
            .resources(M::TYPE)
            .iter()
            .filter_map(|found| decode(found))
            .collect()
    }

    pub(crate) fn listeners(self) -> Vec<Listener> {
        self.all()
    }

    /// With its virtual hosts, by their plain names, also where they are resources of their own.
    pub(crate) fn route_configuration(self, name: &str) -> Option<RouteConfiguration> {
        let mut routes: RouteConfiguration = self.find(name)?;
        if routes.vhds.is_some() {
            let apart = self.0.resources(VirtualHost::TYPE).iter_under(name);
            let apart = apart.filter_map(|found| decode(found));
            routes
                .virtual_hosts
                .extend(apart.map(|mut host: VirtualHost| {
                    host.name.drain(..=name.len());
                    host
                }));
        }
        Some(routes)
    }

    pub(crate) fn cluster(self, name: &str) -> Option<Cluster> {
        self.find(name)
    }

    pub(crate) fn load_assignment(self, name: &str) -> Option<ClusterLoadAssignment> {
        self.find(name)
    }

    pub(crate) fn extension(self, name: &str) -> Option<TypedExtensionConfig> {
        self.find(name)
    }

    pub(crate) fn name_table(self) -> Option<NameTable> {
        self.all().into_iter().next()
    }
}

fn decode<M: Resource>(resource: &EncodedResource) -> Option<M> {
    let any = Any::decode(resource.any.clone()).ok()?;
    any::unpack(&any)
}

/// The address and port of a socket; `None` for pipes and the like.
pub(crate) fn socket(address: Option<&Address>) -> Option<(&str, u32)> {
    let Some(address::Address::SocketAddress(socket)) = address?.address.as_ref() else {
        return None;
    };
    match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => Some((&socket.address, port)),
        _ => None,
    }
}

/// An address as people write it.
pub(crate) fn written_address(address: Option<&Address>) -> String {
    match address.and_then(|a| a.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => {
            let port = match &socket.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => port.to_string(),
                Some(socket_address::PortSpecifier::NamedPort(name)) => name.clone(),
                None => "0".to_owned(),
            };
            host_port(&socket.address, &port)
        }
        Some(address::Address::Pipe(pipe)) => format!("unix://{}", pipe.path),
        Some(address::Address::EnvoyInternalAddress(_)) => "internal".to_owned(),
        None => "nothing".to_owned(),
    }
}

/// A host and port, IPv6 in brackets.
pub(crate) fn host_port(host: &str, port: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
