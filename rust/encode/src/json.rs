//! Resources as protobuf JSON, for people and for comparison.

use navarch_envoy::{Any, TypeUrl, json};
use prost::Message;
use serde_json::Value;

use crate::resource::EncodedResource;
use crate::resource_snapshot::ResourceSnapshot;

/// The name under which resources of a type are printed (`clusters`, `endpoints`, …).
pub const fn plural_name(type_url: TypeUrl) -> &'static str {
    match type_url {
        TypeUrl::Cluster => "clusters",
        TypeUrl::Endpoint => "endpoints",
        TypeUrl::Listener => "listeners",
        TypeUrl::Route => "routes",
        TypeUrl::VirtualHost => "virtual_hosts",
        TypeUrl::NameTable => "names",
        TypeUrl::ExtensionConfig => "extensions",
        TypeUrl::Secret => "secrets",
    }
}

/// One resource as protobuf JSON with proto field names, without the type's own `@type`.
pub fn resource_to_json(type_url: TypeUrl, resource: &EncodedResource) -> Value {
    let any = Any::decode(resource.any.clone()).unwrap_or_default();
    json::to_json(type_url.as_str(), &any.value)
}

/// All resources of a type, in the order of their names.
pub fn resources_to_json(snapshot: &ResourceSnapshot, type_url: TypeUrl) -> Vec<Value> {
    let mut resources: Vec<_> = snapshot.resources(type_url).iter().collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    resources
        .into_iter()
        .map(|resource| resource_to_json(type_url, resource))
        .collect()
}
