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
        // Rare and large: answers of all kinds would carry their size along.
        .boxed(".p2pd.pb.Response.event")
        .boxed(".p2pd.pb.Response.pubsubValidate")
        .boxed(".p2pd.pb.Response.dhtValidator")
        .boxed(".p2pd.pb.Response.control")
        .boxed(".p2pd.pb.Response.tunnel")
        .boxed(".p2pd.pb.Request.control")
        .boxed(".p2pd.pb.Request.tunnel")
        .compile_fds(descriptors)?;
    Ok(())
}
