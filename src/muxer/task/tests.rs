use futures::AsyncWriteExt as _;
use libp2p::tcp::tokio::TcpStream;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::{
    super::{Substream, yamux::YamuxEngine},
    *,
};

/// A host whose connection can be asked for, and which keeps what comes.
#[derive(Default)]
struct Keeper {
    connection: Mutex<Option<Arc<Connection>>>,
    streams: Mutex<Vec<Substream>>,
}

impl Host for Keeper {
    fn connected(&self, connection: &Arc<Connection>) {
        *self.connection.lock() = Some(connection.clone());
    }

    fn disconnected(&self, _: &Arc<Connection>) {}

    fn max_streams(&self) -> usize {
        16
    }

    fn inbound(&self, _: &Arc<Connection>, stream: Substream, _: Handover) {
        self.streams.lock().push(stream);
    }

    fn refused(&self, _: &Arc<Connection>) {}
}

/// Both ends of a socket.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let near = tokio::net::TcpStream::connect(address).await;
    let (far, _) = listener.accept().await.expect("a connection");
    (TcpStream(near.expect("a connection")), TcpStream(far))
}

/// One side of a connection, and the connection once its task runs.
async fn side(io: TcpStream, dialed: bool) -> (Running, Arc<Connection>) {
    let host = Arc::new(Keeper::default());
    let running = Pending {
        engine: Box::new(YamuxEngine::new(Box::pin(io), dialed)),
        peer: PeerId::random(),
        remote: "/ip4/127.0.0.1/tcp/1".parse().expect("an address"),
        dialed,
        security: "",
        muxer: "",
        host: host.clone(),
    }
    .start();
    loop {
        if let Some(connection) = host.connection.lock().clone() {
            return (running, connection);
        }
        tokio::task::yield_now().await;
    }
}

/// Whoever gets a stream can use it: memory that is short closes no connection under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_being_opened_is_not_lost_to_a_trim() {
    let (mut opened, mut trimmed) = (0, 0);
    for round in 0..400 {
        let (near, far) = pair().await;
        let (_running, connection) = side(near, true).await;
        let _far = side(far, false).await;
        // One or the other comes first, or they meet: the connection's task runs on another thread.
        let trim = async {
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            assert!(connection.close_if_idle());
        };
        let open = async {
            for _ in 0..round % 3 {
                tokio::task::yield_now().await;
            }
            connection.open().await
        };
        let (opening, ()) = tokio::join!(open, trim);
        match opening {
            Ok(mut stream) => {
                opened += 1;
                for _ in 0..20 {
                    stream.write_all(b"?").await.expect("a stream of use");
                    stream.flush().await.expect("a stream of use");
                    tokio::task::yield_now().await;
                }
                assert!(!connection.is_closed());
            }
            Err(_) => trimmed += 1,
        }
    }
    assert_eq!(opened + trimmed, 400);
    assert!(opened > 0, "no stream was ever first");
    // Without a stream it ends.
    let (near, far) = pair().await;
    let (_running, connection) = side(near, true).await;
    let _far = side(far, false).await;
    assert!(connection.close_if_idle());
    while !connection.is_closed() {
        tokio::task::yield_now().await;
    }
}
