//! Fuzz target: the negotiation of inbound streams, over a yamux connection in memory, checked
//! against a model.

mod connection;
mod model;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::noop_waker,
};
use libp2p::{Multiaddr, PeerId, core::StreamMuxer as _};
use tokio::{runtime, sync::mpsc, task::yield_now};
use tokio_util::task::TaskTracker;

use super::{
    MAX_NAME,
    negotiate::{self, Choice, Negotiated},
};
use crate::{
    fuzz_input::Input,
    muxer::{Connection, Handover, Host, MAX_STREAMS, Muxer, Protocol, Substream},
};
use connection::{Remote, frame};
use model::{Outcome, expected};

/// A name of the daemon's clients, without a slash as Hivemind's are.
const USER: &str = "user";

/// A name of the library.
const LIBRARY: &str = "/library/1";

fn choose(name: &[u8]) -> Choice<()> {
    if name == USER.as_bytes() {
        Choice::Accept(())
    } else if name == LIBRARY.as_bytes() {
        Choice::Library
    } else {
        Choice::Refuse
    }
}

/// Negotiates streams, and says how each ended.
#[derive(Debug)]
struct Listener {
    outcomes: mpsc::Sender<Outcome>,
    tasks: TaskTracker,
}

impl Host for Listener {
    fn connected(&self, _: &Arc<Connection>) {}

    fn disconnected(&self, _: &Arc<Connection>) {}

    fn max_streams(&self) -> usize {
        MAX_STREAMS
    }

    fn inbound(&self, _: &Arc<Connection>, stream: Substream, _: Handover) {
        let outcomes = self.outcomes.clone();
        self.tasks.spawn(async move {
            let outcome = negotiate(stream).await;
            let _ = outcomes.send(outcome).await;
        });
    }

    fn refused(&self, _: &Arc<Connection>) {}
}

/// What follows the negotiation is sent back on a client's stream, and read on a library's.
async fn negotiate(stream: Substream) -> Outcome {
    let mut payload = Vec::new();
    match negotiate::listen(stream, None, choose, || std::future::ready(())).await {
        Ok(Negotiated::User {
            mut stream, name, ..
        }) => {
            assert_eq!(name.to_str(), Some(USER));
            let read = stream.read_to_end(&mut payload).await;
            assert!(read.is_ok(), "the remote finishes in order");
            let _ = stream.write_all(&payload).await;
            let _ = stream.close().await;
            Outcome::User
        }
        Ok(Negotiated::Library(mut stream)) => {
            let read = stream.read_to_end(&mut payload).await;
            assert!(read.is_ok(), "the remote finishes in order");
            Outcome::Library(payload)
        }
        Err(_) => Outcome::Failed,
    }
}

/// One stream: the messages that the remote sends, cut into frames anywhere, and its end. What
/// comes back is what the model says.
pub(crate) fn negotiation(data: &[u8]) {
    let mut input = Input::new(data);
    let step = usize::from(input.byte()) + 1;
    let mut sent = Vec::new();
    while !input.is_empty() && sent.len() < 32 << 10 {
        message(&mut input, &mut sent);
    }
    let runtime = runtime::Builder::new_current_thread().enable_time().build();
    assert!(runtime.is_ok(), "a runtime");
    if let Ok(runtime) = runtime {
        runtime.block_on(exchange(&sent, step));
    }
}

fn message(input: &mut Input<'_>, sent: &mut Vec<u8>) {
    let name: &[u8] = match input.byte() % 8 {
        0 | 1 => b"/multistream/1.0.0",
        2 => USER.as_bytes(),
        3 => LIBRARY.as_bytes(),
        4 => b"ls",
        5 => input.chunk(),
        6 => &[b'x'; MAX_NAME],
        _ => return sent.extend_from_slice(input.chunk()),
    };
    let mut length = unsigned_varint::encode::usize_buffer();
    sent.extend_from_slice(unsigned_varint::encode::usize(name.len() + 1, &mut length));
    sent.extend_from_slice(name);
    sent.push(b'\n');
}

async fn exchange(sent: &[u8], step: usize) {
    let (outcomes, mut ended) = mpsc::channel(1);
    let tasks = TaskTracker::new();
    let host = Arc::new(Listener {
        outcomes,
        tasks: tasks.clone(),
    });
    let remote = Remote::default();
    let io = Box::pin(remote.clone());
    let mut muxer = Muxer::new(
        Protocol::Yamux { io, dialer: false },
        PeerId::random(),
        Multiaddr::empty(),
        false,
        "",
        host,
    );
    // The connection's task begins when it is polled.
    let started = Pin::new(&mut muxer).poll(&mut Context::from_waker(&noop_waker()));
    assert!(matches!(started, Poll::Pending), "an open connection");
    remote.send(&frame(1, 1, &[]));
    for chunk in sent.chunks(step) {
        remote.send(&frame(0, 0, chunk));
        yield_now().await;
    }
    remote.send(&frame(0, 4, &[]));
    let outcome = ended.recv().await;
    // The task may still have to send what the stream said last.
    remote.sent_all().await;
    remote.end();
    let over = poll_fn(|cx| Pin::new(&mut muxer).poll(cx)).await;
    assert!(over.is_err(), "the connection ends with its remote");
    tasks.close();
    tasks.wait().await;
    let (wanted, answers) = expected(sent);
    assert_eq!(outcome, Some(wanted));
    let received = remote.received();
    assert!(
        answers.contains(&received),
        "{received:?} is none of {answers:?}"
    );
}
