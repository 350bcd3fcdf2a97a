//! The writer's side of what waits for the client.

use std::{io, pin::pin, sync::Arc};

use bytes::BytesMut;
use futures::FutureExt as _;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc::Receiver,
};

use super::Queued;
use crate::{
    control::{blocked, output::Output},
    memory::{Account, Charge},
};

/// Bytes of small frames written at once.
const MAX_BATCH: usize = 64 * 1024;

/// Bytes of buffer that an idle connection keeps.
const KEPT: usize = 4096;

/// What is written to the client.
#[derive(Debug)]
pub(in super::super) struct Lanes {
    small: Receiver<Queued>,
    large: Receiver<Queued>,
    /// Small frames to be written next, and what they are charged with.
    batch: BytesMut,
    charge: Charge,
    /// A large one to be written then.
    frame: Option<Queued>,
    account: Arc<Account>,
    /// Bytes of the socket's buffer.
    buffer: usize,
}

impl Lanes {
    pub(super) fn new(
        preface: Output,
        small: Receiver<Queued>,
        large: Receiver<Queued>,
        account: Arc<Account>,
        buffer: usize,
    ) -> Self {
        let (batch, charge) = preface.into_parts();
        Self {
            small,
            large,
            batch,
            charge,
            account,
            buffer,
            frame: None,
        }
    }

    /// Writes what is sent, for as long as there are senders.
    ///
    /// # Cancel safety
    /// A later call goes on where the last one stopped.
    pub(in super::super) async fn write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        loop {
            self.write_taken(socket).await?;
            if self.batch.capacity() > KEPT {
                self.batch = BytesMut::new();
            }
            tokio::select! {
                biased;
                Some(queued) = self.small.recv() => {
                    self.add(queued);
                    self.frame = self.large.try_recv().ok();
                }
                Some(queued) = self.large.recv() => self.frame = Some(queued),
                else => return Ok(()),
            }
            while self.batch.len() < MAX_BATCH {
                let Ok(queued) = self.small.try_recv() else {
                    break;
                };
                self.add(queued);
            }
        }
    }

    /// Writes what has been taken from the lanes.
    async fn write_taken(&mut self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (batch, frame) = (&mut self.batch, &mut self.frame);
        let mut writing = pin!(async {
            socket.write_all_buf(batch).await?;
            if let Some(large) = frame {
                socket.write_all_buf(&mut large.frame).await?;
            }
            Ok(())
        });
        match writing.as_mut().now_or_never() {
            Some(written) => written?,
            None => blocked::charged(&self.account, self.buffer, writing).await?,
        }
        self.charge.shrink(0);
        self.frame = None;
        Ok(())
    }

    fn add(&mut self, queued: Queued) {
        self.batch.extend_from_slice(&queued.frame);
        self.charge.merge(queued.charge);
    }

    /// Takes nothing more; [`Lanes::write`] then ends when what was queued is written.
    pub(in super::super) fn close(&mut self) {
        self.small.close();
        self.large.close();
    }
}
