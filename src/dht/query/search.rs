//! The search for the best record of a key.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, pending},
    stream::FuturesUnordered,
};
use libp2p::PeerId;
use tokio::time::Instant;

use super::super::{
    Inner, QueryError, RecordError,
    lookup::Lookup,
    message::{self, Type},
    rpc::Answer,
    store::Holder,
    validators::Asker,
};
use crate::{fixed_limits::fixed_limit, wire::frame};

/// Different records of one search that are validated or wait to be compared (SECURITY.md 3). Those that
/// peers tell meanwhile wait, and with them the walk.
pub(crate) const MAX_VALIDATING: usize = 16;
fixed_limit!("DHT: records of one search judged at once", MAX_VALIDATING);

/// PUT_VALUE of a record, encoded.
pub(super) fn put_request(key: &[u8], value: &[u8]) -> Bytes {
    let mut request = message::request(Type::PutValue, key);
    request.record = Some(message::record(key, value));
    frame::encode(&request)
}

/// A search for the best record.
pub(super) struct Search {
    dht: Arc<Inner>,
    key: Arc<[u8]>,
    best: Option<Bytes>,
    /// The record held here, which is validated first.
    local: Option<Bytes>,
    /// `None` if there is nobody to ask, or nobody left.
    lookup: Option<Lookup>,
    /// The closest peers, once nobody is left to ask.
    closest: Vec<PeerId>,
    /// Who has told the best record, and needs no correction.
    holders: Vec<PeerId>,
    /// Who has told each of the records that are not decided about yet.
    tellers: HashMap<Bytes, Vec<PeerId>>,
    validating: FuturesUnordered<BoxFuture<'static, (Bytes, Result<(), RecordError>)>>,
    /// Valid ones, to be compared with the best one after another.
    valid: VecDeque<Bytes>,
    comparing: Option<BoxFuture<'static, (Bytes, Result<bool, RecordError>)>>,
    /// Why a record was not validated.
    unvalidated: Option<RecordError>,
}

impl Search {
    pub(super) fn start(dht: &Arc<Inner>, key: &[u8], deadline: Instant) -> Self {
        // Records that nobody here could validate are not worth asking for.
        let lookup = if dht.knows(key) {
            let request = message::request(Type::GetValue, key);
            Lookup::start(dht, key, &request, deadline).ok()
        } else {
            None
        };
        let local = dht.store.record(key);
        let mut search = Self {
            dht: dht.clone(),
            key: key.into(),
            best: None,
            local: local.clone(),
            lookup,
            closest: Vec::new(),
            holders: Vec::new(),
            tellers: HashMap::new(),
            validating: FuturesUnordered::new(),
            valid: VecDeque::new(),
            comparing: None,
            unvalidated: None,
        };
        if let Some(local) = local {
            search.tellers.insert(local.clone(), Vec::new());
            search.validate(local);
        }
        search
    }

