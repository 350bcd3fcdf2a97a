//! Real clients and real peers against the built daemon.
//!
//! They come from their own registries at test time, pinned, and live below
//! `target/interop`. A suite whose toolchain is not installed is reported as ignored by
//! name, and fails instead when `CI` is set. `RP2PD_TEST_DAEMON` names another daemon to
//! test: Go's own, for instance, to see which promises it breaks itself.

mod support;

mod interop {
    pub mod adapter;
    pub mod auto_mode;
    pub mod autorelay;
    pub mod calls;
    pub mod circuits;
    pub mod dht;
    pub mod dht_crowd;
    pub mod go_client;
    pub mod go_records;
    pub mod hivemind_client;
    pub mod install;
    pub mod js_client;
    pub mod mdns;
    pub mod p2pclient_python;
    pub mod peers;
    pub mod program;
    pub mod pubsub;
    pub mod pubsub_crowd;
    pub mod punch;
    pub mod py_client;
    pub mod py_libp2p;
    pub mod quickstart;
    pub mod redis;
    pub mod relay_service;
    pub mod rendezvous;
    pub mod suite;
}

use std::process::ExitCode;

use interop::suite::suite;
use interop::{
    adapter, auto_mode, autorelay, calls, circuits, dht, dht_crowd, go_client, go_records,
    hivemind_client, install, js_client, mdns, p2pclient_python, peers, pubsub, pubsub_crowd,
    punch, py_client, py_libp2p, quickstart, redis, relay_service, rendezvous,
};
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let python = install::python_toolchain();
    let node = install::node_toolchain();
    let go = install::go_toolchain();
    let hivemind = install::hivemind_platform(&python);
    let mut trials = Vec::new();
    trials.extend(suite("auto_mode", &hivemind, auto_mode::trials));
    trials.extend(suite("p2pclient_python", &python, p2pclient_python::trials));
    trials.extend(suite("py_client", &python, py_client::trials));
    trials.extend(suite("quickstart", &python, quickstart::trials));
    trials.extend(suite("js_client", &node, js_client::trials));
    trials.extend(suite("go_client", &go, go_client::trials));
    trials.extend(suite("go_records", &go, go_records::trials));
    trials.extend(suite("peer_rp2pd", &Ok(()), peers::own));
    trials.extend(suite("peer_go_v0_9_2", &go, peers::go));
    trials.extend(suite("peer_go_private", &go, peers::go_private));
    trials.extend(suite("peer_hivemind", &hivemind, peers::hivemind));
    trials.extend(suite("hivemind_client", &hivemind, hivemind_client::trials));
    trials.extend(suite("calls_hivemind", &hivemind, calls::trials));
    trials.extend(suite("peer_js", &node, peers::js));
    trials.extend(suite("peer_py_libp2p", &python, py_libp2p::trials));
    trials.extend(suite("mdns", &python, mdns::trials));
    trials.extend(suite("rendezvous", &python, rendezvous::trials));
    trials.extend(suite("dht_go_v0_9_2", &go, dht::go));
    trials.extend(suite("dht_hivemind", &hivemind, dht::hivemind));
    trials.extend(suite("dht_js", &node, dht::js));
    trials.extend(suite("dht_py_libp2p", &python, dht::py));
    let both = go.clone().and(hivemind.clone());
    trials.extend(suite("circuits", &both, circuits::trials));
    trials.extend(suite("autorelay", &both, autorelay::trials));
    trials.extend(suite("dht_crowd", &both, dht_crowd::trials));
    trials.extend(suite("relay_service", &both, relay_service::trials));
    trials.extend(suite("punch", &hivemind, punch::trials));
    trials.extend(suite("pubsub_crowd", &go, pubsub_crowd::trials));
    trials.extend(suite("pubsub_rp2pd", &Ok(()), pubsub::own));
    trials.extend(suite("pubsub_go_v0_9_2", &go, pubsub::go));
    trials.extend(suite("pubsub_hivemind", &hivemind, pubsub::hivemind));
    trials.extend(suite("pubsub_js", &node, pubsub::js));
    let matrix = python.clone().and(redis::toolchain());
    trials.extend(suite("adapter", &matrix, adapter::trials));
    trials.extend(suite("adapter_go_v0_9_2", &matrix.and(go), adapter::go));
    libtest_mimic::run(&arguments, trials).exit_code()
}
