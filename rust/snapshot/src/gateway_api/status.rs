//! The status of the API's objects, as values; writing it back is another room's work.

use std::net::IpAddr;

use navarch_model::gateway_api::ParentReference;
use navarch_model::{ConfigKey, Diagnostic, Severity};

use super::condition::Condition;

/// What is to be written into one object's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStatus {
    /// The object.
    pub key: ConfigKey,
    /// Its status.
    pub content: StatusContent,
}

/// Status by the form that the object's kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusContent {
    /// GatewayClass.
    Class {
        /// Of the class.
        conditions: Vec<Condition>,
    },
    /// Gateway and ListenerSet.
    Listeners {
        /// Of the object as a whole.
        conditions: Vec<Condition>,
        /// Where clients find it; empty for ListenerSets.
        addresses: Vec<StatusAddress>,
        /// One for each listener, in order.
        listeners: Vec<ListenerStatus>,
    },
    /// Routes: one entry for each parent that is ours.
    Route {
        /// In the order of the references.
        parents: Vec<ParentStatus>,
    },
    /// Ingress: where clients find it.
    Ingress {
        /// Of the ingress gateway's load balancer.
        addresses: Vec<StatusAddress>,
    },
    /// Policies: one entry for each target, and for each Gateway whose traffic it shapes.
    Policy {
        /// Targets first.
        ancestors: Vec<AncestorStatus>,
    },
}

/// An address of a Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusAddress {
    /// Whether it is an IP address; else a host name.
    pub is_ip: bool,
    /// The address.
    pub value: String,
}

impl StatusAddress {
    pub(crate) fn new(value: String) -> Self {
        Self {
            is_ip: value.parse::<IpAddr>().is_ok(),
            value,
        }
    }
}

/// The status of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    /// The listener.
    pub name: String,
    /// Kinds of routes that may be bound, all of the API's own group.
    pub supported_kinds: Vec<&'static str>,
    /// Routes that are bound.
    pub attached_routes: u32,
    /// Of the listener.
    pub conditions: Vec<Condition>,
}

/// The status of a route for one parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentStatus {
    /// As the route has it.
    pub parent: ParentReference,
    /// Of the binding.
    pub conditions: Vec<Condition>,
}

/// The status of a policy for one target or Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AncestorStatus {
    /// The target or the Gateway.
    pub ancestor: ParentReference,
    /// The controller that speaks.
    pub controller: &'static str,
    /// Of the policy there.
    pub conditions: Vec<Condition>,
}

impl ObjectStatus {
    /// What an operator should do something about, with the place in the object.
    pub(super) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        let mut add = |path: String, conditions: &[Condition]| {
            // Several conditions often tell of one fault.
            let mut last = None;
            for condition in conditions.iter().filter(|c| c.is_fault) {
                if last == Some((condition.reason, &condition.message)) {
                    continue;
                }
                last = Some((condition.reason, &condition.message));
                out.push(Diagnostic {
                    key: self.key.clone(),
                    code: condition.reason.code(),
                    severity: Severity::Error,
                    field_path: path.clone(),
                    message: condition.message.clone(),
                });
            }
        };
        match &self.content {
            StatusContent::Class { conditions } => add(String::new(), conditions),
            StatusContent::Ingress { .. } => {}
            StatusContent::Listeners {
                conditions,
                listeners,
                ..
            } => {
                add(String::new(), conditions);
                for (i, listener) in listeners.iter().enumerate() {
                    add(format!("spec.listeners[{i}]"), &listener.conditions);
                }
            }
            StatusContent::Route { parents } => {
                for parent in parents {
                    add(String::new(), &parent.conditions);
                }
            }
            StatusContent::Policy { ancestors } => {
                for ancestor in ancestors {
                    add(String::new(), &ancestor.conditions);
                }
            }
        }
        out.sort();
        out.dedup();
        out
    }
}
