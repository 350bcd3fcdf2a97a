//! Whoever wants to know how the daemon is, far too often: STATUS, SIGUSR1 and the metrics address.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rp2pd::wire::frame;
use rp2pd::wire::pb::{Response, request};
use rustix::process::Signal;

use super::*;
use crate::support::control::typed;
use crate::support::{PATIENCE, metrics};

/// Eight clients that ask again and again, and a signal every few milliseconds.
pub fn statuses_without_end() {
    const ASKERS: usize = 8;
    const SIGNALS: usize = 400;
    let scene = Scene::new(&["-dhtServer", "-pubsub"]);
    scene.under("STATUS", Streams::New, |crowd| {
        let start = crowd.rounds();
        let answered = AtomicUsize::new(0);
        let reports = scene.victim.stderr().matches("End of limits\n").count();
        std::thread::scope(|scope| {
            for _ in 0..ASKERS {
                let (victim, answered) = (&scene.victim, &answered);
                scope.spawn(move || {
                    let _ = rustix::process::nice(10);
                    let batch = frame::encode(&typed(request::Type::Status)).repeat(20);
                    let mut client = victim.client();
                    while crowd.rounds() < start + ENOUGH {
                        client.send_raw(&batch).expect("send");
                        for _ in 0..20 {
                            let answer: Response = client.receive().expect("an answer");
                            assert!(answer.status.is_some());
                        }
                        answered.fetch_add(20, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..SIGNALS {
                scene.victim.signal(Signal::USR1);
                // The pace of the attack; nothing waits for it.
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let answered = answered.into_inner();
        let told = scene.victim.stderr().matches("End of limits\n").count() - reports;
        println!("{answered} answers to STATUS, {told} reports for {SIGNALS} signals");
        assert!(answered > 500, "{answered} answers: no attack");
        assert!(told > 0, "no report");
    });
}

/// Connections to the metrics address that say nothing, half of a request, or read no answer.
pub fn thousands_of_http_connections() {
    const CONNECTIONS: usize = 3000;
    const GAVE_WAY: &str = "connections to the metrics address";
    let scene = Scene::new(&["-metricsAddr=127.0.0.1:0", "-dhtServer", "-pubsub"]);
    let address = metrics::address(&scene.victim);
    scene.under("http", Streams::New, |crowd| {
        let fds = scene.victim.fds();
        let mut open = Vec::new();
        for number in 0..CONNECTIONS {
            let mut socket = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
            let said: &[u8] = match number % 5 {
                0 => b"",
                1 => b"GET /metrics HTTP/1.1\r\nHost: ",
                2 => b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                3 => b"GET /status.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                _ => b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            };
            // It may have given way already.
            let _ = socket.write_all(said);
            open.push(socket);
        }
        crowd.await_rounds(ENOUGH);
        let given_way = scene.victim.bites(GAVE_WAY);
        println!("{CONNECTIONS} connections, {given_way} gave way");
        assert!(given_way >= CONNECTIONS as u64 / 5, "{given_way}");
        assert!(scene.victim.fds() < fds + 200, "{}", scene.victim.fds());
        // Whoever asks is answered.
        assert!(metrics::get(address, "/livez").0.contains(" 200 "));
        assert!(metrics::scrape(&scene.victim).len() > 1000);
    });
}
