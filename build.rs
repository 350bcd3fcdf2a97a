//! Compiles the control protocol with a pure-Rust protobuf compiler: no `protoc` needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/p2pd.proto");
    let descriptors = protox::compile(["proto/p2pd.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
