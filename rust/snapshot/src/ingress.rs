//! Kubernetes Ingress to the mesh's own Gateways and VirtualServices.

use navarch_model::{Ingress, IngressClass};

use crate::registry::ByName;

/// Ingresses and their classes as they stand.
#[derive(Debug, Default)]
pub(crate) struct IngressObjects {
    pub(crate) ingresses: ByName<Ingress>,
    pub(crate) classes: ByName<IngressClass>,
}
