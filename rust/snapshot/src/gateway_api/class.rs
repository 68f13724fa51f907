//! GatewayClasses: who handles a Gateway, and what that handler does.
//!
//! Source: istio `pilot/pkg/config/kube/gatewaycommon/classinfo.go`.

use std::collections::BTreeMap;

use navarch_model::gateway_api::GatewayClass;
use navarch_model::{ConfigKey, Kind};

use super::condition::{Condition, Reason};
use super::status::{ObjectStatus, StatusContent};
use crate::registry::ByName;

/// The name under which status is written for Gateways and routes.
pub(super) const GATEWAY_CONTROLLER: &str = "istio.io/gateway-controller";
/// The name under which status is written for Services as targets.
pub(super) const MESH_CONTROLLER: &str = "istio.io/mesh-controller";

/// A handler of Gateways that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// Gateways at the edge.
    Gateway,
    /// Gateways that another mesh runs.
    Unmanaged,
    /// Waypoints.
    Mesh,
    /// Gateways between networks.
    EastWest,
}

impl Controller {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            GATEWAY_CONTROLLER => Self::Gateway,
            "istio.io/unmanaged-gateway" => Self::Unmanaged,
            MESH_CONTROLLER => Self::Mesh,
            "istio.io/eastwest-controller" => Self::EastWest,
            _ => return None,
        })
    }

    /// Whether the Service of a managed Gateway has the class in its name.
    pub(super) const fn has_class_suffix(self) -> bool {
        matches!(self, Self::Gateway | Self::Unmanaged)
    }

    /// Whether ListenerSets may add listeners.
    pub(super) const fn has_listener_sets(self) -> bool {
        matches!(self, Self::Gateway)
    }

    /// Whether a listener on the port is served by routes; others carry the mesh's own tunnels.
    pub(super) const fn is_routed(self, port: u32) -> bool {
        match self {
            Self::Gateway => true,
            Self::EastWest => port != 15008,
            Self::Unmanaged | Self::Mesh => false,
        }
    }
}

/// The classes in force.
#[derive(Debug)]
pub(super) struct Classes<'a> {
    by_name: BTreeMap<&'a str, Option<Controller>>,
}

impl<'a> Classes<'a> {
    pub(super) fn new(objects: &'a ByName<GatewayClass>) -> Self {
        // Istio's own exist before anybody writes them, and may be written to mean another handler.
        let mut by_name = BTreeMap::from([
            ("istio", Some(Controller::Gateway)),
            ("istio-remote", Some(Controller::Unmanaged)),
            ("istio-waypoint", Some(Controller::Mesh)),
            ("istio-east-west", Some(Controller::EastWest)),
        ]);
        for object in objects.values() {
            let controller = Controller::from_name(&object.spec.controller_name);
            by_name.insert(&object.metadata.name, controller);
        }
        Self { by_name }
    }

    /// Who handles a class; `None` for classes of others and unknown ones.
    pub(super) fn controller_of(&self, class: &str) -> Option<Controller> {
        self.by_name.get(class).copied().flatten()
    }
}

/// The status of the classes that were written and are ours.
pub(super) fn class_statuses(objects: &ByName<GatewayClass>) -> Vec<ObjectStatus> {
    objects
        .values()
        .filter(|object| Controller::from_name(&object.spec.controller_name).is_some())
        .map(|object| ObjectStatus {
            key: ConfigKey::new(Kind::GatewayClass, "", &object.metadata.name),
            content: StatusContent::Class {
                conditions: vec![Condition::positive(
                    "Accepted",
                    (Reason::Accepted, "Handled by Istio controller"),
                    None,
                )],
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use navarch_model::Shared;
    use navarch_model::gateway_api::GatewayClass;

    use super::{Classes, Controller, class_statuses};
    use crate::registry::ByName;

    #[test]
    fn own_classes_exist_unless_they_are_written_otherwise() {
        let mut foreign = GatewayClass::default();
        foreign.metadata.name = "istio".to_owned();
        foreign.spec.controller_name = "example.com/other".to_owned();
        let none = ByName::default();
        assert_eq!(
            Classes::new(&none).controller_of("istio"),
            Some(Controller::Gateway)
        );
        assert_eq!(Classes::new(&none).controller_of("other"), None);
        let objects = ByName::from([((Arc::from(""), Arc::from("istio")), Shared::new(foreign))]);
        let classes = Classes::new(&objects);
        assert_eq!(classes.controller_of("istio"), None);
        assert!(class_statuses(&objects).is_empty());
    }
}
