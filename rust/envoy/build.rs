//! Generate Rust types and field numbers from the committed descriptors (`descriptors/envoy.binpb`).

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script by the environment where to write"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=descriptors/envoy.binpb");
    let set = FileDescriptorSet::decode(std::fs::read("descriptors/envoy.binpb")?.as_slice())?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("_fields.rs"), field_numbers(&set)?)?;
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

/// Modules as prost names them, packages and messages alike, with the numbers of fields.
#[derive(Default)]
struct Module {
    children: BTreeMap<String, Self>,
    /// Of a message only.
    fields: Option<Fields>,
}

struct Fields {
    numbers: Vec<(String, i32)>,
    /// Members of `oneof`s, and the smallest number of each: there prost writes whichever is set.
    oneofs: Vec<(i32, i32)>,
}

impl Module {
    fn add(&mut self, message: &DescriptorProto) {
        let child = self.children.entry(snake_case(message.name())).or_default();
        child.fields = Some(Fields::of(message));
        for nested in &message.nested_type {
            child.add(nested);
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if let Some(fields) = &self.fields {
            for (name, number) in &fields.numbers {
                writeln!(out, "pub const {name}: u32 = {number};")?;
            }
            let oneofs = &fields.oneofs;
            writeln!(out, "pub const ONEOFS: &[(u32, u32)] = &{oneofs:?};")?;
        }
        for (name, child) in &self.children {
            writeln!(out, "pub mod r#{name} {{")?;
            child.write(out)?;
            writeln!(out, "}}")?;
        }
        Ok(())
    }
}

impl Fields {
    fn of(message: &DescriptorProto) -> Self {
        let numbers = message.field.iter();
        let numbers = numbers.map(|f| (f.name().to_uppercase(), f.number()));
        let mut oneofs = Vec::new();
        for i in 0..message.oneof_decl.len() {
            let is_member = |f: &&FieldDescriptorProto| {
                f.oneof_index.is_some_and(|of| usize::try_from(of) == Ok(i)) && !f.proto3_optional()
            };
            let members: Vec<i32> = message
                .field
                .iter()
                .filter(is_member)
                .map(FieldDescriptorProto::number)
                .collect();
            let smallest = members.iter().copied().min().unwrap_or_default();
            oneofs.extend(members.iter().map(|member| (*member, smallest)));
        }
        Self {
            numbers: numbers.collect(),
            oneofs,
        }
    }
}

fn field_numbers(set: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let mut root = Module::default();
    for file in &set.file {
        let package = file.package().split('.');
        let module = package.fold(&mut root, |module, part| {
            module.children.entry(part.to_owned()).or_default()
        });
        for message in &file.message_type {
            module.add(message);
        }
    }
    let mut out = String::new();
    root.write(&mut out)?;
    Ok(out)
}

/// `EdsClusterConfig` as `eds_cluster_config`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
