//! Text that a peer hides in an address.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::*;
use crate::support::dht::cid;
use crate::support::kad::{Kind, Peer, Puppet, Reply, admitted, polite};
use crate::support::{PATIENCE, eventually};

/// The end of the request that a websocket begins with, another one, and the start of a third for
/// the rest.
const PATH: &str =
    "/ HTTP/1.1\r\nHost: x\r\n\r\nPOST /smuggled HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /";

/// The code of a websocket with a path, as it stands in the bytes of an address.
const WS_WITH_PATH: [u8; 2] = [0xa2, 0x25];

/// A service on this machine: what each of its connections has said. It answers nobody.
struct Service {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Service {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let at = listener.local_addr().expect("an address");
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let kept = heard.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                let _ = socket.set_read_timeout(Some(Duration::from_millis(500)));
                let mut said = vec![0; 4096];
                let length = socket.read(&mut said).unwrap_or(0);
                said.truncate(length);
                kept.lock().expect("no panic").push(said);
                let _ = socket.flush();
            }
        });
        Self { at, heard }
    }

    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("no panic");
        let text = |said: &Vec<u8>| String::from_utf8_lossy(said).into_owned();
        heard.iter().map(text).collect()
    }

    fn tcp(&self, host: Protocol<'static>) -> Multiaddr {
        Multiaddr::empty()
            .with(host)
            .with(Protocol::Tcp(self.at.port()))
    }
}

/// Answers that lead to a service with a path that holds another request. Beside each stands an
/// address without a path, so that something is dialed in any case.
#[test]
fn a_path_with_a_request_in_it_reaches_no_service() {
    let (service, beside) = (Service::start(), Service::start());
    let loopback = || Protocol::Ip4([127, 0, 0, 1].into());
    let smuggling = [
        service.tcp(loopback()).with(Protocol::Ws(PATH.into())),
        service
            .tcp(Protocol::Dns4("localhost".into()))
            .with(Protocol::Ws(PATH.into())),
        service
            .tcp(loopback())
            .with(Protocol::Ws("/admin?delete=all".into())),
    ];
    for address in &smuggling {
        let bytes = address.to_vec();
        assert!(bytes.windows(2).any(|code| code == WS_WITH_PATH));
    }
    let plain = beside.tcp(loopback());
    let told: Vec<Multiaddr> = smuggling.into_iter().chain([plain]).collect();
    let (found, provider) = (PeerId::random(), PeerId::random());
    let content = cid(b"content");
    let puppet = Puppet::new(admitted(move |own, asked| {
        let mut reply = asked.reply();
        match asked.kind() {
            Kind::FindNode if asked.key == found.to_bytes() => {
                reply.closer.push(Peer::new(found, &told));
            }
            Kind::GetProviders => reply.providers.push(Peer::new(provider, &told)),
            _ => return polite(own, asked),
        }
        Reply::Message(reply)
    }));
    let node = client_mode();
    puppet.join(&node);

    let error = node.client().connect_to(found, &[]);
    let error = error.expect_err("nobody is there");
    assert!(error.contains("all dials failed"), "{error}");
    let dialed = |times: usize| eventually(PATIENCE, || beside.heard().len() >= times);
    assert!(dialed(1), "nothing that was told was dialed");

    let providers = node.client().find_providers(&content, Some(1));
    let providers = providers.expect("FIND_PROVIDERS");
    assert_eq!(providers[0].0, provider);
    let before = beside.heard().len();
    let error = node.client().connect_to(provider, &[]);
    let error = error.expect_err("nobody is there");
    assert!(error.contains("all dials failed"), "{error}");
    assert!(dialed(before + 1), "nothing that was told was dialed");

    assert!(service.heard().is_empty(), "{:?}", service.heard());
}
