//! The search for the best record of a key.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use tokio::time::Instant;

use super::super::{
    Inner,
    lookup::Lookup,
    message::{self, Message, Type},
    store::Holder,
};
use crate::wire::frame;

/// PUT_VALUE of a record, encoded.
pub(super) fn put_request(key: &[u8], value: &[u8]) -> Bytes {
    let mut request = message::request(Type::PutValue, key);
    request.record = Some(message::record(key, value));
    frame::encode(&request)
}

/// A search for the best record.
pub(super) struct Search {
    dht: Arc<Inner>,
    key: Vec<u8>,
    pub(super) best: Option<Bytes>,
    /// The record held here is yet to be told.
    local: Option<Bytes>,
    /// `None` if there is nobody to ask.
    lookup: Option<Lookup>,
    /// Who has told the best record, and needs no correction.
    holders: Vec<PeerId>,
}

impl Search {
    pub(super) fn start(dht: &Arc<Inner>, key: &[u8], deadline: Instant) -> Self {
        // Records that nobody here could judge are not worth asking for.
        let lookup = if dht.validator.knows(key) {
            let request = message::request(Type::GetValue, key);
            Lookup::start(dht, key, &request, deadline).ok()
        } else {
            None
        };
        Self {
            dht: dht.clone(),
            key: key.to_vec(),
            best: None,
            local: dht.held(key),
            lookup,
            holders: Vec::new(),
        }
    }

    /// The next record that is better than those before.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if let Some(local) = self.local.take() {
            self.best = Some(local.clone());
            return Some(local);
        }
        loop {
            let (peer, answer) = self.lookup.as_mut()?.next().await?;
            let Some(value) = self.valid(answer) else {
                continue;
            };
            match &self.best {
                Some(best) if *best == value => self.holders.push(peer),
                // In doubt the first stays.
                Some(best)
                    if self.dht.validator.select(&self.key, &[best, &value]).ok() != Some(1) => {}
                _ => {
                    self.holders = vec![peer];
                    self.best = Some(value.clone());
                    return Some(value);
                }
            }
        }
    }

    fn valid(&self, answer: Message) -> Option<Bytes> {
        let record = answer.record?;
        let valid = record.key == self.key
            && self
                .dht
                .validator
                .validate(&self.key, &record.value)
                .is_ok();
        valid.then_some(record.value)
    }

    /// Sends the best record to those of the closest peers that have another or none, and
    /// waits for none of them.
    pub(super) fn correct(self) {
        let (Some(best), Some(lookup)) = (self.best, self.lookup) else {
            return;
        };
        if self.dht.held(&self.key).is_some_and(|held| held != best) {
            self.dht.store.put_record(Holder::UNKNOWN, &self.key, &best);
        }
        let mut stale = lookup.closest();
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
