//! What is connected and what it has, as values for people.
//!
//! The forms are Istio's (`/debug/syncz`) and Envoy's (`/config_dump`), as far as tools read them.

use navarch_encode::json::{plural_name, resources_to_json};
use navarch_envoy::TypeUrl;
use serde_json::{Map, Value, json};

use crate::registry::{Connection, Fleet};
use crate::session::{TypeStatus, Variant};

/// Every connected proxy with, for each type it asked for, the versions sent and accepted and the latest rejection.
pub fn sync_status(fleet: &Fleet) -> Value {
    fleet
        .connections()
        .iter()
        .map(|connection| proxy_status(connection))
        .collect()
}

fn proxy_status(connection: &Connection) -> Value {
    let proxy = connection.proxy();
    let types: Map<String, Value> = connection
        .statuses()
        .iter()
        .map(|status| (status.type_url.short_name().to_owned(), type_status(status)))
        .collect();
    json!({
        "proxy": &*proxy.id,
        "namespace": &*proxy.namespace,
        "cluster_id": proxy.metadata.cluster_id,
        "istio_version": proxy.metadata.istio_version,
        "variant": match connection.variant() { Variant::Sotw => "sotw", Variant::Delta => "delta" },
        "connection": connection.id(),
        "types": types,
    })
}

fn type_status(status: &TypeStatus) -> Value {
    let state = match (&status.rejection, status.sent, status.accepted) {
        (Some(_), _, _) => "REJECTED",
        (None, None, _) => "NOT SENT",
        (None, sent, accepted) if sent == accepted => "SYNCED",
        _ => "STALE",
    };
    json!({
        "status": state,
        "sent": status.sent.map(|version| version.to_string()),
        "accepted": status.accepted.map(|version| version.to_string()),
        "rejection": status.rejection.as_ref().map(|rejection| json!({
            "version": rejection.version.to_string(),
            "code": rejection.code,
            "message": rejection.message,
        })),
    })
}

/// The resources that a connected proxy is led to, by type; `None` if no proxy of that id is connected.
///
/// `proxy_id` may be the whole node id, or the part that names the Pod (`name.namespace`), as istioctl sends it.
pub fn config_dump(fleet: &Fleet, proxy_id: &str) -> Option<Value> {
    let connections = fleet.connections();
    let connection = connections.iter().rev().find(|connection| {
        let proxy = connection.proxy();
        &*proxy.id == proxy_id || &*proxy.name == proxy_id
    })?;
    let Some(target) = connection.target() else {
        return Some(json!({ "proxy": &*connection.proxy().id }));
    };
    let mut dump = Map::new();
    dump.insert("proxy".to_owned(), json!(&*connection.proxy().id));
    for type_url in TypeUrl::ALL {
        dump.insert(
            plural_name(type_url).to_owned(),
            resources_to_json(&target, type_url).into(),
        );
    }
    Some(dump.into())
}