    /// The next record that is better than those before.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.compare() {
                return Some(first);
            }
            let has_room = self.validating.len() + self.valid.len() < MAX_VALIDATING;
            tokio::select! {
                // Without a client that validates, each record is decided about before the next answer.
                biased;
                (value, compared) = under_way(&mut self.comparing), if self.comparing.is_some() => {
                    self.comparing = None;
                    if self.compared(&value, compared) {
                        return Some(value);
                    }
                }
                Some((value, validated)) = self.validating.next() => self.validated(value, validated),
                told = walk(&mut self.lookup), if has_room && self.lookup.is_some() => match told {
                    Some((peer, answer)) => self.told(peer, &answer),
                    None => {
                        let walked = self.lookup.take();
                        self.closest = walked.map(|walked| walked.closest()).unwrap_or_default();
                    }
                },
                else => return None,
            }
        }
    }

    /// The best record of a search that has ended.
    pub(super) fn found(&self) -> Result<Bytes, QueryError> {
        let unvalidated = || self.unvalidated.clone().map(QueryError::Record);
        let best = self.best.clone();
        best.ok_or_else(|| unvalidated().unwrap_or(QueryError::NotFound))
    }

    fn told(&mut self, peer: PeerId, answer: &Answer) {
        let record = answer.record.as_ref();
        let Some(record) = record.filter(|record| record.key[..] == self.key[..]) else {
            return;
        };
        if self.best.as_ref() == Some(&record.value) {
            self.holders.push(peer);
        } else if let Some(tellers) = self.tellers.get_mut(&record.value) {
            tellers.push(peer);
        } else {
            // A copy: what is told may be a small part of a large message.
            let value = Bytes::copy_from_slice(&record.value);
            self.tellers.insert(value.clone(), vec![peer]);
            self.validate(value);
        }
    }

    fn validate(&mut self, value: Bytes) {
        let (dht, key) = (self.dht.clone(), self.key.clone());
        let validating = async move {
            let validated = dht.validate(Asker::Client, &key, &value).await;
            (value, validated)
        };
        self.validating.push(validating.boxed());
    }

    fn validated(&mut self, value: Bytes, validated: Result<(), RecordError>) {
        let Err(error) = validated else {
            self.valid.push_back(value);
            return;
        };
        self.tellers.remove(&value);
        if self.local.as_ref() == Some(&value) {
            self.local = None;
        }
        if matches!(error, RecordError::Unvalidated(..)) {
            self.unvalidated = Some(error);
        }
    }

    /// Has the next valid record compared with the best one. It is returned if it is the first.
    fn compare(&mut self) -> Option<Bytes> {
        if self.comparing.is_some() {
            return None;
        }
        let value = self.valid.pop_front()?;
        let Some(best) = self.best.clone() else {
            self.holders = self.tellers.remove(&value).unwrap_or_default();
            self.best = Some(value.clone());
            return Some(value);
        };
        let (dht, key) = (self.dht.clone(), self.key.clone());
        let comparing = async move {
            let compared = dht.prefers_second(Asker::Client, &key, &best, &value).await;
            (value, compared)
        };
        self.comparing = Some(comparing.boxed());
        None
    }

    /// Whether the record is the best so far. In doubt the first stays.
    fn compared(&mut self, value: &Bytes, is_better: Result<bool, RecordError>) -> bool {
        let tellers = self.tellers.remove(value).unwrap_or_default();
        let is_better = is_better.unwrap_or(false);
        if is_better {
            self.holders = tellers;
            self.best = Some(value.clone());
        }
        is_better
    }

    /// Sends the best record to those of the closest peers that have another or none, and
    /// waits for none of them.
    pub(super) fn correct(self) {
        let Some(best) = self.best else {
            return;
        };
        if let Some(local) = self.local.filter(|local| *local != best) {
            // One that was stored since was compared with the others then.
            let (store, holder) = (&self.dht.store, Holder::UNKNOWN);
            store.replace_record(holder, &self.key, Some(&local), &best);
        }
        let mut stale = self.closest;
        stale.retain(|peer| !self.holders.contains(peer));
        let place = self.dht.corrections.clone().try_acquire_owned();
        let (false, Ok(place)) = (stale.is_empty(), place) else {
            return;
        };
        let request = put_request(&self.key, &best);
        let dht = self.dht.clone();
        self.dht.spawn(async move {
            let puts = stale
                .into_iter()
                .map(|peer| dht.rpc.request(peer, Vec::new(), &request));
            // Who refuses keeps what it has.
            let _ = futures::future::join_all(puts).await;
            drop(place);
        });
    }
}

/// The comparison that is under way.
async fn under_way<T>(comparing: &mut Option<BoxFuture<'static, T>>) -> T {
    match comparing {
        Some(comparing) => comparing.await,
        None => pending().await,
    }
}

/// The next answer.
///
/// # Cancel safety
/// See [`Lookup::next`].
async fn walk(lookup: &mut Option<Lookup>) -> Option<(PeerId, Answer)> {
    lookup.as_mut()?.next().await
}
