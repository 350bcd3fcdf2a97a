//! The streams of one yamux connection, by their ids.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU8, Ordering},
    },
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use super::frames::{FLAG_FIN, FLAG_RST, FLAG_SYN, Header, TYPE_DATA, TYPE_WINDOW_UPDATE};
use crate::muxer::buffered::Buffered;

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
    pub(super) buffered: Arc<Buffered>,
    /// The task that drives the connection.
    pub(super) driver: AtomicWaker,
}

impl Streams {
    /// Streams open now.
    pub(super) fn count(&self) -> usize {
        self.table.lock().streams.len()
    }

    /// The state of stream `id`, made on first use.
    pub(super) fn state(&self, id: u32) -> Arc<StreamState> {
        let mut table = self.table.lock();
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
        self.buffered.unread.fetch_sub(n, Ordering::Relaxed);
    }

    /// yamux has taken `n` bytes to send.
    pub(super) fn queued(&self, n: usize) {
        self.buffered.unsent.fetch_add(bytes(n), Ordering::Relaxed);
    }

    /// Forgets stream `id`; with `abort`, the remote is told by a reset.
    pub(super) fn release(&self, id: u32, abort: bool) {
        let mut table = self.table.lock();
        if let Some(state) = table.streams.remove(&id) {
            let unread = state.unread.load(Ordering::Relaxed);
            self.buffered.unread.fetch_sub(unread, Ordering::Relaxed);
        }
        if abort && !table.lost {
            table.aborted.insert(id);
            drop(table);
            self.driver.wake();
        }
    }

    /// The streams whose remotes are owed a reset.
    pub(super) fn take_aborted(&self) -> HashSet<u32> {
        std::mem::take(&mut self.table.lock().aborted)
    }

    /// Whether the remote is owed a reset of stream `id`; not any more after this.
    pub(super) fn take_abort(&self, id: u32) -> bool {
        self.table.lock().aborted.remove(&id)
    }

    /// Ends every stream that the remote has not finished and wakes its reader.
    pub(super) fn connection_lost(&self) {
        let mut table = self.table.lock();
        table.lost = true;
        table.aborted = HashSet::new();
        for state in table.streams.values() {
            state.finish(RemoteEnd::Reset);
            state.reader.wake();
        }
    }

    pub(super) fn received(&self, header: &Header) {
        if !matches!(header.kind, TYPE_DATA | TYPE_WINDOW_UPDATE) {
            return;
        }
        if header.flags & (FLAG_SYN | FLAG_FIN | FLAG_RST) == 0 && header.body == 0 {
            return;
        }
        let mut table = self.table.lock();
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
            self.buffered.unread.fetch_add(body, Ordering::Relaxed);
        }
    }

    /// The frame that is arriving has a body of so many bytes; 0 if there is none.
    pub(super) fn arriving(&self, body: u32) {
        let arriving = &self.buffered.arriving;
        arriving.store(body.into(), Ordering::Relaxed);
    }

    pub(super) fn sent(&self, header: &Header) {
        let body = i64::from(header.body);
        self.buffered.unsent.fetch_sub(body, Ordering::Relaxed);
    }
}

fn bytes(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
