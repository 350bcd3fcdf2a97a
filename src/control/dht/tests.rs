use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::BytesMut;
use futures::channel::mpsc;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::control::socket::TICK;
use crate::{dht::PeerInfo, memory::Ledger, wire::frame};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A query that tells when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A session that streams, its client, and what it is told.
struct Run {
    client: UnixStream,
    closing: CancellationToken,
    dropped: Arc<AtomicBool>,
    served: JoinHandle<io::Result<Served>>,
}

fn run(values: BoxStream<'static, pb::DhtResponse>, time: Duration) -> Run {
    let (client, socket) = UnixStream::pair().unwrap();
    let closing = CancellationToken::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Guard(dropped.clone());
    let values = values.inspect(move |_| {
        let _ = &guard;
    });
    let token = closing.clone();
    #[allow(clippy::disallowed_methods, reason = "the test waits for it")]
    let served = tokio::spawn(async move {
        let mut socket = Socket::Unix(socket);
        let mut output = Output::narrow(&Ledger::new(0).client());
        let mut asker = Asker {
            socket: &mut socket,
            output: &mut output,
            closing: &token,
        };
        asker.stream(values.boxed(), Instant::now() + time).await
    });
    Run {
        client,
        closing,
        dropped,
        served,
    }
}

impl Run {
    async fn read_frame(&mut self, input: &mut BytesMut) -> bytes::Bytes {
        loop {
            if let Some(frame) = frame::take(input, usize::MAX).unwrap() {
                return frame;
            }
            let read = timeout(PATIENCE, self.client.read_buf(input)).await;
            assert_ne!(read.unwrap().unwrap(), 0, "an early end");
        }
    }

    async fn ended(self) -> Served {
        let served = timeout(PATIENCE, self.served).await;
        let served = served.unwrap().unwrap().unwrap();
        assert!(self.dropped.load(Ordering::SeqCst), "the query goes on");
        served
    }
}

fn value(bytes: &[u8]) -> pb::DhtResponse {
    response::dht_value(bytes.to_vec())
}

/// BEGIN comes inside of a Response, the others bare; an empty value is there (field 3).
#[tokio::test]
async fn frames_are_those_of_go_byte_for_byte() {
    let peer = PeerId::from_bytes(b"\x00\x01p").unwrap();
    let info = PeerInfo {
        id: peer,
        addresses: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()],
    };
    let values = vec![value(b"v"), value(b""), response::dht_peer(&info)];
    let mut run = run(stream::iter(values).boxed(), PATIENCE);
    let expected = [
        &b"\x06\x08\x00\x2a\x02\x08\x00"[..],
        b"\x05\x08\x01\x1a\x01v",
        b"\x04\x08\x01\x1a\x00",
        b"\x13\x08\x01\x12\x0f\x0a\x03\x00\x01p\x12\x08\x04\x01\x02\x03\x04\x06\x00\x05",
        b"\x02\x08\x02",
    ]
    .concat();
    let mut read = vec![0; expected.len()];
    let done = timeout(PATIENCE, run.client.read_exact(&mut read)).await;
    done.unwrap().unwrap();
    assert_eq!(read, expected);
    assert!(matches!(run.ended().await, Served::Streamed));
}

#[tokio::test]
async fn what_is_found_is_told_at_once() {
    let (mut found, values) = mpsc::channel(1);
    let mut run = run(values.boxed(), PATIENCE);
    let mut input = BytesMut::new();
    let begin = pb::Response::decode(run.read_frame(&mut input).await).unwrap();
    assert_eq!(begin, response::dht(response::dht_begin()));
    for n in 0..3 {
        found.try_send(value(&[n])).unwrap();
        assert_eq!(
            run.read_frame(&mut input).await,
            value(&[n]).encode_to_vec()
        );
    }
    drop(found);
    assert_eq!(
        run.read_frame(&mut input).await,
        response::dht_end().encode_to_vec()
    );
    assert!(matches!(run.ended().await, Served::Streamed));
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_query() {
    let (_found, values) = mpsc::channel(1);
    let mut run = run(values.boxed(), PATIENCE);
    run.read_frame(&mut BytesMut::new()).await;
    let (client, gone) = UnixStream::pair().unwrap();
    drop((std::mem::replace(&mut run.client, client), gone));
    assert!(matches!(run.ended().await, Served::Abandoned));
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let (mut found, values) = mpsc::channel(1);
    let mut run = run(values.boxed(), PATIENCE);
    let mut input = BytesMut::new();
    run.read_frame(&mut input).await;
    run.client.shutdown().await.unwrap();
    // Longer than it takes to notice a client that has gone.
    tokio::time::sleep(2 * TICK).await;
    found.try_send(value(b"v")).unwrap();
    assert_eq!(
        run.read_frame(&mut input).await,
        value(b"v").encode_to_vec()
    );
    drop(found);
    run.read_frame(&mut input).await;
    assert!(matches!(run.ended().await, Served::Streamed));
}

#[tokio::test]
async fn the_end_of_the_daemon_ends_the_query() {
    let (_found, values) = mpsc::channel(1);
    let mut run = run(values.boxed(), PATIENCE);
    run.read_frame(&mut BytesMut::new()).await;
    run.closing.cancel();
    assert!(matches!(run.ended().await, Served::Abandoned));
}

/// Both a client that reads nothing until the deadline and values without end cost no more
/// than a batch.
#[tokio::test]
async fn a_client_that_does_not_read_keeps_no_query() {
    let values = stream::repeat_with(|| value(&[7; 9000]));
    let mut run = run(values.boxed(), Duration::from_millis(300));
    let dropped = run.dropped.clone();
    let waited = timeout(PATIENCE, async {
        while !dropped.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap();
    let mut input = BytesMut::new();
    run.read_frame(&mut input).await;
    let mut values = 0;
    loop {
        let frame = pb::DhtResponse::decode(run.read_frame(&mut input).await).unwrap();
        if frame == response::dht_end() {
            break;
        }
        assert_eq!(frame, value(&[7; 9000]));
        values += 1;
    }
    assert!(values > 0);
    assert!(matches!(run.ended().await, Served::Streamed));
}
