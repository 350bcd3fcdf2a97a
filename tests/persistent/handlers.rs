//! Adding and removing handlers, and who gets a call (COMPATIBILITY.md 4.19).

use super::*;
use crate::support::Handler;

#[test]
fn additions_and_removals_are_worded_as_in_the_fork() {
    let daemon = node();
    let (mut one, mut two) = (daemon.persistent(), daemon.persistent());
    let absent = Err("handler for protocol p does not exist".to_owned());
    assert_eq!(one.remove("p"), absent);
    assert_eq!(one.add("p", false), Ok(()));
    let set = Err("handler for protocol p already set".to_owned());
    assert_eq!(one.add("p", false), set, "also by the one who set it");
    assert_eq!(two.add("p", false), set);
    let foreign = "handler for protocol p was not created in this persistent connection";
    assert_eq!(two.remove("p"), Err(foreign.to_owned()));
    assert_eq!(two.add("p", true), Ok(()), "balanced joins what is there");
    assert_eq!(two.remove("p"), Ok(()));
    assert_eq!(two.remove("p"), Err(foreign.to_owned()));
    assert_eq!(one.remove("p"), Ok(()));
    assert_eq!(one.remove("p"), absent);
}

#[test]
fn balanced_handlers_take_turns() {
    let (a, b) = pair();
    let mut handlers = vec![b.persistent(), b.persistent()];
    for handler in &mut handlers {
        handler.add("p", true).expect("add");
    }
    let serving: Vec<_> = handlers
        .into_iter()
        .enumerate()
        .map(|(index, handler)| handler.serve(move |_| Ok(vec![u8::try_from(index).unwrap()])))
        .collect();
    let mut caller = a.persistent();
    let answers: Vec<_> = (0..50)
        .map(|_| caller.call(b.peer_id(), "p", b"").response()[0])
        .collect();
    for pair in answers.windows(2) {
        assert_ne!(pair[0], pair[1], "{answers:?}");
    }
    drop(b);
    for one in serving {
        assert_eq!(one.join().expect("no panic"), 25);
    }
}

#[test]
fn handlers_go_with_their_connection_and_others_stay() {
    let (a, b) = pair();
    let _keeps_it_alive = b.persistent();
    let mut one = b.persistent();
    one.add("shared", true).expect("add");
    one.add("own", false).expect("add");
    let mut two = b.persistent();
    two.add("shared", true).expect("add");
    let serving = two.serve(|_| Ok(b"two".to_vec()));
    let mut caller = a.persistent();
    drop(one);
    let gone = eventually(PATIENCE, || {
        matches!(caller.call(b.peer_id(), "own", b""), Outcome::DaemonError(text)
            if text == "failed to negotiate protocol: protocols not supported: [own]")
    });
    assert!(gone, "the handler outlives its connection");
    for _ in 0..4 {
        assert_eq!(caller.call(b.peer_id(), "shared", b"").response(), b"two");
    }
    // The name is free again.
    let again = handler(&b, "own").serve(echo);
    assert_eq!(caller.call(b.peer_id(), "own", b"x").response(), b"x");
    drop(b);
    assert_eq!(again.join().expect("no panic"), 1);
    assert_eq!(serving.join().expect("no panic"), 4);
}

#[test]
fn a_removed_handler_is_called_no_more() {
    let (a, b) = pair();
    let mut one = handler(&b, "p");
    let mut caller = a.persistent();
    let call = caller.begin(b.peer_id(), "p", b"x");
    let incoming = one.incoming().expect("the call");
    one.remove("p").expect("remove");
    // What has begun is still answered.
    one.answer(&incoming.id, Ok(b"y".to_vec())).expect("answer");
    assert_eq!(caller.outcome(&call).response(), b"y");
    // The caller's daemon knew that the peer spoke the protocol.
    let refused = "failed to negotiate protocol: protocols not supported: [p]";
    for _ in 0..3 {
        assert_eq!(caller.call(b.peer_id(), "p", b"x").failure(), refused);
    }
    one.add("p", false).expect("add");
    let serving = one.serve(echo);
    assert_eq!(caller.call(b.peer_id(), "p", b"z").response(), b"z");
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 1);
}

#[test]
fn of_a_handler_of_streams_and_one_of_calls_the_latest_serves() {
    let (a, b) = pair();
    let streams = Handler::unix();
    let register = || streams.register(&mut b.client(), &["p"], Some(false));
    register().expect("register");
    // They are no rivals.
    let mut calls = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"first");
    let incoming = calls.incoming().expect("the call");
    calls.answer(&incoming.id, Ok(Vec::new())).expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"");
    assert_eq!(
        register(),
        Err("handler for protocol p already set".to_owned())
    );
    calls.remove("p").expect("remove");
    // The one that is left serves again.
    let (_, near) = a.client().open_stream(b.peer_id(), &["p"]).expect("open");
    let (info, far) = streams.accept(PATIENCE).expect("the stream");
    assert_eq!(info.proto, "p");
    drop((near, far));
}

#[test]
fn names_that_cannot_be_are_refused() {
    let daemon = node();
    let mut one = daemon.persistent();
    for name in ["", &"x".repeat(257)] {
        let refused = one.add(name, false).expect_err("refused");
        assert!(refused.contains("must be 1 to 256 bytes"), "{refused}");
        let refused = one.call(libp2p::PeerId::random(), name, b"").failure();
        assert!(refused.contains("must be 1 to 256 bytes"), "{refused}");
    }
    let taken = one.add("/ipfs/id/1.0.0", false).expect_err("refused");
    assert!(taken.contains("served by the daemon itself"), "{taken}");
}
