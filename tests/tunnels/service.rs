//! Services beside a daemon, each connection in a thread of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::support::PATIENCE;

fn listening(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    // Ends with the test.
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(socket));
        }
    });
    addr
}

/// Sends back what comes, as it comes.
pub fn echo() -> SocketAddr {
    listening(|mut socket| {
        let mut buffer = [0; 16 << 10];
        while let Ok(n @ 1..) = socket.read(&mut buffer) {
            if socket.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

/// Reads to the end, and only then sends it all back.
pub fn after_the_end() -> SocketAddr {
    listening(|mut socket| {
        let mut all = Vec::new();
        if socket.read_to_end(&mut all).is_ok() {
            let _ = socket.write_all(&all);
        }
    })
}

/// Hands over each connection.
pub fn by_hand() -> (SocketAddr, Accepted) {
    let (sender, accepted) = channel();
    let addr = listening(move |socket| {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = sender.send(socket);
    });
    (addr, Accepted(accepted))
}

pub struct Accepted(Receiver<TcpStream>);

impl Accepted {
    pub fn next(&self) -> TcpStream {
        self.0.recv_timeout(PATIENCE).expect("a connection")
    }

    pub fn within(&self, time: Duration) -> Option<TcpStream> {
        self.0.recv_timeout(time).ok()
    }
}

/// A port on which nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}
