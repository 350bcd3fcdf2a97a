//! What waits to be written to the client of a persistent connection.
//!
//! Large frames have a lane of their own, which holds one: whoever has another waits with it.
//! Between two of them all small ones that have come are written, so that a call of a few
//! bytes never waits for more than one frame.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc::{self, Receiver, Sender},
};

/// Largest frame that counts as small, in bytes.
const SMALL: usize = 64 * 1024;

/// Small frames that wait for the client (SECURITY.md 3); further senders wait.
const MAX_SMALL: usize = 64;

/// Large frames that wait for the client (SECURITY.md 3); further senders wait.
const MAX_LARGE: usize = 1;

/// Bytes of small frames written at once.
const MAX_BATCH: usize = 64 * 1024;

/// Bytes of buffer that an idle connection keeps.
const KEPT: usize = 4096;

/// Which way a frame has gone. What must arrive after it takes the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Small,
    Large,
}

/// The connection has ended.
#[derive(Debug)]
pub(super) struct Ended;

/// The senders' side.
#[derive(Debug)]
pub(super) struct Outbox {
    small: Sender<Bytes>,
    large: Sender<Bytes>,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Lanes {
    small: Receiver<Bytes>,
    large: Receiver<Bytes>,
    /// Small frames to be written next, and then a large one.
    batch: BytesMut,
    frame: Bytes,
}

/// `preface` is what the client gets first.
pub(super) fn outbox(preface: BytesMut) -> (Outbox, Lanes) {
    let (small, small_lane) = mpsc::channel(MAX_SMALL);
    let (large, large_lane) = mpsc::channel(MAX_LARGE);
    let lanes = Lanes {
        small: small_lane,
        large: large_lane,
        batch: preface,
        frame: Bytes::new(),
    };
    (Outbox { small, large }, lanes)
}

impl Outbox {
    /// Queues `frame`, after waiting for a place.
    ///
    /// # Cancel safety
    /// A frame whose future is dropped is not sent.
    pub(super) async fn send(&self, frame: Bytes) -> Result<Lane, Ended> {
        let lane = if frame.len() > SMALL {
            Lane::Large
        } else {
            Lane::Small
        };
        self.send_by(lane, frame).await?;
        Ok(lane)
    }

    /// As [`Outbox::send`], behind what went by `lane`.
    pub(super) async fn send_by(&self, lane: Lane, frame: Bytes) -> Result<(), Ended> {
        let sender = match lane {
            Lane::Small => &self.small,
            Lane::Large => &self.large,
        };
        sender.send(frame).await.map_err(|_| Ended)
    }
}

impl Lanes {
    /// Writes what is sent, for as long as there are senders.
    ///
    /// # Cancel safety
    /// A later call goes on where the last one stopped.
    pub(super) async fn write(&mut self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            socket.write_all_buf(&mut self.batch).await?;
            socket.write_all_buf(&mut self.frame).await?;
            if self.batch.capacity() > KEPT {
                self.batch = BytesMut::new();
            }
            tokio::select! {
                biased;
                Some(frame) = self.small.recv() => {
                    self.batch.extend_from_slice(&frame);
                    self.frame = self.large.try_recv().unwrap_or_default();
                }
                Some(frame) = self.large.recv() => self.frame = frame,
                else => return Ok(()),
            }
            while self.batch.len() < MAX_BATCH {
                let Ok(frame) = self.small.try_recv() else {
                    break;
                };
                self.batch.extend_from_slice(&frame);
            }
        }
    }

    /// Takes nothing more; [`Lanes::write`] then ends when what was queued is written.
    pub(super) fn close(&mut self) {
        self.small.close();
        self.large.close();
    }
}
