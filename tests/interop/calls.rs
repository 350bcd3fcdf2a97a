//! Calls between rp2pd and Hivemind's own daemon, in both roles: a live swarm is upgraded
//! node by node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::install;
use super::peers::{Link, NOISE_TCP, QUIC_V1, TLS_TCP};
use super::suite::trial;
use crate::support::persistent::{Outcome, outcome};
use crate::support::{Daemon, Handler, Launch, PATIENCE, Persistent, eventually, payload};

const SUITE: &str = "calls_hivemind";
const NAME: &str = "DHTProtocol.rpc_ping";

/// How long Hivemind's own tests wait for a cancelled call.
const SOON: Duration = Duration::from_millis(250);

/// What a frame holds beside the data, at most.
const REST: usize = 128;

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roles {
    OwnCalls,
    ForkCalls,
}

type Case = fn(&Daemon, &Daemon, Roles) -> Result<(), String>;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |case: &str, link: Link, roles: Roles, run: Case| {
        let who = match roles {
            Roles::OwnCalls => "rp2pd_calls",
            Roles::ForkCalls => "fork_calls",
        };
        trials.push(trial(
            SUITE,
            &format!("{case}_{}_{who}", link.name),
            move || {
                let (caller, callee) = start(link, roles)?;
                run(&caller, &callee, roles)
            },
        ));
    };
    for roles in [Roles::OwnCalls, Roles::ForkCalls] {
        for link in [NOISE_TCP, TLS_TCP, QUIC_V1] {
            add("answers_and_errors", link, roles, answers_and_errors);
            add("sizes", link, roles, sizes);
            add("cancel", link, roles, cancel);
        }
        add("refusals", NOISE_TCP, roles, refusals);
        add("balanced", NOISE_TCP, roles, balanced);
        add("many_at_once", NOISE_TCP, roles, many_at_once);
        add("beside_streams", NOISE_TCP, roles, beside_streams);
        add("connection_lost", NOISE_TCP, roles, connection_lost);
    }
    // The fork itself leaves the other side of these hanging.
    add("handler_gone", NOISE_TCP, Roles::ForkCalls, handler_gone);
    add("caller_gone", NOISE_TCP, Roles::OwnCalls, caller_gone);
    trials
}

