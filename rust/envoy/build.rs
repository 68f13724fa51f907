//! Generate Rust types from the committed descriptors (`descriptors/envoy.binpb`).

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=descriptors/envoy.binpb");
    let set = FileDescriptorSet::decode(std::fs::read("descriptors/envoy.binpb")?.as_slice())?;
    prost_build::Config::new()
        // Maps in key order: equal messages are equal bytes (docs/decisions/003).
        .btree_map(["."])
        // Each message knows its type URL, so that packing an `Any` needs no table.
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .include_file("_includes.rs")
        .compile_fds(set)?;
    Ok(())
}
