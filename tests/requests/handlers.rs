//! STREAM_HANDLER and REMOVE_STREAM_HANDLER: who gets an inbound stream (COMPATIBILITY.md 4.9 to
//! 4.11).

use super::*;
use crate::support::{PATIENCE, eventually};

/// Opens one stream of `name` and says which of `handlers` gets it.
fn taker(a: &Daemon, b: &Daemon, name: &str, handlers: &[&Handler]) -> usize {
    let (_, mut near) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
    let mut reached = None;
    let arrived = support::eventually(PATIENCE, || {
        reached = handlers
            .iter()
            .position(|handler| handler.accept(std::time::Duration::ZERO).is_ok());
        reached.is_some()
    });
    assert!(arrived, "no handler got the stream");
    // The handler has hung up: so does the stream.
    let mut rest = Vec::new();
    let _ = near.read_to_end(&mut rest).expect("an orderly end");
    reached.expect("checked")
}

fn register(b: &Daemon, handler: &Handler, names: &[&str], balanced: Option<bool>) {
    handler
        .register(&mut b.client(), names, balanced)
        .expect("register");
}

#[test]
fn without_balanced_the_newest_handler_replaces_all() {
    let (a, b) = pair();
    let handlers = [Handler::unix(), Handler::tcp(), Handler::unix()];
    let all: Vec<&Handler> = handlers.iter().collect();
    for (index, handler) in handlers.iter().enumerate() {
        register(&b, handler, &["/p"], None);
        for _ in 0..3 {
            assert_eq!(taker(&a, &b, "/p", &all), index);
        }
    }
    // A round robin is replaced as well.
    register(&b, &handlers[0], &["/p"], Some(true));
    register(&b, &handlers[1], &["/p"], None);
    for _ in 0..3 {
        assert_eq!(taker(&a, &b, "/p", &all), 1);
    }
}

#[test]
fn balanced_false_refuses_a_second_handler() {
    let (a, b) = pair();
    let (first, second) = (Handler::unix(), Handler::unix());
    register(&b, &first, &["/p"], Some(false));
    for handler in [&first, &second] {
        let refused = handler.register(&mut b.client(), &["/p"], Some(false));
        assert_eq!(
            refused,
            Err("handler for protocol /p already set".to_owned())
        );
    }
    assert_eq!(taker(&a, &b, "/p", &[&first, &second]), 0);
}

#[test]
fn a_list_is_registered_whole_or_not_at_all() {
    let (a, b) = pair();
    let (first, second) = (Handler::unix(), Handler::unix());
    register(&b, &first, &["/taken"], Some(false));
    let long = "x".repeat(257);
    let refusals: [(&[&str], &str); 4] = [
        (
            &["/free", "/taken"],
            "handler for protocol /taken already set",
        ),
        (
            &["/taken", "/free"],
            "handler for protocol /taken already set",
        ),
        (
            &["/free", ""],
            "protocol name of 0 bytes: must be 1 to 256 bytes long",
        ),
        (
            &["/free", &long],
            "protocol name of 257 bytes: must be 1 to 256 bytes long",
        ),
    ];
    for (names, text) in refusals {
        let refused = second.register(&mut b.client(), names, Some(false));
        assert_eq!(refused, Err(text.to_owned()));
        assert_eq!(
            open_error(&a, b.peer_id(), &["/free"]),
            "failed to negotiate protocol: protocols not supported: [/free]"
        );
    }
    register(&b, &second, &["/free", "bare", "/other"], Some(false));
    for name in ["/free", "bare", "/other"] {
        assert_eq!(taker(&a, &b, name, &[&first, &second]), 1);
    }
    // A list without names is fine and does nothing.
    register(&b, &second, &[], None);
}

