//! `-datastore`: a node has its records again after a restart, also after SIGKILL.

use std::path::Path;

use libp2p::identity::Keypair;
use rustix::process::Signal;

use super::*;
use crate::support::PATIENCE;
use crate::support::dht::{cid, fresh_public_key_record};

/// A server that keeps its identity and its records below `dir`.
fn keeping(dir: &Path) -> Daemon {
    let key = dir.join("identity");
    if !key.exists() {
        let keypair = Keypair::generate_ed25519();
        let bytes = keypair.to_protobuf_encoding().expect("a key");
        std::fs::write(&key, bytes).expect("write the key");
    }
    launch("-dhtServer")
        .args([
            format!("-id={}", key.display()),
            format!("-datastore={}", dir.join("records").display()),
        ])
        .spawn()
}

fn kill(mut daemon: Daemon) {
    daemon.signal(Signal::KILL);
    assert!(daemon.wait(PATIENCE).is_some(), "it outlives SIGKILL");
}

#[test]
fn own_records_outlive_sigkill() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = cid(b"own");
    let (key, value) = fresh_public_key_record();
    let neighbour = server();
    for round in 0..3 {
        let node = keeping(dir.path());
        if round == 0 {
            join(&node, &neighbour);
            node.client().put_value(&key, &value).expect("PUT_VALUE");
            node.client().provide(&content).expect("PROVIDE");
        }
        // Its neighbour could tell as well: what is asked for is in no other table.
        let found = node
            .client()
            .find_providers(&content, Some(1))
            .expect("found");
        assert_eq!(
            found,
            [(node.peer_id(), node.addrs().to_vec())],
            "round {round}"
        );
        assert_eq!(
            node.client().get_value(&key).as_ref(),
            Ok(&value),
            "round {round}"
        );
        kill(node);
    }
    drop(neighbour);
    let node = keeping(dir.path());
    assert_eq!(node.client().get_value(&key), Ok(value));
}

#[test]
fn records_of_others_outlive_a_clean_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = cid(b"theirs");
    let (key, value) = fresh_public_key_record();
    let mut node = keeping(dir.path());
    let other = server();
    join(&node, &other);
    other.client().put_value(&key, &value).expect("PUT_VALUE");
    other.client().provide(&content).expect("PROVIDE");
    let provider = (other.peer_id(), other.addrs().to_vec());
    assert!(node.terminate(PATIENCE).success());
    drop(other);
    let node = keeping(dir.path());
    assert_eq!(node.client().get_value(&key), Ok(value));
    assert_eq!(
        node.client().find_providers(&content, None),
        Ok(vec![provider])
    );
}

/// Without `-b` and without inbound connections, the peers in the datastore are enough.
#[test]
fn a_restarted_node_finds_its_network_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let others: [Daemon; 3] = star();
    let mut node = keeping(dir.path());
    join(&node, &others[0]);
    let all: Vec<_> = others.iter().map(Daemon::peer_id).collect();
    node.client().await_table(&all);
    assert!(node.terminate(PATIENCE).success());
    let again = keeping(dir.path());
    again.client().await_table(&all);
    assert!(again.client().find_peer(others[2].peer_id()).is_ok());
}

#[test]
fn without_a_datastore_nothing_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = launch("-dhtServer")
        .shell(&format!(
            "cd {} && exec \"$0\" \"$@\"",
            dir.path().display()
        ))
        .spawn();
    let (key, value) = fresh_public_key_record();
    let _ = daemon.client().put_value(&key, &value);
    let files = std::fs::read_dir(dir.path()).expect("the directory");
    assert_eq!(files.count(), 0);
}
