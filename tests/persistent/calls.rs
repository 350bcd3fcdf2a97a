//! Calls and their outcomes (COMPATIBILITY.md 4.20).

use libp2p::PeerId;

use super::*;
use crate::support::{Handler, payload};

#[test]
fn a_call_tells_its_caller_and_brings_back_the_answer() {
    let (a, b) = pair();
    let mut handler = handler(&b, "Servicer.rpc_method");
    let mut caller = a.persistent();
    for (data, answer) in [
        (&b"question"[..], Ok(b"answer".to_vec())),
        (b"", Ok(Vec::new())),
        (b"bad", Err(b"ValueError('bad')".to_vec())),
        (b"", Err(Vec::new())),
    ] {
        let id = caller.begin(b.peer_id(), "Servicer.rpc_method", data);
        let incoming = handler.incoming().expect("the call");
        assert_eq!(incoming.peer, a.peer_id().to_bytes());
        assert_eq!(incoming.name, "Servicer.rpc_method");
        assert_eq!(incoming.data, data);
        handler
            .answer(&incoming.id, answer.clone())
            .expect("answer");
        assert_eq!(caller.outcome(&id), Outcome::Answer(answer));
    }
}

#[test]
fn calls_go_both_ways_on_one_connection_of_daemons() {
    let (a, b) = pair();
    let serving = [
        handler(&a, "at.a").serve(echo),
        handler(&b, "at.b").serve(echo),
    ];
    let (mut from_a, mut from_b) = (a.persistent(), b.persistent());
    for round in 0..20_u8 {
        assert_eq!(
            from_a.call(b.peer_id(), "at.b", &[round]).response(),
            [round]
        );
        assert_eq!(
            from_b.call(a.peer_id(), "at.a", &[round]).response(),
            [round]
        );
    }
    drop((a, b));
    for one in serving {
        assert_eq!(one.join().expect("no panic"), 20);
    }
}

#[test]
fn answers_come_in_the_order_of_the_handler() {
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let ids: Vec<_> = (0..10_u8)
        .map(|n| caller.begin(b.peer_id(), "p", &[n]))
        .collect();
    let mut incoming: Vec<_> = (0..10)
        .map(|_| handler.incoming().expect("a call"))
        .collect();
    incoming.sort_by_key(|call| std::cmp::Reverse(call.data.clone()));
    for call in &incoming {
        handler
            .answer(&call.id, Ok(call.data.clone()))
            .expect("answer");
        let answered = usize::from(call.data[0]);
        assert_eq!(caller.outcome(&ids[answered]).response(), call.data);
    }
}

#[test]
fn failures_are_worded_as_in_the_fork() {
    let (a, b) = pair();
    let mut caller = a.persistent();
    let unknown = PeerId::random();
    for (peer, text) in [
        (
            a.peer_id(),
            "failed to dial: dial to self attempted".to_owned(),
        ),
        (
            unknown,
            format!("failed to dial: failed to dial {unknown}: no addresses"),
        ),
        (
            b.peer_id(),
            "failed to negotiate protocol: protocols not supported: [nobody]".to_owned(),
        ),
    ] {
        assert_eq!(caller.call(peer, "nobody", b"").failure(), text);
    }
}

#[test]
fn a_peer_that_is_not_connected_is_dialed() {
    let (a, b) = pair();
    let serving = handler(&b, "p").serve(echo);
    a.client().disconnect(b.peer_id());
    assert_eq!(a.client().list_peers(), []);
    let mut caller = a.persistent();
    assert_eq!(caller.call(b.peer_id(), "p", b"x").response(), b"x");
    assert_eq!(a.client().list_peers().len(), 1);
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 1);
}

#[test]
fn a_handler_that_goes_away_fails_its_calls_at_once() {
    let (a, b) = pair();
    let _keeps_it_alive = b.persistent();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"x");
    let _ = handler.incoming().expect("the call");
    drop(handler);
    assert_eq!(caller.outcome(&id).failure(), "EOF");
}

#[test]
fn a_daemon_that_goes_away_fails_its_calls() {
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"x");
    let _ = handler.incoming().expect("the call");
    drop(b);
    assert_eq!(caller.outcome(&id).failure(), "stream reset");
}

#[test]
fn nobody_answers_a_call_but_the_client_that_has_it() {
    let (a, b) = pair();
    let mut thief = b.persistent();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"x");
    let incoming = handler.incoming().expect("the call");
    for stolen in [&incoming.id, &id] {
        thief
            .answer(stolen, Ok(b"stolen".to_vec()))
            .expect("answer");
        thief.cancel(stolen);
    }
    // Whatever the thief has sent is done with once this is answered.
    thief.add("else", false).expect("add");
    handler
        .answer(&incoming.id, Ok(b"true".to_vec()))
        .expect("answer");
    // A second answer finds nobody.
    handler
        .answer(&incoming.id, Ok(b"late".to_vec()))
        .expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"true");
    assert!(caller.is_silent_for(SOON));
}

