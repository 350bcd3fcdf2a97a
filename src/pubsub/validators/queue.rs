//! Messages that wait for the verdicts of one validator.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{ValidatorSettings, Verdict};
use crate::{
    fixed_limits::fixed_limit,
    gone::Probe,
    limit_hits::Limit,
    memory::{Account, Charge},
    pubsub::message::Message,
};

/// Messages that wait for verdicts, or were accepted and wait for peers (SECURITY.md 3).
pub(crate) const MAX_WAITING: usize = 4096;
fixed_limit!("pubsub: messages that wait for one validator", MAX_WAITING);

/// Bytes of them (SECURITY.md 3).
pub(crate) const MAX_WAITING_BYTES: usize = 4 << 20;
fixed_limit!("pubsub: memory of messages that wait for one validator", bytes MAX_WAITING_BYTES);

/// A message that was accepted, and the peer that sent it.
pub(super) type Accepted = (Arc<Message>, PeerId);

/// Who brought a message.
#[derive(Debug)]
pub(in super::super) enum Submitter {
    /// A peer, which waits for nothing.
    Peer(PeerId),
    /// A client here, which waits for the verdict.
    Client(oneshot::Sender<Verdict>),
}

#[derive(Debug)]
struct Waiting {
    message: Arc<Message>,
    origin: Submitter,
    deadline: Instant,
}

#[derive(Debug)]
struct State {
    /// By their numbers, which are in the order of their deadlines.
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// The highest number that the validator was asked about.
    asked: u64,
    accepted: VecDeque<Accepted>,
    bytes: usize,
    charge: Charge,
    /// The validator has gone.
    closed: bool,
}

/// What a verdict leads to.
#[derive(Debug)]
pub(super) enum Ruled {
    /// No such message waits.
    Stray,
    Done,
    /// This peer sent what is not to be sent.
    Rejected(PeerId),
}

/// The messages that wait for one validator.
#[derive(Debug)]
pub(in super::super) struct Queue {
    pub(super) settings: ValidatorSettings,
    state: Mutex<State>,
    /// There is something to ask.
    pub(super) asks: Notify,
    /// There is something to forward.
    pub(super) accepts: Notify,
    /// There is a deadline, where there was none.
    pub(super) deadlines: Notify,
    pub(super) probe: Probe,
}

impl Queue {
    pub(super) fn new(settings: ValidatorSettings, account: &Arc<Account>) -> Self {
        Self {
            settings,
            state: Mutex::new(State {
                waiting: BTreeMap::new(),
                last: 0,
                asked: 0,
                accepted: VecDeque::new(),
                bytes: 0,
                charge: account.empty_charge(),
                closed: false,
            }),
            asks: Notify::new(),
            accepts: Notify::new(),
            deadlines: Notify::new(),
            probe: Probe::default(),
        }
    }

    /// Has a message validated. A verdict if there is no room for it, or no validator any more.
    pub(in super::super) fn submit(
        &self,
        message: &Arc<Message>,
        origin: Submitter,
    ) -> Result<(), Verdict> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(self.settings.late);
        }
        let bytes = state.bytes + message.size();
        let count = state.waiting.len() + state.accepted.len();
        let fits = count < MAX_WAITING && bytes <= MAX_WAITING_BYTES;
        if !fits || state.charge.resize_dispensable(bytes).is_err() {
            drop(state);
            Limit::PubsubJudges.hit();
            return Err(self.settings.late);
        }
        state.bytes = bytes;
        state.last += 1;
        let (id, is_first) = (state.last, state.waiting.is_empty());
        let waiting = Waiting {
            message: message.clone(),
            origin,
            deadline: Instant::now() + self.settings.deadline,
        };
        state.waiting.insert(id, waiting);
        drop(state);
        self.asks.notify_one();
        if is_first {
            self.deadlines.notify_one();
        }
        Ok(())
    }

    /// The next message that the validator has not been asked about: its number, and who sent it.
    pub(super) fn next_ask(&self) -> Option<(u64, Option<PeerId>, Arc<Message>)> {
        let mut state = self.state.lock();
        let after = state.asked + 1;
        let (id, waiting) = state.waiting.range(after..).next()?;
        let peer = match &waiting.origin {
            Submitter::Peer(peer) => Some(*peer),
            Submitter::Client(_) => None,
        };
        let ask = (*id, peer, waiting.message.clone());
        state.asked = ask.0;
        Some(ask)
    }

    /// The message with this number gets its verdict. The validator may only speak of what it was `asked`.
    pub(super) fn rule(&self, id: u64, verdict: Verdict, asked: bool) -> Ruled {
        let mut state = self.state.lock();
        if asked && id > state.asked {
            return Ruled::Stray;
        }
        let Some(waiting) = state.waiting.remove(&id) else {
            return Ruled::Stray;
        };
        let ruled = match (waiting.origin, verdict) {
            (Submitter::Peer(peer), Verdict::Accept) => {
                state.accepted.push_back((waiting.message, peer));
                drop(state);
                self.accepts.notify_one();
                return Ruled::Done;
            }
            (Submitter::Peer(peer), Verdict::Reject) => Ruled::Rejected(peer),
            (Submitter::Peer(_), Verdict::Ignore) => Ruled::Done,
            (Submitter::Client(reply), verdict) => {
                // The client may have gone.
                let _ = reply.send(verdict);
                Ruled::Done
            }
        };
        state.release(waiting.message.size());
        ruled
    }

    /// The next message to forward.
    pub(super) fn next_accepted(&self) -> Option<Accepted> {
        let mut state = self.state.lock();
        let accepted = state.accepted.pop_front()?;
        state.release(accepted.0.size());
        Some(accepted)
    }

    /// The first deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        let first = state.waiting.first_key_value();
        first.map(|(_, waiting)| waiting.deadline)
    }

    /// The number of a message whose time is over.
    pub(super) fn overdue(&self, now: Instant) -> Option<u64> {
        let state = self.state.lock();
        let (id, waiting) = state.waiting.first_key_value()?;
        (waiting.deadline <= now).then_some(*id)
    }

    /// Takes no more messages. The number of one that still waits.
    pub(super) fn close(&self) -> Option<u64> {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.keys().next().copied()
    }
}

impl State {
    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.charge.shrink(self.bytes);
    }
}
