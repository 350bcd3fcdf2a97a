//! What waits to be written to the client of a persistent connection.
//!
//! Large frames have a lane of their own, which holds one: whoever has another waits with it.
//! Between two of them all small ones that have come are written, so that a call of a few
//! bytes never waits for more than one frame.
//!
//! Each frame is charged to the client from before it is queued until it is written.

mod lanes;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, Sender},
};

use crate::{
    control::output::Output,
    fixed_limits::fixed_limit,
    memory::{Account, Charge, OverBudget},
};
pub(super) use lanes::Lanes;

/// Largest frame that counts as small, in bytes.
const SMALL: usize = 64 * 1024;

/// Small frames that wait for the client (SECURITY.md 3); further senders wait.
const MAX_SMALL: usize = 64;
fixed_limit!(
    "messages up to 64 KiB for a persistent connection",
    MAX_SMALL
);

/// Large frames that wait for the client (SECURITY.md 3); further senders wait.
const MAX_LARGE: usize = 1;
fixed_limit!("larger messages for a persistent connection", MAX_LARGE);

/// Memory that a queued frame takes beside its bytes.
const ENTRY: usize = 128;

/// Largest frame that is queued even if the client has no room for it, in bytes: the outcome of a
/// call that failed for that reason.
const SHORT: usize = 512;

/// Such frames that wait for one client; further senders wait.
const MAX_SHORT: usize = 4;
fixed_limit!(
    "short messages for a persistent connection without room",
    MAX_SHORT
);

/// Which way a frame has gone. What must arrive after it takes the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Small,
    Large,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendError {
    /// The connection has ended.
    #[error("persistent connection ended")]
    Ended,
    /// The client has no room for it.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// A frame that waits, and what is held for it.
#[derive(Debug)]
struct Queued {
    frame: Bytes,
    charge: Charge,
    _short: Option<OwnedSemaphorePermit>,
}

/// The senders' side.
#[derive(Debug)]
pub(super) struct Outbox {
    account: Arc<Account>,
    short: Arc<Semaphore>,
    small: Sender<Queued>,
    large: Sender<Queued>,
}

/// `preface` is what the client gets first. What waits is charged to `account`, and `buffer` bytes of
/// the socket while they are full.
pub(super) fn outbox(preface: Output, account: Arc<Account>, buffer: usize) -> (Outbox, Lanes) {
    let (small, small_lane) = mpsc::channel(MAX_SMALL);
    let (large, large_lane) = mpsc::channel(MAX_LARGE);
    let lanes = Lanes::new(preface, small_lane, large_lane, account.clone(), buffer);
    let outbox = Outbox {
        account,
        short: Arc::new(Semaphore::new(MAX_SHORT)),
        small,
        large,
    };
    (outbox, lanes)
}

impl Outbox {
    /// Queues `frame`, after waiting for a place.
    ///
    /// # Errors
    /// See [`SendError`].
    ///
    /// # Cancel safety
    /// A frame whose future is dropped is not sent.
    pub(super) async fn send(&self, frame: Bytes) -> Result<Lane, SendError> {
        let lane = if frame.len() > SMALL {
            Lane::Large
        } else {
            Lane::Small
        };
        self.send_by(lane, frame).await?;
        Ok(lane)
    }

    /// As [`Outbox::send`], behind what went by `lane`.
    pub(super) async fn send_by(&self, lane: Lane, frame: Bytes) -> Result<(), SendError> {
        let sender = match lane {
            Lane::Small => &self.small,
            Lane::Large => &self.large,
        };
        let queued = self.charged(frame).await?;
        sender.send(queued).await.map_err(|_| SendError::Ended)
    }

    async fn charged(&self, frame: Bytes) -> Result<Queued, SendError> {
        let charge = self.account.charge(frame.len() + ENTRY);
        let (charge, short) = match charge {
            Ok(charge) => (charge, None),
            Err(error) if frame.len() > SHORT => return Err(error.into()),
            Err(_) => {
                // The semaphore is never closed. After the end the lane says so.
                let place = self.short.clone().acquire_owned();
                let ended = async {
                    tokio::join!(self.small.closed(), self.large.closed());
                };
                let place = tokio::select! {
                    place = place => place.ok(),
                    () = ended => return Err(SendError::Ended),
                };
                (self.account.empty_charge(), place)
            }
        };
        Ok(Queued {
            frame,
            charge,
            _short: short,
        })
    }
}
