//! Statuses as JSON, in the form that the objects' `status` has.
//!
//! What only the writer can know is left to it: `observedGeneration`, `lastTransitionTime`, other controllers' entries.

use navarch_model::gateway_api::ParentReference;
use navarch_snapshot::{Condition, ObjectStatus, ReportedHealth, StatusAddress, StatusContent};
use serde_json::{Map, Value, json};

const GROUP: &str = "gateway.networking.k8s.io";
/// As it stands in GatewayClasses (istio `pkg/config/constants`).
const CONTROLLER: &str = "istio.io/gateway-controller";

/// A JSON list of `{"kind", "namespace", "name", "status"}`.
pub(crate) fn to_json(statuses: &[ObjectStatus]) -> String {
    let rows = statuses.iter().map(|status| {
        json!({
            "kind": status.key.kind.as_str(),
            "namespace": &*status.key.namespace,
            "name": &*status.key.name,
            "status": content(&status.content),
        })
    });
    Value::Array(rows.collect()).to_string()
}

/// The same of what workloads say of their health (istio `pilot/pkg/autoregistration/internal/health`).
pub(crate) fn health_to_json(reported: &[ReportedHealth]) -> String {
    let rows = reported.iter().map(|ReportedHealth { key, health }| {
        let condition = json!({
            "type": "Healthy",
            "status": if health.is_ok() { "True" } else { "False" },
            "message": health.as_ref().err().map_or("", |fault| fault),
        });
        json!({
            "kind": key.kind.as_str(),
            "namespace": &*key.namespace,
            "name": &*key.name,
            "status": { "conditions": [condition] },
        })
    });
    Value::Array(rows.collect()).to_string()
}

fn content(content: &StatusContent) -> Value {
    match content {
        StatusContent::Class { conditions: all } => json!({ "conditions": conditions(all) }),
        StatusContent::Listeners {
            conditions: all,
            addresses,
            listeners,
        } => {
            let listeners = listeners.iter().map(|listener| {
                let kinds = listener.supported_kinds.iter();
                let kinds = kinds.map(|kind| json!({ "group": GROUP, "kind": kind }));
                json!({
                    "name": listener.name,
                    "supportedKinds": kinds.collect::<Vec<_>>(),
                    "attachedRoutes": listener.attached_routes,
                    "conditions": conditions(&listener.conditions),
                })
            });
            let mut made = json!({
                "conditions": conditions(all),
                "listeners": listeners.collect::<Vec<_>>(),
            });
            if !addresses.is_empty() {
                made["addresses"] = addresses.iter().map(typed_address).collect();
            }
            made
        }
        StatusContent::Route { parents } => {
            let parents = parents.iter().map(|parent| {
                json!({
                    "parentRef": reference(&parent.parent),
                    "controllerName": CONTROLLER,
                    "conditions": conditions(&parent.conditions),
                })
            });
            json!({ "parents": parents.collect::<Vec<_>>() })
        }
        StatusContent::Ingress { addresses } => {
            let ingress = addresses.iter().map(|address| {
                let field = if address.is_ip { "ip" } else { "hostname" };
                json!({ field: address.value })
            });
            json!({ "loadBalancer": { "ingress": ingress.collect::<Vec<_>>() } })
        }
        StatusContent::Policy { ancestors } => {
            let ancestors = ancestors.iter().map(|ancestor| {
                json!({
                    "ancestorRef": reference(&ancestor.ancestor),
                    "controllerName": ancestor.controller,
                    "conditions": conditions(&ancestor.conditions),
                })
            });
            json!({ "ancestors": ancestors.collect::<Vec<_>>() })
        }
    }
}

fn conditions(all: &[Condition]) -> Vec<Value> {
    let rows = all.iter().map(|condition| {
        json!({
            "type": condition.condition_type,
            "status": if condition.is_true { "True" } else { "False" },
            "reason": condition.reason.as_str(),
            "message": condition.message,
        })
    });
    rows.collect()
}

fn typed_address(address: &StatusAddress) -> Value {
    let kind = if address.is_ip {
        "IPAddress"
    } else {
        "Hostname"
    };
    json!({ "type": kind, "value": address.value })
}

/// As the object has it: what it leaves out is left out.
fn reference(parent: &ParentReference) -> Value {
    let mut made = Map::new();
    let mut put = |name: &str, value: Option<&String>| {
        if let Some(value) = value {
            made.insert(name.to_owned(), json!(value));
        }
    };
    put("group", parent.group.as_ref());
    put("kind", parent.kind.as_ref());
    put("namespace", parent.namespace.as_ref());
    put("name", Some(&parent.name));
    put("sectionName", parent.section_name.as_ref());
    if let Some(port) = parent.port {
        made.insert("port".to_owned(), json!(port));
    }
    Value::Object(made)
}
