//! One persistent connection as its calls see it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    outbox::Outbox,
    request::{Answer, CallId},
};
use crate::{
    control::context::Context,
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, Charge},
    streams::PersistentId,
};

/// Calls of one client that are under way (SECURITY.md 3); a further one fails.
pub(crate) const MAX_CALLS: usize = 4096;
fixed_limit!("calls of one persistent connection under way", MAX_CALLS);

/// Calls that one client is handling (SECURITY.md 3); further ones go to the next handler.
pub(crate) const MAX_HANDLED: usize = 4096;
fixed_limit!("calls that one persistent connection handles", MAX_HANDLED);

/// Its entry disappears when the call is done, or no longer wanted.
type Calls<T> = Mutex<Option<HashMap<CallId, oneshot::Sender<T>>>>;

/// What the calls of one client share.
#[derive(Debug)]
pub(super) struct PersistentConnection {
    pub(super) id: PersistentId,
    pub(super) context: Arc<Context>,
    /// What is held because of the client is charged here.
    pub(super) account: Arc<Account>,
    pub(super) outbox: Outbox,
    /// Its own calls; whoever removes one may answer it. `None` after the end.
    calls: Calls<Infallible>,
    /// Calls that it is handling, whose answers come with what they are charged with. `None` after
    /// the end.
    handled: Calls<(Answer, Charge)>,
    next_handled: AtomicU64,
    call_places: Arc<Semaphore>,
    handled_places: Arc<Semaphore>,
    /// A place has become free while the daemon is stopping.
    pub(super) quieter: Notify,
}

/// Counts one call for as long as anything of it is left.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) connection: Arc<PersistentConnection>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.permit = None;
        if self.connection.context.closing.is_cancelled() {
            self.connection.quieter.notify_one();
        }
    }
}

impl PersistentConnection {
    pub(super) fn new(
        id: PersistentId,
        context: Arc<Context>,
        account: Arc<Account>,
        outbox: Outbox,
    ) -> Self {
        Self {
            id,
            context,
            account,
            outbox,
            calls: Mutex::new(Some(HashMap::new())),
            handled: Mutex::new(Some(HashMap::new())),
            next_handled: AtomicU64::new(1),
            call_places: Arc::new(Semaphore::new(MAX_CALLS)),
            handled_places: Arc::new(Semaphore::new(MAX_HANDLED)),
            quieter: Notify::new(),
        }
    }

    fn busy(self: &Arc<Self>, places: &Arc<Semaphore>) -> Option<Busy> {
        Some(Busy {
            permit: Some(places.clone().try_acquire_owned().ok()?),
            connection: self.clone(),
        })
    }

    /// A place for one more call of the client.
    pub(super) fn calling(self: &Arc<Self>) -> Option<Busy> {
        self.busy(&self.call_places)
    }

    /// A place for one more call at the client.
    pub(super) fn handling(self: &Arc<Self>) -> Option<Busy> {
        let busy = self.busy(&self.handled_places);
        if busy.is_none() {
            Limit::Handled.hit();
        }
        busy
    }

    /// Whether no call is under way in either direction.
    pub(super) fn is_quiet(&self) -> bool {
        self.call_places.available_permits() == MAX_CALLS
            && self.handled_places.available_permits() == MAX_HANDLED
    }

    /// Enters a call of the client; `None` if its id is in use. The receiver learns of its
    /// removal.
    pub(super) fn begin_call(&self, id: CallId) -> Option<oneshot::Receiver<Infallible>> {
        use std::collections::hash_map::Entry;
        let mut calls = self.calls.lock();
        match calls.as_mut()?.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => {
                let (keep, removed) = oneshot::channel();
                entry.insert(keep);
                Some(removed)
            }
        }
    }

    /// Removes a call of the client; whether it was there.
    pub(super) fn end_call(&self, id: &CallId) -> bool {
        self.calls
            .lock()
            .as_mut()
            .is_some_and(|calls| calls.remove(id).is_some())
    }

    /// Enters a call that the client is to handle, under an id that no other of them has.
    /// `None` after the end.
    pub(super) fn begin_handling(&self) -> Option<(CallId, oneshot::Receiver<(Answer, Charge)>)> {
        let number = self.next_handled.fetch_add(1, Ordering::Relaxed);
        let id = u128::from(number).to_be_bytes();
        let (answer, answered) = oneshot::channel();
        self.handled.lock().as_mut()?.insert(id, answer);
        Some((id, answered))
    }

    /// Passes the client's answer on to the call, if it is still wanted.
    pub(super) fn answered(&self, id: &CallId, answer: (Answer, Charge)) -> bool {
        let waiting = self
            .handled
            .lock()
            .as_mut()
            .and_then(|handled| handled.remove(id));
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// The call is no longer wanted; whether the client may still be handling it.
    pub(super) fn end_handling(&self, id: &CallId) -> bool {
        self.handled
            .lock()
            .as_mut()
            .is_some_and(|handled| handled.remove(id).is_some())
    }

    /// Ends everything: handlers are gone, calls of the client are cancelled, and those that
    /// it was handling fail at once. Returns the ids of its own calls.
    pub(super) fn end(&self) -> Vec<CallId> {
        self.context.node.streams().registry.forget(self.id);
        self.handled.lock().take();
        let calls = self.calls.lock().take();
        calls.unwrap_or_default().into_keys().collect()
    }
}
