//! Many calls at once, large ones beside small ones, and clients that do not read.

use std::collections::HashMap;
use std::time::Instant;

use super::*;
use crate::support::{payload, persistent::outcome};

#[test]
fn thousands_of_calls_in_flight_keep_their_answers() {
    const AT_ONCE: usize = 256;
    let (a, b) = pair();
    let calls = count("RP2PD_TEST_CALLS", 30_000);
    // Two handlers, so that what is mixed up would show.
    let serving: Vec<_> = ["one", "two"]
        .map(|name| {
            handler(&b, name).serve(move |call| {
                let mut answer = call.data.clone();
                answer.extend_from_slice(name.as_bytes());
                Ok(answer)
            })
        })
        .into();
    let mut caller = a.persistent();
    let mut waiting = HashMap::new();
    let mut times = Vec::with_capacity(calls);
    let (mut begun, mut done) = (0, 0);
    let mut before = Vec::new();
    while done < calls {
        if done == calls / 5 {
            // The first calls cost the daemons what they keep for all later ones.
            before = [&a, &b]
                .map(|daemon| (daemon.fds(), daemon.rss_kib()))
                .into();
        }
        while begun < calls && waiting.len() < AT_ONCE {
            let name = ["one", "two"][begun % 2];
            let data = payload(100 + begun % 50, begun as u64);
            let id = caller.begin(b.peer_id(), name, &data);
            waiting.insert(id, ([&data, name.as_bytes()].concat(), Instant::now()));
            begun += 1;
        }
        let message = caller.receive().expect("an outcome");
        let id: [u8; 16] = message.call_id[..].try_into().expect("16 bytes");
        let (expected, started) = waiting.remove(&id).expect("an open call");
        let got = outcome(message.message).expect("an outcome").response();
        assert!(got == expected, "call {done}");
        times.push(started.elapsed());
        done += 1;
    }
    times.sort_unstable();
    let p99 = times[calls * 99 / 100 - 1];
    println!("{calls} calls, {AT_ONCE} at once: p99 {p99:?}");
    for (daemon, (fds, kib)) in [&a, &b].into_iter().zip(before) {
        assert_eq!(daemon.fds(), fds);
        let grown = daemon.rss_kib().saturating_sub(kib);
        println!("RSS grew by {grown} KiB from call {} on", calls / 5);
        assert!(grown < 8 << 10, "RSS grew by {grown} KiB");
    }
    drop(b);
    let served: usize = serving
        .into_iter()
        .map(|one| one.join().expect("no panic"))
        .sum();
    assert_eq!(served, calls);
}

/// How long small calls take beside `large` ones of 4 MiB that are always under way.
#[test]
fn large_calls_do_not_hold_up_small_ones() {
    const LARGE: usize = 8;
    let (a, b) = pair();
    let serving = [
        handler(&b, "large").serve(echo),
        handler(&b, "small").serve(echo),
    ];
    let both = {
        let mut both = b.persistent();
        both.add("both.large", false).expect("add");
        both.add("both.small", false).expect("add");
        both.serve(echo)
    };
    let data = payload((4 << 20) - 128, 1);
    let _keeps_it_alive = a.persistent();
    for (large, small) in [("large", "small"), ("both.large", "both.small")] {
        let mut loader = a.persistent();
        let mut caller = a.persistent();
        let (slowest, loaded) = std::thread::scope(|scope| {
            let loading = scope.spawn(|| {
                let ids: Vec<_> = (0..LARGE)
                    .map(|_| loader.begin(b.peer_id(), large, &data))
                    .collect();
                ids.iter()
                    .filter(|id| loader.outcome(id).response() == data)
                    .count()
            });
            let mut slowest = Duration::ZERO;
            let mut calls = 0;
            while !loading.is_finished() || calls == 0 {
                let started = Instant::now();
                assert_eq!(caller.call(b.peer_id(), small, b"x").response(), b"x");
                slowest = slowest.max(started.elapsed());
                calls += 1;
            }
            println!("{small}: {calls} calls beside {LARGE} of 4 MiB, slowest {slowest:?}");
            (slowest, loading.join().expect("no panic"))
        });
        assert_eq!(loaded, LARGE);
        assert!(slowest < Duration::from_secs(1), "{small}: {slowest:?}");
    }
    drop(b);
    for one in serving {
        assert!(one.join().expect("no panic") > 0);
    }
    assert!(both.join().expect("no panic") > 0);
}

