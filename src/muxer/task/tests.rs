use futures::AsyncWriteExt as _;
use parking_lot::Mutex;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

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

/// One side of a connection, and the connection once its task runs.
async fn side(io: tokio::io::DuplexStream, dialed: bool) -> (Running, Arc<Connection>) {
    let host = Arc::new(Keeper::default());
    let running = Pending {
        engine: Box::new(YamuxEngine::new(Box::pin(io.compat()), dialed)),
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
        let (near, far) = tokio::io::duplex(64 << 10);
        let (_running, connection) = side(near, true).await;
        let _far = side(far, false).await;
        let opener = connection.clone();
        let opening = tokio::spawn(async move { opener.open().await });
        // One or the other comes first, or they meet.
        for _ in 0..round % 8 {
            tokio::task::yield_now().await;
        }
        assert!(connection.close_if_idle());
        match opening.await.expect("a task") {
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
    let (near, far) = tokio::io::duplex(64 << 10);
    let (_running, connection) = side(near, true).await;
    let _far = side(far, false).await;
    assert!(connection.close_if_idle());
    while !connection.is_closed() {
        tokio::task::yield_now().await;
    }
}