#[test]
fn what_the_daemon_needs_cannot_be_taken_and_the_rest_can() {
    let b = node();
    let handler = Handler::unix();
    for name in ["/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"] {
        let refused = handler.register(&mut b.client(), &[name], None);
        assert_eq!(
            refused,
            Err(format!(
                "protocol \"{name}\" is served by the daemon itself"
            ))
        );
    }
    for policy in [None, Some(false), Some(true)] {
        // A daemon of its own: what a client has taken is not given back.
        let (a, b) = pair();
        // The handler would get the ping that a new connection begins with, and wait for more.
        let pinged = || {
            b.signal(rustix::process::Signal::USR1);
            b.stderr().contains("Inbound streams served: 1,")
        };
        assert!(eventually(PATIENCE, pinged), "{}", b.stderr());
        for name in ["/ipfs/ping/1.0.0", "/echo/1.0.0"] {
            register(&b, &handler, &[name], policy);
            for _ in 0..3 {
                assert_eq!(taker(&a, &b, name, &[&handler]), 0);
            }
        }
    }
}

#[test]
fn handlers_outlive_the_connection_that_registered_them() {
    let (a, b) = pair();
    let handler = Handler::unix();
    let mut client = b.client();
    handler
        .register(&mut client, &["/stays"], None)
        .expect("register");
    client.pipe.socket.shutdown_write().expect("half-close");
    assert_closed(&mut client);
    for _ in 0..3 {
        assert_eq!(taker(&a, &b, "/stays", &[&handler]), 0);
    }
}

#[test]
fn streams_go_round_the_slots_in_order_of_registration() {
    let (a, b) = pair();
    let (first, second) = (Handler::unix(), Handler::unix());
    let both = [&first, &second];
    // One slot for the first, two for the second.
    register(&b, &first, &["/r"], Some(true));
    register(&b, &second, &["/r"], Some(true));
    register(&b, &second, &["/r"], Some(true));
    let order: Vec<usize> = (0..7).map(|_| taker(&a, &b, "/r", &both)).collect();
    assert_eq!(order, [0, 1, 1, 0, 1, 1, 0]);

    // One of the two slots goes; the other takes its turns.
    let removed = ask(
        &mut b.client(),
        &remove_handler(&second.addr_bytes(), &["/r"]),
    );
    assert_eq!(removed, Response::default());
    let order: Vec<usize> = (0..4).map(|_| taker(&a, &b, "/r", &both)).collect();
    assert!(order == [0, 1, 0, 1] || order == [1, 0, 1, 0], "{order:?}");
}

#[test]
fn a_dead_handlers_turn_goes_to_the_next() {
    let (a, b) = pair();
    let living = Handler::unix();
    let (gone_unix, gone_tcp) = (Handler::unix(), Handler::tcp());
    for handler in [&gone_unix, &living, &gone_tcp] {
        register(&b, handler, &["/d"], Some(true));
    }
    drop((gone_unix, gone_tcp));
    for _ in 0..6 {
        assert_eq!(taker(&a, &b, "/d", &[&living]), 0);
    }
}

#[test]
fn without_a_living_handler_the_stream_opens_and_ends() {
    let (a, b) = pair();
    for name in ["/gone", "gone"] {
        for handler in [Handler::unix(), Handler::tcp()] {
            register(&b, &handler, &[name], Some(true));
        }
        // Both with a name that is known by now and with one that never is.
        for _ in 0..20 {
            let (info, mut near) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
            assert_eq!(info.proto, name);
            let mut rest = Vec::new();
            assert_eq!(near.read_to_end(&mut rest).expect("an orderly end"), 0);
        }
    }
    // Nobody was unregistered for it.
    let handler = Handler::unix();
    let refused = handler.register(&mut b.client(), &["/gone"], Some(false));
    assert_eq!(
        refused,
        Err("handler for protocol /gone already set".to_owned())
    );
}