#[test]
fn a_client_that_does_not_read_stops_only_itself() {
    let (a, b) = pair();
    let mut deaf = handler(&b, "deaf");
    let serving = handler(&b, "p").serve(echo);
    let mut caller = a.persistent();
    let data = payload(1 << 20, 1);
    let stuck: Vec<_> = (0..20)
        .map(|_| caller.begin(b.peer_id(), "deaf", &data))
        .collect();
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(caller.call(b.peer_id(), "p", b"x").response(), b"x");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    let kib = b.rss_kib();
    println!("RSS with 20 MiB of calls to a client that does not read: {kib} KiB");
    // Calls that were given up before they were written never reach it.
    for id in &stuck {
        caller.cancel(id);
        assert_eq!(caller.outcome(id), Outcome::Cancelled);
    }
    let mut reached = 0;
    let silence = Duration::from_millis(500);
    while !deaf.is_silent_for(silence) {
        let message = deaf.receive().expect("a message");
        if matches!(outcome(message.message), Err(Some(_))) {
            reached += 1;
        }
    }
    assert!(reached < 10, "{reached} calls");
    let again = caller.begin(b.peer_id(), "deaf", b"x");
    let incoming = deaf.incoming().expect("it reads again");
    deaf.answer(&incoming.id, Ok(b"y".to_vec()))
        .expect("answer");
    assert_eq!(caller.outcome(&again).response(), b"y");
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 20);
}

#[test]
fn a_peer_that_sends_many_large_calls_slowly_waits_for_itself_alone() {
    let (a, b) = pair();
    let c = node();
    c.connect_to(&b);
    let serving = handler(&b, "p").serve(echo);
    // Eight of them have a place, the others wait for one. Each has announced 4 MiB and sent a part of it.
    let pipes: Vec<_> = (0..40)
        .map(|_| {
            let (_, mut pipe) = a.client().open_stream(b.peer_id(), &["p"]).expect("open");
            let part = [crate::support::raw::varint(4 << 20), vec![0; 100 << 10]].concat();
            std::io::Write::write_all(&mut pipe, &part).expect("send");
            pipe
        })
        .collect();
    let data = payload(1 << 20, 2);
    let mut caller = c.persistent();
    let started = Instant::now();
    assert!(caller.call(b.peer_id(), "p", &data).response() == data);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    drop(pipes);
    // And the peer itself is served once its own have gone.
    let mut caller = a.persistent();
    assert!(caller.call(b.peer_id(), "p", &data).response() == data);
    drop(b);
    assert_eq!(serving.join().expect("no panic"), 2);
}

#[test]
fn a_call_beyond_the_limit_fails_and_the_others_go_on() {
    const LIMIT: usize = 4096;
    let (a, b) = pair();
    let mut handler = handler(&b, "p");
    let mut caller = a.persistent();
    let ids: Vec<_> = (0..LIMIT)
        .map(|_| caller.begin(b.peer_id(), "p", b""))
        .collect();
    let incoming: Vec<_> = ids
        .iter()
        .map(|_| handler.incoming().expect("a call"))
        .collect();
    assert_eq!(
        caller.call(b.peer_id(), "p", b"").failure(),
        "too many calls"
    );
    // Another caller finds the handler busy.
    let mut other = a.persistent();
    assert_eq!(other.call(b.peer_id(), "p", b"").failure(), "EOF");
    for call in &incoming {
        handler.answer(&call.id, Ok(Vec::new())).expect("answer");
    }
    for id in &ids {
        assert_eq!(caller.outcome(id).response(), b"");
    }
    let id = caller.begin(b.peer_id(), "p", b"again");
    let call = handler.incoming().expect("the call");
    handler.answer(&call.id, Ok(call.data)).expect("answer");
    assert_eq!(caller.outcome(&id).response(), b"again");
}
