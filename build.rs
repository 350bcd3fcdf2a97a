//! Compiles the protocols with a pure-Rust protobuf compiler: no `protoc` needed.

const PROTOCOLS: [&str; 4] = [
    "proto/p2pd.proto",
    "proto/kad.proto",
    "proto/pubsub.proto",
    "proto/circuit.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for protocol in PROTOCOLS {
        println!("cargo:rerun-if-changed={protocol}");
    }
    let descriptors = protox::compile(PROTOCOLS, ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