#[test]
fn removal_is_worded_as_in_go() {
    let (a, b) = pair();
    let (handler, other) = (Handler::unix(), Handler::tcp());
    let mut client = b.client();
    let absent = refusal(&mut client, &remove_handler(&handler.addr_bytes(), &["/m"]));
    assert_eq!(absent, "handler for protocol /m does not exist");
    register(&b, &handler, &["/m", "/n"], None);
    let elsewhere = refusal(&mut client, &remove_handler(&other.addr_bytes(), &["/m"]));
    assert_eq!(
        elsewhere,
        format!(
            "handler for protocol /m with maddr {} does not exist",
            other.addr()
        )
    );
    // All of a list or nothing.
    refusal(
        &mut client,
        &remove_handler(&handler.addr_bytes(), &["/m", "/o"]),
    );
    assert_eq!(taker(&a, &b, "/m", &[&handler]), 0);

    let both = remove_handler(&handler.addr_bytes(), &["/m", "/n"]);
    assert_eq!(ask(&mut client, &both), Response::default());
    for name in ["/m", "/n"] {
        assert_eventually_refused(&a, &b, name);
    }
    let again = refusal(&mut client, &both);
    assert_eq!(again, "handler for protocol /m does not exist");
}

/// As long as the opener believes that the remote speaks `name`, it opens lazily and the
/// refusal shows as the end; then the error names it.
fn assert_eventually_refused(a: &Daemon, b: &Daemon, name: &str) {
    let mut text = String::new();
    let refused = support::eventually(PATIENCE, || {
        match a.client().open_stream(b.peer_id(), &[name]) {
            Ok((_, mut near)) => {
                let mut rest = Vec::new();
                assert_eq!(near.read_to_end(&mut rest).expect("an orderly end"), 0);
                false
            }
            Err(error) => {
                text = error;
                true
            }
        }
    });
    assert!(refused, "the removal was never announced");
    assert_eq!(
        text,
        format!("failed to negotiate protocol: protocols not supported: [{name}]")
    );
}

#[test]
fn streams_outlive_the_removal_of_their_handler() {
    use std::io::Write;

    let (a, b) = pair();
    let handler = Handler::unix();
    register(&b, &handler, &["/live"], None);
    let (_, mut near) = a
        .client()
        .open_stream(b.peer_id(), &["/live"])
        .expect("open");
    let (_, mut far) = handler.accept(PATIENCE).expect("the stream");
    let removed = ask(
        &mut b.client(),
        &remove_handler(&handler.addr_bytes(), &["/live"]),
    );
    assert_eq!(removed, Response::default());
    relay(&mut near, &mut far);
    relay(&mut far, &mut near);

    fn relay(from: &mut Pipe, to: &mut Pipe) {
        from.write_all(b"on").expect("write");
        let mut read = [0; 2];
        to.read_exact(&mut read).expect("read");
        assert_eq!(&read, b"on");
    }
}

/// A request that a client may make must not make others' streams wait, whatever its size.
#[test]
fn thousands_of_equal_handlers_are_removed_while_streams_are_served() {
    const HANDLERS: usize = 4000;
    let (a, b) = pair();
    let handler = Handler::unix();
    let names = vec!["/many"; HANDLERS];
    let shortest = (0..3).map(|_| {
        register(&b, &handler, &names, Some(true));
        let remove = remove_handler(&handler.addr_bytes(), &names);
        let mut client = b.client();
        client.send_raw(&raw::frame(&remove)).expect("send");
        let started = std::time::Instant::now();
        let mut echoes = 0;
        let slowest = std::thread::scope(|scope| {
            let removal = scope.spawn(|| client.receive::<Response>().expect("an answer"));
            let mut slowest = std::time::Duration::ZERO;
            while !removal.is_finished() {
                let opening = std::time::Instant::now();
                let (_, echo) = a
                    .client()
                    .open_stream(b.peer_id(), &["/echo/1.0.0"])
                    .expect("open");
                assert_eq!(echo.exchange(b"1234"), b"1234");
                slowest = slowest.max(opening.elapsed());
                echoes += 1;
            }
            assert_eq!(removal.join().expect("no panic"), Response::default());
            slowest
        });
        println!(
            "removed in {:?}, {echoes} streams served, the slowest in {slowest:?}",
            started.elapsed()
        );
        // All of them are gone.
        let absent = refusal(
            &mut b.client(),
            &remove_handler(&handler.addr_bytes(), &["/many"]),
        );
        assert_eq!(absent, "handler for protocol /many does not exist");
        slowest
    });
    let shortest = shortest.min().expect("three rounds");
    assert!(
        shortest < std::time::Duration::from_millis(100),
        "{shortest:?}"
    );
}
