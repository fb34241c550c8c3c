//! Compiles the .proto files with protox, a compiler in Rust: no `protoc` is needed.

const FILES: [&str; 7] = [
    "attribute.proto",
    "base.proto",
    "driver.proto",
    "hcl_spec.proto",
    "plugin.proto",
    "recoverable_error.proto",
    "status.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
