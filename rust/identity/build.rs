//! Generate the messages, the client and the server of the certificate service from the committed descriptors.

use prost::Message as _;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=descriptors/ca.binpb");
    let set = FileDescriptorSet::decode(std::fs::read("descriptors/ca.binpb")?.as_slice())?;
    tonic_prost_build::configure()
        // Connections are their users' business: TLS, time limits, which address.
        .build_transport(false)
        .include_file("_includes.rs")
        .compile_fds(set)?;
    Ok(())
}