#[test]
fn callers_may_use_the_same_ids() {
    let (a, b) = pair();
    let c = node();
    c.connect_to(&b);
    let mut handler = handler(&b, "p");
    let mut callers = [a.persistent(), a.persistent(), c.persistent()];
    // Each begins with the same id.
    let ids: Vec<_> = callers
        .iter_mut()
        .zip(0_u8..)
        .map(|(caller, n)| caller.begin(b.peer_id(), "p", &[n]))
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let mut incoming: Vec<_> = (0..3)
        .map(|_| handler.incoming().expect("a call"))
        .collect();
    incoming.reverse();
    let distinct: std::collections::HashSet<_> = incoming.iter().map(|call| call.id).collect();
    assert_eq!(distinct.len(), 3);
    for call in incoming {
        handler.answer(&call.id, Ok(call.data)).expect("answer");
    }
    for (caller, n) in callers.iter_mut().zip(0_u8..) {
        assert_eq!(caller.outcome(&ids[0]).response(), [n]);
    }
}

#[test]
fn a_live_id_is_not_taken_twice() {
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let id = caller.begin(b.peer_id(), "p", b"first");
    let incoming = handler.incoming().expect("the call");
    let ask = crate::support::persistent::call_request(&b.peer_id().to_bytes(), "p", b"second");
    let ask = rp2pd::wire::pb::persistent_connection_request::Message::CallUnary(ask);
    caller.send(&id, Some(ask)).expect("send");
    assert_eq!(caller.outcome(&id).failure(), "call id already in use");
    handler
        .answer(&incoming.id, Ok(b"1".to_vec()))
        .expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"1");
}

#[test]
fn sizes_up_to_the_limit_pass() {
    // What a frame holds beside the data, at most.
    const REST: usize = 128;
    let (a, b) = pair();
    let serving = handler(&b, "p").serve(echo);
    let mut caller = a.persistent();
    for size in [1, 100, 64 << 10, (64 << 10) + 1, 1 << 20, (4 << 20) - REST] {
        let sent = payload(size, size as u64);
        let got = caller.call(b.peer_id(), "p", &sent).response();
        assert!(got == sent, "{size} bytes");
    }
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 6);
}

#[test]
fn what_is_larger_than_the_other_daemon_takes_fails_alone() {
    const SMALL: &str = "-persistentConnMaxMsgSize=1000";
    let (a, b) = (node(), node_with(&[SMALL]));
    a.connect_to(&b);
    let serving = [
        handler(&a, "p").serve(|_| Ok(vec![1; 2000])),
        handler(&b, "p").serve(echo),
    ];
    let mut from_a = a.persistent();
    // The callee refuses the call, small or far larger than what may be on the way.
    for size in [1000, 2 << 20] {
        let call = from_a.call(b.peer_id(), "p", &vec![1; size]);
        assert_eq!(call.failure(), "EOF", "{size} bytes");
    }
    // The caller refuses the answer.
    let mut from_b = b.persistent();
    assert_eq!(from_b.call(a.peer_id(), "p", b"").failure(), "short buffer");
    assert_eq!(from_a.call(b.peer_id(), "p", b"fits").response(), b"fits");
    drop((a, b));
    let served = serving.map(|one| one.join().expect("no panic"));
    assert_eq!(served, [1, 1]);
}

#[test]
fn streams_and_calls_share_a_connection() {
    let (a, b) = pair();
    let serving = handler(&b, "calls").serve(echo);
    let streams = Handler::unix();
    streams
        .register(&mut b.client(), &["streams"], Some(false))
        .expect("register");
    let echoing = streams.echo(1);
    let (_, pipe) = a
        .client()
        .open_stream(b.peer_id(), &["streams"])
        .expect("open");
    let mut caller = a.persistent();
    let sent = payload(8 << 20, 3);
    std::thread::scope(|scope| {
        let piped = scope.spawn(|| pipe.exchange(&sent));
        for round in 0..50_u8 {
            assert_eq!(
                caller.call(b.peer_id(), "calls", &[round]).response(),
                [round]
            );
        }
        assert!(piped.join().expect("no panic") == sent);
    });
    assert_eq!(echoing.join().expect("no panic").len(), 1);
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 50);
}
