//! Sits between yamux and the secured connection and reads the 12-byte frame headers.
//!
//! The yamux crate reports FIN, RST and a lost connection alike as a clean end of stream,
//! sends no reset once our side has finished, and flushes after every frame. The tap knows
//! which of the three it was, adds the missing reset and writes many frames at once.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;

use super::{
    super::turn::Turns,
    frames::{FLAG_FIN, HEADER, Header, Scanner, TYPE_GO_AWAY, reset_frame},
    streams::Streams,
};

/// Bytes collected before they are handed to the secured connection. One noise frame.
const BATCH: usize = 64 * 1024;

/// Frames taken, and frames sent, before other tasks get a turn, at most, and however many are busy: yamux
/// itself answers pings for as long as they come, and writes for as long as the remote reads. Without an
/// end that would be 8 MiB and ten milliseconds, for each of hundreds of connections.
const BURST: usize = 512;
const MIN_BURST: usize = 8;

/// Bytes that take about as long as a frame.
const FRAME_BYTES: usize = 8 * 1024;

#[derive(Debug)]
struct Inner<IO> {
    io: IO,
    read: Scanner,
    write: Scanner,
    out: BytesMut,
    streams: Arc<Streams>,
    /// yamux has told the remote that it breaks the protocol.
    violated: bool,
    /// Frames taken in this turn.
    turns: Turns,
    /// Frames sent in this turn.
    sending: Turns,
    /// The latter has ended before all was sent.
    sends_on: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Inner<IO> {
    /// Makes room for what yamux writes next.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() < BATCH {
            return Poll::Ready(Ok(()));
        }
        if self.sending.is_over(BURST, MIN_BURST) {
            self.sends_on = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.sending.did(self.out.len() / FRAME_BYTES);
        self.poll_drain(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        // An idle connection keeps no buffer.
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn add_resets(&mut self) {
        if !self.write.at_boundary() {
            return;
        }
        for stream in self.streams.take_aborted() {
            self.out.extend_from_slice(&reset_frame(stream));
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        // yamux writes each header with one call; one that arrives in pieces goes out as is.
        if self.write.at_boundary() && bytes.len() == HEADER {
            let mut raw = [0; HEADER];
            raw.copy_from_slice(bytes);
            let header = Header::parse(raw);
            // An orderly farewell has the code 0.
            self.violated |= header.kind == TYPE_GO_AWAY && raw[8..] != [0; 4];
            let gone = header.flags & FLAG_FIN != 0 && header.body == 0;
            if gone && self.streams.take_abort(header.stream) {
                // The crate finishes a dropped stream whose remote has finished; the data
                // before it may be incomplete.
                self.out[start..].copy_from_slice(&reset_frame(header.stream));
            }
        }
        let streams = &self.streams;
        self.write.scan(bytes, |header| streams.sent(header));
    }
}

/// The byte stream that yamux runs over. Flushing is left to [`Handle::poll_flush`].
#[derive(Debug)]
pub(super) struct Tap<IO>(Arc<Mutex<Inner<IO>>>);

/// The driving task's side of a [`Tap`].
#[derive(Debug)]
pub(super) struct Handle<IO>(Arc<Mutex<Inner<IO>>>);

pub(super) fn tap<IO>(io: IO, streams: Arc<Streams>) -> (Tap<IO>, Handle<IO>) {
    let inner = Arc::new(Mutex::new(Inner {
        io,
        read: Scanner::default(),
        write: Scanner::default(),
        out: BytesMut::new(),
        streams,
        violated: false,
        turns: Turns::default(),
        sending: Turns::default(),
        sends_on: false,
    }));
    (Tap(inner.clone()), Handle(inner))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Handle<IO> {
    /// Writes what yamux produced since the last call, with the resets it owes.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        if !std::mem::take(&mut inner.sends_on) {
            // yamux has no more to send, or the remote takes no more.
            inner.sending.rest();
        }
        inner.add_resets();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_flush(cx)
    }

    /// Reads and discards until the remote ends the connection.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock();
        let mut discarded = [0; 4096];
        while let Ok(1..) = ready!(Pin::new(&mut inner.io).poll_read(cx, &mut discarded)) {}
        Poll::Ready(())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.0.lock();
        if inner.violated {
            // yamux itself would read on, and a remote could break the rules without end. It
            // hears of it if it listens.
            let _ = inner.poll_drain(cx)?;
            let _ = Pin::new(&mut inner.io).poll_flush(cx)?;
            let reason = "the remote breaks the yamux protocol";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        if inner.turns.is_over(BURST, MIN_BURST) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Poll::Ready(read) = Pin::new(&mut inner.io).poll_read(cx, buf) else {
            inner.turns.rest();
            return Poll::Pending;
        };
        let n = read?;
        let (streams, turns) = (&inner.streams, &mut inner.turns);
        turns.did(n / FRAME_BYTES);
        inner.read.scan(&buf[..n], |header| {
            streams.received(header);
            turns.did(1);
        });
        streams.arriving(inner.read.incomplete());
        Poll::Ready(Ok(n))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_room(cx))?;
        inner.append(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        inner.add_resets();
        ready!(inner.poll_drain(cx))?;
        ready!(Pin::new(&mut inner.io).poll_flush(cx))?;
        Pin::new(&mut inner.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::{Wake, Waker},
    };

    use futures::io::Cursor;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A remote that takes everything at once does not keep a connection's task busy without end.
    #[test]
    fn what_is_sent_in_one_turn_has_an_end() {
        let (mut tap, handle) = tap(Cursor::new(Vec::new()), Arc::default());
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let frame = vec![0; FRAME_BYTES];
        // Of streams that are none: nothing is scanned for.
        let mut turn = || {
            let sent = (0..100_000).take_while(|_| {
                let written = Pin::new(&mut tap).poll_write(&mut cx, &frame);
                matches!(written, Poll::Ready(Ok(_)))
            });
            sent.count()
        };
        let first = turn();
        assert!((MIN_BURST..=2 * BURST).contains(&first), "{first} frames");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "polled again");
        assert!(
            handle
                .poll_flush(&mut Context::from_waker(&waker))
                .is_ready()
        );
    }
}
