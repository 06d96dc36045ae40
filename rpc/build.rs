//! Compiles `proto/` without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set =
        protox::compile(["proto/admin.proto", "proto/coordination.proto", "proto/relay.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(set)?;
    Ok(())
}
