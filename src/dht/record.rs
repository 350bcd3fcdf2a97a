//! What may be stored under which key, and which of two records is better.
//!
//! Go's rules: go-libp2p-record 0.2.0 for `/pk/`, boxo 0.15.0 for `/ipns/`.

mod ipns;
mod pk;
mod unvalidated;

use std::{fmt, sync::Arc};

use libp2p::{PeerId, identity::PublicKey};

pub use ipns::IpnsError;
pub use pk::{KeyError, PkError, decode_key};
pub use unvalidated::Unvalidated;

/// The namespace of public keys.
const PK: &str = "pk";

/// The namespace of names that point to content.
const IPNS: &str = "ipns";

/// Why a record is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The key has no namespace, or one that nobody here validates.
    #[error("invalid record keytype")]
    KeyType,
    /// Nothing to choose from.
    #[error("can't select from no values")]
    NoValues,
    /// A record below `/pk/`.
    #[error(transparent)]
    Pk(#[from] PkError),
    /// A record below `/ipns/`.
    #[error(transparent)]
    Ipns(#[from] IpnsError),
    /// A client that validates the namespace refuses it, in its words.
    #[error("{0}")]
    Refused(String),
    /// A client that validates this namespace has not said whether it is valid.
    #[error("no verdict from the validator of namespace {0}: {1}")]
    Unvalidated(String, Unvalidated),
}

/// Public keys of peers whose ids do not contain them.
pub trait KeyBook: fmt::Debug + Send + Sync {
    /// The key of `peer`, if known.
    fn public_key(&self, peer: &PeerId) -> Option<PublicKey>;
}

/// A key book without keys.
#[derive(Debug)]
struct Empty;

impl KeyBook for Empty {
    fn public_key(&self, _: &PeerId) -> Option<PublicKey> {
        None
    }
}

/// Decides about records by the namespace of their key.
#[derive(Debug)]
pub struct Validator {
    keys: Arc<dyn KeyBook>,
    unvalidated: Vec<String>,
}

impl Default for Validator {
    fn default() -> Self {
        Self::new(Arc::new(Empty), Vec::new())
    }
}

impl Validator {
    /// Go's two namespaces, with `keys` for names whose record and id lack the key, and
    /// `unvalidated` namespaces where anything goes.
    #[must_use]
    pub fn new(keys: Arc<dyn KeyBook>, unvalidated: Vec<String>) -> Self {
        Self { keys, unvalidated }
    }

    /// Whether `unvalidated` may be a further namespace.
    #[must_use]
    pub fn may_add(namespace: &str) -> bool {
        !namespace.is_empty() && !namespace.contains('/') && !Self::is_own(namespace.as_bytes())
    }

    /// Whether the rules of `namespace` are those of libp2p.
    pub(super) fn is_own(namespace: &[u8]) -> bool {
        [PK, IPNS].iter().any(|own| own.as_bytes() == namespace)
    }

    /// Whether `value` may be stored under `key`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn validate(&self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        match self.namespace(key)? {
            Namespace::Pk(hash) => pk::validate(hash, value)?,
            Namespace::Ipns(name) => ipns::validate(name, value, &*self.keys)?,
            Namespace::Unvalidated => {}
        }
        Ok(())
    }

    /// Whether records of `key`'s namespace can be validated.
    #[must_use]
    pub fn knows(&self, key: &[u8]) -> bool {
        self.namespace(key).is_ok()
    }

    /// The index of the best of `values`, all of them valid for `key`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn select(&self, key: &[u8], values: &[&[u8]]) -> Result<usize, RecordError> {
        if values.is_empty() {
            return Err(RecordError::NoValues);
        }
        Ok(match self.namespace(key)? {
            // All keys with one hash are the same key.
            Namespace::Pk(_) | Namespace::Unvalidated => 0,
            Namespace::Ipns(_) => ipns::select(values)?,
        })
    }

    fn namespace<'a>(&self, key: &'a [u8]) -> Result<Namespace<'a>, RecordError> {
        let (name, rest) = split(key).ok_or(RecordError::KeyType)?;
        match name {
            _ if name == PK.as_bytes() => Ok(Namespace::Pk(rest)),
            _ if name == IPNS.as_bytes() => Ok(Namespace::Ipns(rest)),
            _ if self.unvalidated.iter().any(|own| own.as_bytes() == name) => {
                Ok(Namespace::Unvalidated)
            }
            _ => Err(RecordError::KeyType),
        }
    }
}

/// A key's namespace, with the rest of the key where it matters.
enum Namespace<'a> {
    Pk(&'a [u8]),
    Ipns(&'a [u8]),
    Unvalidated,
}

/// Splits `/namespace/rest`.
pub(super) fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let key = key.strip_prefix(b"/")?;
    let slash = key.iter().position(|byte| *byte == b'/')?;
    let (name, rest) = key.split_at(slash);
    (!name.is_empty()).then(|| (name, &rest[1..]))
}

#[cfg(test)]
mod tests;
