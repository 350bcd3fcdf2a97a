//! Sits between yamux and the secured connection and reads the 12-byte frame headers.
//!
//! The yamux crate reports FIN, RST and a lost connection alike as a clean end of stream,
//! sends no reset once our side has finished, and flushes after every frame. The tap knows
//! which of the three it was, adds the missing reset and writes many frames at once.

use std::{
    collections::{HashMap, HashSet},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures::{
    io::{AsyncRead, AsyncWrite},
    task::AtomicWaker,
};

use super::connection::Held;

const HEADER: usize = 12;
const FLAG_SYN: u16 = 1;
const FLAG_FIN: u16 = 4;
const FLAG_RST: u16 = 8;
const TYPE_DATA: u8 = 0;
const TYPE_WINDOW_UPDATE: u8 = 1;
const TYPE_GO_AWAY: u8 = 3;

/// Bytes collected before they are handed to the secured connection. One noise frame.
const BATCH: usize = 64 * 1024;

/// Frames taken before other tasks get a turn: yamux itself answers pings for as long as they
/// come.
const READ_BURST: usize = 256;

/// How the remote's sending side of a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RemoteEnd {
    Open = 0,
    Finished = 1,
    Reset = 2,
}

/// What the tap and the stream's owner share.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    end: AtomicU8,
    /// Bytes received and not read.
    unread: AtomicI64,
    /// Woken when the connection is lost: yamux itself forgets readers when it is closed
    /// from this side.
    pub(super) reader: AtomicWaker,
}

impl StreamState {
    pub(super) fn end(&self) -> RemoteEnd {
        match self.end.load(Ordering::Acquire) {
            0 => RemoteEnd::Open,
            1 => RemoteEnd::Finished,
            _ => RemoteEnd::Reset,
        }
    }

    fn finish(&self, end: RemoteEnd) {
        // The first end stands: data up to a FIN is complete whatever follows.
        let _ = self.end.compare_exchange(
            RemoteEnd::Open as u8,
            end as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
}

#[derive(Debug, Default)]
struct Table {
    streams: HashMap<u32, Arc<StreamState>>,
    aborted: HashSet<u32>,
    lost: bool,
}

/// The streams of one connection, known by their yamux id.
#[derive(Debug, Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
    /// What all of them hold.
    pub(super) held: Arc<Held>,
    /// The task that drives the connection.
    pub(super) driver: AtomicWaker,
}

impl Streams {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams open now.
    pub(super) fn count(&self) -> usize {
        self.table().streams.len()
    }

    /// The state of stream `id`, made on first use.
    pub(super) fn state(&self, id: u32) -> Arc<StreamState> {
        let mut table = self.table();
        let lost = table.lost;
        let state = table.streams.entry(id).or_default();
        if lost {
            state.finish(RemoteEnd::Reset);
        }
        state.clone()
    }

    /// The owner of a stream has read `n` bytes.
    pub(super) fn read(&self, state: &StreamState, n: usize) {
        let n = bytes(n);
        state.unread.fetch_sub(n, Ordering::Relaxed);
        self.held.unread.fetch_sub(n, Ordering::Relaxed);
    }

    /// yamux has taken `n` bytes to send.
    pub(super) fn queued(&self, n: usize) {
        self.held.unsent.fetch_add(bytes(n), Ordering::Relaxed);
    }

    /// Forgets stream `id`; with `abort`, the remote is told by a reset.
    pub(super) fn release(&self, id: u32, abort: bool) {
        let mut table = self.table();
        if let Some(state) = table.streams.remove(&id) {
            let unread = state.unread.load(Ordering::Relaxed);
            self.held.unread.fetch_sub(unread, Ordering::Relaxed);
        }
        if abort && !table.lost {
            table.aborted.insert(id);
            drop(table);
            self.driver.wake();
        }
    }

    /// Ends every stream that the remote has not finished and wakes its reader.
    pub(super) fn connection_lost(&self) {
        let mut table = self.table();
        table.lost = true;
        table.aborted = HashSet::new();
        for state in table.streams.values() {
            state.finish(RemoteEnd::Reset);
            state.reader.wake();
        }
    }

