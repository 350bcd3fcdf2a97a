//! Clients that mean harm, beside those that do not.

use rp2pd::wire::pb::{Response, response};

use super::*;
use crate::support::{ControlClient, raw};

pub fn ten_thousand_connections() {
    let scene = Scene::new(&[]);
    // Those that are connected are served; where all places are taken, newcomers wait. What 8,192
    // sessions took is kept for the next ones.
    scene.under("10,000 clients", Streams::Kept, |crowd| {
        let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft);
        let wanted = usize::try_from(limit / 2).unwrap_or(usize::MAX).min(10_000);
        let mut clients: Vec<ControlClient> = Vec::with_capacity(wanted);
        while clients.len() < wanted {
            clients.push(scene.victim.client());
        }
        // The last ones wait in the kernel's queue until it is their turn.
        let accepted = || scene.victim.fds() > wanted.min(8000);
        assert!(
            eventually(support::PATIENCE, accepted),
            "they are not accepted"
        );
        println!(
            "{wanted} connections, {} descriptors of the daemon",
            scene.victim.fds()
        );
        crowd.await_rounds(ENOUGH);
        for client in clients.iter_mut().take(1000) {
            let _ = client.identify();
        }
        // A storm of those that come and go.
        drop(clients);
        let start = crowd.rounds();
        let mut come = 0;
        while crowd.rounds() < start + ENOUGH {
            drop(scene.victim.client());
            come += 1;
        }
        println!("{come} connections came and went");
    });
}

pub fn half_frames_held_open() {
    const HALVES: usize = 3000;
    let scene = Scene::new(&[]);
    scene.under("half frames", Streams::New, |crowd| {
        let mut halves = Vec::with_capacity(HALVES);
        let announced = raw::varint(4 << 20);
        for number in 0..HALVES {
            let mut client = scene.victim.client();
            let half = [&announced[..], &[8; 2000]].concat();
            client
                .send_raw(&half[..1 + number % half.len()])
                .expect("send");
            halves.push(client);
        }
        // 3,000 that connect at once are a moment's work for everybody; what counts is that they stay.
        crowd.await_rounds(4 * ENOUGH);
        println!("{HALVES} halves, RSS {} KiB", scene.victim.rss_kib());
        // They were all held, none was taken for a request.
        assert!(scene.victim.fds() > HALVES);
    });
}

fn registration(addr: &[u8], name: &str, balanced: bool) -> Vec<u8> {
    let mut body = [raw::bytes(1, addr), raw::bytes(2, name.as_bytes())].concat();
    body.extend(raw::int(3, balanced.into()));
    raw::frame(&[raw::int(1, 3), raw::bytes(4, &body)].concat())
}

pub fn storms_of_handlers() {
    const STORMS: usize = 8;
    let scene = Scene::new(&[]);
    scene.under("handlers", Streams::New, |crowd| {
        let start = crowd.rounds();
        let total: (usize, usize) = std::thread::scope(|scope| {
            let storms: Vec<_> = (0..STORMS)
                .map(|storm| {
                    let victim = &scene.victim;
                    scope.spawn(move || {
                        let (mut sent, mut accepted) = (0, 0);
                        let addr = format!("/tmp/no/handler/{storm}");
                        let addr = [vec![0x90, 0x03], raw::frame(addr.as_bytes())].concat();
                        let mut client = victim.client();
                        while crowd.rounds() < start + ENOUGH {
                            // Each name anew: peers are told of it every time.
                            let batch: Vec<u8> = (0..100)
                                .flat_map(|name| {
                                    let name = format!("/storm/{storm}/{}", (sent + name) % 2000);
                                    registration(&addr, &name, name.len() % 2 == 0)
                                })
                                .collect();
                            client.send_raw(&batch).expect("send");
                            for _ in 0..100 {
                                let answer: Response = client.receive().expect("an answer");
                                accepted += usize::from(answer.r#type() == response::Type::Ok);
                            }
                            sent += 100;
                        }
                        (sent, accepted)
                    })
                })
                .collect();
            storms
                .into_iter()
                .map(|storm| storm.join().expect("a storm"))
                .fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
        });
        println!("{} registrations, {} accepted", total.0, total.1);
        assert!(total.0 > 5000 && total.1 > 1000);
    });
}
