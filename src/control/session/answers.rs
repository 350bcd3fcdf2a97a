//! What a session writes.

use std::{io, time::Duration};

use futures::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{super::response, Session};
use crate::wire::pb;

/// Time for a client to take the answers that it has waiting when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// Time for a client that is turned away to take the answer.
const LAST_READ: Duration = Duration::from_secs(1);

impl Session {
    /// Queues an answer. Where there is no room for it, what was queued before is written first;
    /// an answer for which there is none then is an ERROR instead.
    pub(super) async fn answer(&mut self, answer: &pb::Response) -> io::Result<()> {
        if self.output.put(answer).is_err() {
            self.flush().await?;
            if self.output.put(answer).is_err() {
                self.output.put_always(&response::over_budget());
            }
        }
        Ok(())
    }

    /// Writes all answers. While the client does not read them, its requests are not about to be
    /// served.
    ///
    /// # Cancel safety
    /// What is not written yet stays.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if let Some(written) = self.write().now_or_never() {
            return written;
        }
        self.attention.forget(&self.socket);
        self.write().await
    }

    /// As [`Session::flush`].
    async fn write(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let closing = &self.context.closing;
        // A client that does not read holds up the end for a moment only.
        let overdue = async {
            closing.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            biased;
            written = self.output.write(&mut self.socket) => written,
            () = overdue => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Answers for the last time. What the client still sends is read for a moment: closing
    /// a socket with unread bytes would destroy the answer.
    pub(super) async fn refuse(mut self, answer: &pb::Response) -> io::Result<()> {
        self.attention.forget(&self.socket);
        self.output.put_always(answer);
        self.flush().await?;
        self.socket.shutdown().await?;
        let drain = async {
            let mut rest = [0; 4096];
            let mut budget = 2 * self.context.max_frame;
            while let Ok(n @ 1..) = self.socket.read(&mut rest).await {
                budget = budget.saturating_sub(n);
                if budget == 0 {
                    break;
                }
            }
        };
        let drain = timeout(LAST_READ, drain);
        let _ = self.context.closing.run_until_cancelled(drain).await;
        Ok(())
    }

    /// Closes, which takes the kernel longer than a request. Clients that leave by the thousand
    /// do so one after another, and requests of others are served in between.
    pub(super) async fn leave(mut self) {
        self.attention.forget(&self.socket);
        let _turn = self.context.leaving.acquire().await;
        drop(self.socket);
    }
}
