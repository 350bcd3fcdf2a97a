//! A node that is killed and started again with its datastore.

use rustix::process::Signal;

use super::*;
use support::{Launch, PATIENCE};

#[test]
fn what_was_acknowledged_is_served_after_sigkill() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = || {
        let store = format!("-datastore={}", dir.path().join("store").display());
        let words = ["-dhtServer", "-hostAddrs=/ip4/127.0.0.1/tcp/0", &store];
        Launch::new().args(words).spawn()
    };
    let records: Vec<_> = (0..20).map(|_| record()).collect();
    let cid = raw::bytes(field::CID, &cid("kept"));
    // Its key is new at every start: the first node is a stranger to the second.
    let mut first = start();
    let mut client = first.client();
    for (key, value) in &records {
        let fields = [raw::bytes(field::KEY, key), raw::bytes(field::VALUE, value)];
        // Nobody else to store it; here it is stored.
        let _ = ask(&mut client, verb::PUT_VALUE, &fields);
    }
    let _ = ask(&mut client, verb::PROVIDE, from_ref(&cid));
    first.signal(Signal::KILL);
    first.wait(PATIENCE).expect("the end");

    let second = start();
    let mut client = second.client();
    for (key, content) in &records {
        let key = raw::bytes(field::KEY, key);
        let found = ask(&mut client, verb::GET_VALUE, &[key]).expect("the value");
        assert_eq!(value(found), *content);
    }
    let found = stream(&mut client, verb::FIND_PROVIDERS, &[cid]).expect("the provider");
    let peer = found.first().and_then(|frame| frame.peer.as_ref());
    assert_eq!(peer.map(peer_of), Some(first.peer_id()));
}
