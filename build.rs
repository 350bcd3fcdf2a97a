//! Compiles the protocols with a pure-Rust protobuf compiler: no `protoc` needed.

#[path = "build/schema.rs"]
mod schema;

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
    println!("cargo:rerun-if-changed=build/schema.rs");
    let descriptors = protox::compile(PROTOCOLS, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("schema.rs"), schema::tables(&descriptors)?)?;
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