fn start(link: Link, roles: Roles) -> Result<(Daemon, Daemon), String> {
    let listen = format!("-hostAddrs={}", link.listen);
    let launch = |launch: Launch| launch.args([&listen]).args(link.flags).try_spawn();
    let own = launch(Launch::new())?;
    let fork = launch(Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd")))?;
    let (caller, callee) = match roles {
        Roles::OwnCalls => (own, fork),
        Roles::ForkCalls => (fork, own),
    };
    caller.connect_to(&callee);
    Ok((caller, callee))
}

fn handler(daemon: &Daemon) -> Result<Persistent, String> {
    let mut handler = daemon.persistent();
    handler.add(NAME, false)?;
    Ok(handler)
}

fn answers_and_errors(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let mut handler = handler(callee)?;
    let mut client = caller.persistent();
    for (data, answer) in [
        (&b"question"[..], Ok(b"answer".to_vec())),
        (b"", Ok(Vec::new())),
        (b"bad", Err(b"ValueError('bad')".to_vec())),
    ] {
        let id = client.begin(callee.peer_id(), NAME, data);
        let call = handler.incoming().expect("the call");
        assert_eq!(call.peer, caller.peer_id().to_bytes());
        assert_eq!((call.name.as_str(), &call.data[..]), (NAME, data));
        handler.answer(&call.id, answer.clone()).expect("answer");
        assert_eq!(client.outcome(&id), Outcome::Answer(answer));
    }
    Ok(())
}

fn sizes(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let serving = handler(callee)?.serve(|call| Ok(call.data.clone()));
    let mut client = caller.persistent();
    let sizes = [1, 64 << 10, (256 << 10) + 1, (4 << 20) - REST];
    for size in sizes {
        let sent = payload(size, size as u64);
        let got = client.call(callee.peer_id(), NAME, &sent);
        assert!(got.response() == sent, "{size} bytes");
    }
    drop(client);
    assert!(!serving.is_finished(), "the handler has ended early");
    Ok(())
}

fn cancel(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let mut handler = handler(callee)?;
    let mut client = caller.persistent();
    for _ in 0..5 {
        let id = client.begin(callee.peer_id(), NAME, b"x");
        let call = handler.incoming().expect("the call");
        let started = Instant::now();
        client.cancel(&id);
        assert_eq!(client.outcome(&id), Outcome::Cancelled);
        handler.await_cancel(&call.id).expect("told");
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    }
    Ok(())
}

fn refusals(caller: &Daemon, callee: &Daemon, roles: Roles) -> Result<(), String> {
    let mut client = caller.persistent();
    let refused = "failed to negotiate protocol: protocols not supported: [nobody]";
    for _ in 0..3 {
        let outcome = client.call(callee.peer_id(), "nobody", b"");
        assert_eq!(outcome.failure(), refused);
    }
    // Known once, and then gone.
    let mut one = handler(callee)?;
    let id = client.begin(callee.peer_id(), NAME, b"");
    let call = one.incoming().expect("the call");
    one.answer(&call.id, Ok(Vec::new())).expect("answer");
    assert_eq!(client.outcome(&id).response(), b"");
    one.remove(NAME)?;
    let text = client.call(callee.peer_id(), NAME, b"").failure();
    assert!(text.contains("protocols not supported"), "{text}");
    let itself = client.call(caller.peer_id(), NAME, b"").failure();
    assert_eq!(itself, "failed to dial: dial to self attempted");
    let sent = payload((4 << 20) - REST, 1);
    if roles == Roles::OwnCalls {
        let text = client.call(callee.peer_id(), "nobody", &sent).failure();
        assert_eq!(text, refused);
    }
    Ok(())
}

fn balanced(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let mut serving = Vec::new();
    for index in 0..2 {
        let mut handler = callee.persistent();
        handler.add(NAME, true)?;
        serving.push(handler.serve(move |_| Ok(vec![index])));
    }
    let mut client = caller.persistent();
    let mut counts = [0; 2];
    for _ in 0..50 {
        let answer = client.call(callee.peer_id(), NAME, b"").response();
        counts[usize::from(answer[0])] += 1;
    }
    assert_eq!(counts, [25, 25]);
    assert!(serving.iter().all(|one| !one.is_finished()));
    Ok(())
}

fn many_at_once(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    const CALLS: usize = 3000;
    const AT_ONCE: usize = 256;
    let serving = handler(callee)?.serve(|call| Ok(call.data.clone()));
    let mut client = caller.persistent();
    let mut waiting = HashMap::new();
    let (mut begun, mut done) = (0, 0);
    while done < CALLS {
        while begun < CALLS && waiting.len() < AT_ONCE {
            let data = payload(100, begun as u64);
            waiting.insert(client.begin(callee.peer_id(), NAME, &data), data);
            begun += 1;
        }
        let message = client.receive().expect("an outcome");
        let id: [u8; 16] = message.call_id[..].try_into().expect("16 bytes");
        let sent = waiting.remove(&id).expect("an open call");
        let got = outcome(message.message).expect("an outcome").response();
        assert!(got == sent, "call {done}");
        done += 1;
    }
    assert!(!serving.is_finished());
    Ok(())
}

fn beside_streams(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let serving = handler(callee)?.serve(|call| Ok(call.data.clone()));
    let streams = Handler::unix();
    streams.register(&mut callee.client(), &["streams"], Some(true))?;
    let echoing = streams.echo(1);
    let opened = caller.client().open_stream(callee.peer_id(), &["streams"]);
    let (_, pipe) = opened?;
    let sent = payload(4 << 20, 3);
    let mut client = caller.persistent();
    std::thread::scope(|scope| {
        let piped = scope.spawn(|| pipe.echo(&sent));
        for round in 0..50_u8 {
            let answer = client.call(callee.peer_id(), NAME, &[round]);
            assert_eq!(answer.response(), [round]);
        }
        assert!(piped.join().expect("no panic") == sent);
    });
    assert_eq!(echoing.join().expect("no panic").len(), 1);
    assert!(!serving.is_finished());
    Ok(())
}

fn connection_lost(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let mut handler = handler(callee)?;
    let mut client = caller.persistent();
    let id = client.begin(callee.peer_id(), NAME, b"x");
    let call = handler.incoming().expect("the call");
    caller.client().disconnect(callee.peer_id());
    let text = client.outcome(&id).failure();
    assert!(text.contains("stream reset"), "{text}");
    handler.await_cancel(&call.id).expect("told");
    Ok(())
}

fn handler_gone(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let _keeps_it_alive = callee.persistent();
    let mut handler = handler(callee)?;
    let mut client = caller.persistent();
    let id = client.begin(callee.peer_id(), NAME, b"x");
    let _ = handler.incoming().expect("the call");
    drop(handler);
    assert_eq!(client.outcome(&id).failure(), "EOF");
    let refused = eventually(PATIENCE, || {
        let text = client.call(callee.peer_id(), NAME, b"x").failure();
        text.contains("protocols not supported")
    });
    assert!(refused, "the handler is still there");
    Ok(())
}

fn caller_gone(caller: &Daemon, callee: &Daemon, _: Roles) -> Result<(), String> {
    let _keeps_it_alive = caller.persistent();
    let mut handler = handler(callee)?;
    let mut client = caller.persistent();
    let _ = client.begin(callee.peer_id(), NAME, b"x");
    let call = handler.incoming().expect("the call");
    let started = Instant::now();
    drop(client);
    handler.await_cancel(&call.id).expect("told");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    Ok(())
}
