//! Calls that are given up (COMPATIBILITY.md 4.20).

use std::time::Instant;

use super::*;

#[test]
fn a_cancelled_call_is_confirmed_at_once_and_its_handler_told() {
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    for _ in 0..20 {
        let id = caller.begin(b.peer_id(), "p", b"x");
        let incoming = handler.incoming().expect("the call");
        let started = Instant::now();
        caller.cancel(&id);
        assert_eq!(caller.outcome(&id), Outcome::Cancelled);
        handler.await_cancel(&incoming.id).expect("told");
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        // An answer that comes too late is dropped.
        handler
            .answer(&incoming.id, Ok(b"late".to_vec()))
            .expect("answer");
    }
    assert!(caller.is_silent_for(SOON));
}

#[test]
fn to_cancel_what_is_not_there_does_nothing() {
    let (a, b) = pair();
    let serving = handler(&b, "p").serve(echo);
    let mut caller = a.persistent();
    caller.cancel(&[9; 16]);
    let id = caller.begin(b.peer_id(), "p", b"x");
    assert_eq!(caller.outcome(&id).response(), b"x");
    caller.cancel(&id);
    assert_eq!(caller.call(b.peer_id(), "p", b"y").response(), b"y");
    assert!(caller.is_silent_for(SOON));
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 2);
}

#[test]
fn a_call_can_be_cancelled_while_its_peer_is_being_reached() {
    let (a, b) = pair();
    a.client().disconnect(b.peer_id());
    b.pause();
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"x");
    let started = Instant::now();
    caller.cancel(&id);
    assert_eq!(caller.outcome(&id), Outcome::Cancelled);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    b.resume();
}

#[test]
fn a_caller_that_goes_away_cancels_its_calls() {
    let (a, b) = pair();
    let _keeps_it_alive = a.persistent();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let _ = caller.begin(b.peer_id(), "p", b"one");
    let _ = caller.begin(b.peer_id(), "p", b"two");
    let incoming = [0; 2].map(|_| handler.incoming().expect("a call"));
    let started = Instant::now();
    drop(caller);
    for call in incoming {
        handler.await_cancel(&call.id).expect("told");
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn a_daemon_that_is_killed_cancels_its_calls() {
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let _ = caller.begin(b.peer_id(), "p", b"x");
    let incoming = handler.incoming().expect("the call");
    let started = Instant::now();
    a.signal(rustix::process::Signal::KILL);
    handler.await_cancel(&incoming.id).expect("told");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
