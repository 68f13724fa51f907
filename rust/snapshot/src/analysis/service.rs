//! Kubernetes Services: ports whose protocol nobody tells.

use navarch_model::{ConfigKey, Kind, Protocol, Registry, Resolution};

use super::Findings;
use crate::MeshSnapshot;

pub(super) fn check(mesh: &MeshSnapshot, told: &mut Findings) {
    let services = mesh.services().iter();
    for service in services.filter(|s| s.registry == Registry::Kubernetes) {
        let key = || ConfigKey::new(Kind::Service, &service.namespace, &service.name);
        for (i, port) in service.ports.iter().enumerate() {
            let number = port.number;
            let path = format!("spec.ports[{i}].name");
            let is_opaque = matches!(port.protocol, Protocol::Tcp | Protocol::Unsupported);
            if service.resolution == Resolution::Alias && is_opaque {
                let message = format!(
                    "port {number} of an ExternalName Service is TCP, so that it takes the connections to every address \
                     on that port; declare HTTP or TLS by appProtocol or the port's name"
                );
                told.warn(key(), "external-name-port-opaque", path, message);
            } else if port.protocol == Protocol::Unsupported {
                let message = format!(
                    "port {number} declares no protocol, which is told from the first bytes of each connection; \
                     set appProtocol, or begin the name with one, as in `http-web`"
                );
                told.info(key(), "undeclared-protocol", path, message);
            }
        }
    }
}
