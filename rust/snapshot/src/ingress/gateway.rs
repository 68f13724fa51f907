//! An Ingress as a Gateway: port 80 for every host, port 443 for each certificate.

use navarch_model::{
    ConfigKey, EntryPort, Gateway, GatewaySpec, Ingress, Kind, Labels, MeshConfig, Metadata,
    Server, ServerTlsMode, ServerTlsSettings,
};

use super::{GATEWAY_NAMESPACE, GENERATED};

pub(super) fn build_gateway(ingress: &Ingress, mesh: &MeshConfig) -> Gateway {
    let metadata = &ingress.metadata;
    let (name, namespace) = (&metadata.name, &metadata.namespace);
    let port = |number: u32, protocol: &str, name: String| EntryPort {
        number,
        protocol: protocol.to_owned(),
        name,
        target_port: 0,
    };
    let tls = ingress.spec.tls.iter().enumerate();
    let mut servers: Vec<Server> = tls
        .filter(|(_, tls)| !tls.secret_name.is_empty())
        .map(|(i, tls)| Server {
            port: port(
                443,
                "HTTPS",
                format!("https-443-ingress-{name}-{namespace}-{i}"),
            ),
            hosts: if tls.hosts.is_empty() {
                vec!["*".to_owned()]
            } else {
                tls.hosts.clone()
            },
            tls: Some(ServerTlsSettings {
                mode: ServerTlsMode::Simple,
                credential_name: tls.secret_name.clone(),
                ..ServerTlsSettings::default()
            }),
            ..Server::default()
        })
        .collect();
    servers.push(Server {
        port: port(80, "HTTP", format!("http-80-ingress-{name}-{namespace}")),
        hosts: vec!["*".to_owned()],
        ..Server::default()
    });
    Gateway {
        metadata: Metadata {
            name: gateway_name(ingress),
            namespace: GATEWAY_NAMESPACE.to_owned(),
            ..Metadata::default()
        },
        spec: GatewaySpec {
            servers,
            selector: selector(mesh),
        },
        services: None,
        sources: vec![ConfigKey::new(Kind::Ingress, namespace, name)],
    }
}

/// The name of an Ingress' Gateway.
pub(super) fn gateway_name(ingress: &Ingress) -> String {
    let metadata = &ingress.metadata;
    format!("{}-{GENERATED}-{}", metadata.name, metadata.namespace)
}

/// Which workloads are the ingress gateway.
fn selector(mesh: &MeshConfig) -> Labels {
    let value = if !mesh.ingress_selector.is_empty() {
        &mesh.ingress_selector
    } else if !matches!(mesh.ingress_service.as_str(), "" | "istio-ingressgateway") {
        &mesh.ingress_service
    } else {
        "ingressgateway"
    };
    Labels::from([("istio".to_owned(), value.to_owned())])
}

#[cfg(test)]
mod tests {
    use navarch_model::{Ingress, IngressTls, MeshConfig};

    use super::{build_gateway, selector};

    #[test]
    fn each_certificate_is_a_server_beside_port_80() {
        let mut ingress = Ingress::default();
        ingress.metadata.name = "shop".to_owned();
        ingress.metadata.namespace = "n".to_owned();
        let tls = |secret: &str, hosts: &[&str]| IngressTls {
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            secret_name: secret.to_owned(),
        };
        ingress.spec.tls = vec![tls("", &["a.com"]), tls("s", &[])];
        let gateway = build_gateway(&ingress, &MeshConfig::default());
        let servers: Vec<_> = gateway
            .spec
            .servers
            .iter()
            .map(|s| (s.port.name.as_str(), s.hosts.join(",")))
            .collect();
        assert_eq!(
            servers,
            [
                ("https-443-ingress-shop-n-1", "*".to_owned()),
                ("http-80-ingress-shop-n", "*".to_owned())
            ]
        );
    }

    #[test]
    fn the_gateway_is_found_by_label() {
        let of = |ingress_selector: &str, ingress_service: &str| {
            let mesh = MeshConfig {
                ingress_selector: ingress_selector.to_owned(),
                ingress_service: ingress_service.to_owned(),
                ..MeshConfig::default()
            };
            selector(&mesh)["istio"].clone()
        };
        assert_eq!(of("edge", "x"), "edge");
        assert_eq!(of("", "x"), "x");
        assert_eq!(of("", "istio-ingressgateway"), "ingressgateway");
    }
}
