//! The `istio` metadata of Envoy's objects, by which telemetry and Istio's tools know what they were made from, as bytes.
//!
//! Source: istio pilot/pkg/networking/util/util.go `BuildConfigInfoMetadata`, `AddConfigInfoMetadata`.

use navarch_envoy::field::envoy::config::core::v3::metadata;
use navarch_envoy::field::google::protobuf::{r#struct as fields, value};
use navarch_envoy::wire::Writer;

const ISTIO: &str = "istio";
/// The field numbers of a map's entries.
const KEY: u32 = 1;
const VALUE: u32 = 2;

/// Write the metadata into the field `number`; `write` adds its entries, in the order of their keys.
pub(crate) fn write_metadata(number: u32, out: &mut Writer, write: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.message(metadata::FILTER_METADATA, |entry| {
            entry.text(KEY, &[ISTIO]);
            entry.message(VALUE, write);
        });
    });
}

/// Write metadata that tells one object only.
pub(crate) fn write_config_metadata(
    number: u32,
    kind: &str,
    (namespace, name): (&str, &str),
    out: &mut Writer,
) {
    write_metadata(number, out, |object| {
        write_config(kind, (namespace, name), object);
    });
}

/// Write the entry that tells an object of the networking API.
pub(crate) fn write_config(kind: &str, (namespace, name): (&str, &str), object: &mut Writer) {
    let path = "/apis/networking.istio.io/v1/namespaces/";
    write_text("config", &[path, namespace, "/", kind, "/", name], object);
}

/// Write an entry that is a text made of parts.
pub(crate) fn write_text(key: &str, parts: &[&str], object: &mut Writer) {
    write_entry(key, object, |value| value.text(value::STRING_VALUE, parts));
}

/// Write an entry, a `Value` that `write` writes.
pub(crate) fn write_entry(key: &str, object: &mut Writer, write: impl FnOnce(&mut Writer)) {
    object.message(fields::FIELDS, |entry| {
        entry.text(KEY, &[key]);
        entry.message(VALUE, write);
    });
}
