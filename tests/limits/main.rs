//! What the daemon does when memory or descriptors run out, and what it forgets of peers
//! (SECURITY.md 3).

#[path = "../support/mod.rs"]
mod support;

mod book;
mod descriptors;
mod memory;
mod settings;

use std::time::Duration;

use support::{ControlClient, Daemon, Launch, PATIENCE, Pipe, eventually};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A daemon that listens.
fn node(flags: &[&str]) -> Daemon {
    Launch::new()
        .args([LISTEN])
        .args(flags.iter().copied())
        .spawn()
}

/// One `/echo` stream that stays open.
struct Echo(Pipe);

impl Echo {
    fn open(from: &Daemon, to: &Daemon) -> Self {
        let (_, pipe) = from
            .client()
            .open_stream(to.peer_id(), &["/echo/1.0.0"])
            .expect("open an echo");
        Self(pipe)
    }

    /// Whether what is sent comes back.
    fn works(&mut self) -> bool {
        use std::io::{Read as _, Write as _};
        let mut back = [0; 5];
        let sent = self.0.write_all(b"hello").is_ok();
        sent && self.0.read_exact(&mut back).is_ok() && back == *b"hello"
    }
}
