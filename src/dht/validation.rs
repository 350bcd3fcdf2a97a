//! Who validates records: the daemon by libp2p's rules, or the client that validates the namespace.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Dht, Inner, RecordError,
    store::Holder,
    validators::{Asker, ClientValidator, ValidatorError},
};
use crate::memory::Account;

/// How often a record is compared anew because another one was stored meanwhile.
const MAX_ROUNDS: usize = 4;

/// What a record takes the place of: another one, or nothing.
pub(super) type Place = Option<Bytes>;

impl Dht {
    /// Makes a client the validator of `namespace`, with so much time for each verdict. What waits
    /// for it is charged to `account`.
    ///
    /// # Errors
    /// See [`ValidatorError`].
    pub fn validate_by(
        &self,
        namespace: &[u8],
        deadline: Duration,
        account: &Arc<Account>,
    ) -> Result<ClientValidator, ValidatorError> {
        self.0.validators.add(namespace, deadline, account)
    }
}

impl Inner {
    /// Whether a verdict about records at `key` may take its time.
    pub(super) fn is_validated_by_client(&self, key: &[u8]) -> bool {
        self.validators.of(key).is_some()
    }

    /// Whether records at `key` can be validated.
    pub(super) fn knows(&self, key: &[u8]) -> bool {
        self.is_validated_by_client(key) || self.validator.knows(key)
    }

    /// Whether `value` may be stored at `key`. What the daemon validates itself is validated at once.
    pub(super) async fn validate(
        &self,
        asker: Asker,
        key: &[u8],
        value: &Bytes,
    ) -> Result<(), RecordError> {
        match self.validators.of(key) {
            Some(client) => client.validate(asker, key, value).await,
            None => self.validator.validate(key, value),
        }
    }

    /// Whether the second of two valid records at `key` is the better one.
    pub(super) async fn prefers_second(
        &self,
        asker: Asker,
        key: &[u8],
        first: &Bytes,
        second: &Bytes,
    ) -> Result<bool, RecordError> {
        let best = match self.validators.of(key) {
            Some(client) => {
                let values = vec![first.clone(), second.clone()];
                client.select(asker, key, values).await?
            }
            None => self.validator.select(key, &[first, second])?,
        };
        Ok(best == 1)
    }

    /// The record held here, if it is still valid.
    pub(super) async fn held(&self, asker: Asker, key: &[u8]) -> Option<Bytes> {
        let value = self.store.record(key)?;
        self.validate(asker, key, &value).await.ok()?;
        Some(value)
    }

    /// What a valid record takes the place of; `None` if it is older than the one held.
    pub(super) async fn place_of(
        &self,
        asker: Asker,
        key: &[u8],
        value: &Bytes,
    ) -> Result<Option<Place>, RecordError> {
        let held = self.store.record(key);
        if let Some(other) = held.as_ref().filter(|other| *other != value) {
            match self.validate(asker, key, other).await {
                Ok(()) if self.prefers_second(asker, key, value, other).await? => return Ok(None),
                // Without a verdict it may be the better one.
                Err(unvalidated @ RecordError::Unvalidated(..)) => return Err(unvalidated),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Some(held))
    }

    /// Stores a valid record in its `place`, or where it belongs if another one was stored since.
    /// False if it is older than that.
    pub(super) async fn put_record(
        &self,
        (holder, asker): (Holder, Asker),
        key: &[u8],
        value: &Bytes,
        mut place: Place,
    ) -> Result<bool, RecordError> {
        for _ in 0..MAX_ROUNDS {
            if self
                .store
                .replace_record(holder, key, place.as_deref(), value)
            {
                return Ok(true);
            }
            match self.place_of(asker, key, value).await? {
                Some(found) => place = found,
                None => break,
            }
        }
        Ok(false)
    }
}
