//! What may be stored under which key, and which of two records is better.

/// Why a record is refused, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The key has no namespace, or one that nobody here validates.
    #[error("invalid record keytype")]
    KeyType,
}

/// Decides about records by the namespace of their key.
#[derive(Debug)]
pub struct Validator {}

impl Validator {
    /// Whether `value` may be stored under `key`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn validate(&self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        let _ = (key, value);
        todo!()
    }

    /// The index of the best of `values`, all of them valid for `key`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn select(&self, key: &[u8], values: &[&[u8]]) -> Result<usize, RecordError> {
        let _ = (key, values);
        todo!()
    }
}