    fn received(&self, header: &Header) {
        if !matches!(header.kind, TYPE_DATA | TYPE_WINDOW_UPDATE) {
            return;
        }
        if header.flags & (FLAG_SYN | FLAG_FIN | FLAG_RST) == 0 && header.body == 0 {
            return;
        }
        let mut table = self.table();
        let end = if header.flags & FLAG_RST != 0 {
            RemoteEnd::Reset
        } else if header.flags & FLAG_FIN != 0 {
            RemoteEnd::Finished
        } else {
            RemoteEnd::Open
        };
        if header.flags & FLAG_SYN != 0 && header.flags & FLAG_RST == 0 {
            // yamux creates the stream or says farewell, upon which the tap ends the
            // connection: this entry is released by its owner or dropped with the table.
            table.streams.entry(header.stream).or_default().finish(end);
        } else if end != RemoteEnd::Open
            && let Some(state) = table.streams.get(&header.stream)
        {
            state.finish(end);
        }
        if header.body > 0
            && let Some(state) = table.streams.get(&header.stream)
        {
            let body = i64::from(header.body);
            state.unread.fetch_add(body, Ordering::Relaxed);
            self.held.unread.fetch_add(body, Ordering::Relaxed);
        }
    }

    fn sent(&self, header: &Header) {
        let body = i64::from(header.body);
        self.held.unsent.fetch_sub(body, Ordering::Relaxed);
    }
}

fn bytes(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u8,
    flags: u16,
    stream: u32,
    body: u32,
}

impl Header {
    fn parse(bytes: [u8; HEADER]) -> Self {
        let kind = bytes[1];
        let length = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        Self {
            kind,
            flags: u16::from_be_bytes([bytes[2], bytes[3]]),
            stream: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            // Only data frames have a body; elsewhere the field is a credit or a code.
            body: if kind == TYPE_DATA { length } else { 0 },
        }
    }
}

fn reset_frame(stream: u32) -> [u8; HEADER] {
    let [a, b, c, d] = stream.to_be_bytes();
    let [f, g] = FLAG_RST.to_be_bytes();
    [0, TYPE_DATA, f, g, a, b, c, d, 0, 0, 0, 0]
}

/// Follows frame boundaries in a byte stream.
#[derive(Debug, Default)]
struct Scanner {
    header: [u8; HEADER],
    filled: usize,
    body: usize,
}

impl Scanner {
    fn at_boundary(&self) -> bool {
        self.filled == 0
    }

    /// Calls `on_frame` for each frame whose last byte is in `bytes`.
    fn scan(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(&Header)) {
        while !bytes.is_empty() {
            if self.filled < HEADER {
                let n = (HEADER - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
                self.filled += n;
                bytes = &bytes[n..];
                if self.filled < HEADER {
                    return;
                }
                self.body = Header::parse(self.header).body as usize;
            }
            let n = self.body.min(bytes.len());
            self.body -= n;
            bytes = &bytes[n..];
            if self.body == 0 {
                self.filled = 0;
                on_frame(&Header::parse(self.header));
            }
        }
    }
}

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
    burst: usize,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Inner<IO> {
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
        let aborted = std::mem::take(&mut self.streams.table().aborted);
        for stream in aborted {
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
            if gone && self.streams.table().aborted.remove(&header.stream) {
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
        burst: 0,
    }));
    (Tap(inner.clone()), Handle(inner))
}

fn lock<IO>(inner: &Mutex<Inner<IO>>) -> MutexGuard<'_, Inner<IO>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Handle<IO> {
    /// Writes what yamux produced since the last call, with the resets it owes.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        inner.add_resets();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.io).poll_flush(cx)
    }

    /// Reads and discards until the remote ends the connection.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = lock(&self.0);
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
        let inner = &mut *lock(&self.0);
        if inner.violated {
            // yamux itself would read on, and a remote could break the rules without end. It
            // hears of it if it listens.
            let _ = inner.poll_drain(cx)?;
            let _ = Pin::new(&mut inner.io).poll_flush(cx)?;
            let reason = "the remote breaks the yamux protocol";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        if inner.burst >= READ_BURST {
            inner.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = ready!(Pin::new(&mut inner.io).poll_read(cx, buf))?;
        let (streams, burst) = (&inner.streams, &mut inner.burst);
        inner.read.scan(&buf[..n], |header| {
            streams.received(header);
            *burst += 1;
        });
        Poll::Ready(Ok(n))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = lock(&self.0);
        if inner.out.len() >= BATCH {
            ready!(inner.poll_drain(cx))?;
        }
        inner.append(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        inner.add_resets();
        ready!(inner.poll_drain(cx))?;
        ready!(Pin::new(&mut inner.io).poll_flush(cx))?;
        Pin::new(&mut inner.io).poll_close(cx)
    }
}
