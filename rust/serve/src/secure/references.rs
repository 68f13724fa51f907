//! Which credentials the Gateways of a proxy name, by the mesh.

use std::collections::BTreeSet;

use navarch_model::{Proxy, ProxyKind};

use super::secret_lane::{CredentialReferences, GatewayReference};
use crate::epoch::MeshEpochs;

impl CredentialReferences for MeshEpochs {
    fn references_of(&self, proxy: &Proxy) -> Vec<GatewayReference> {
        if proxy.kind != ProxyKind::Router {
            return Vec::new();
        }
        let mesh = self.mesh();
        let scope = mesh.scope_of(&mesh.group_of(proxy));
        let mut found = BTreeSet::new();
        for server in scope.gateways.ports.iter().flat_map(|(_, servers)| servers) {
            let Some(tls) = &server.server.tls else {
                continue;
            };
            let namespace = server.gateway.split('/').next().unwrap_or_default();
            let single = [&tls.credential_name, &tls.ca_cert_credential_name];
            for credential in single.into_iter().chain(&tls.credential_names) {
                if !credential.is_empty() {
                    found.insert((namespace.to_owned(), credential.clone()));
                }
            }
        }
        found
            .into_iter()
            .map(|(gateway_namespace, credential)| GatewayReference {
                gateway_namespace,
                credential,
            })
            .collect()
    }
}
