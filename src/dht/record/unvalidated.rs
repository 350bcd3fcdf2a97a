//! Records that nobody has validated.

/// Why there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unvalidated {
    /// The deadline passed.
    #[error("it did not answer in time")]
    Late,
    /// The client has closed.
    #[error("it has gone")]
    Gone,
    /// As many wait as may, or there is no memory for more.
    #[error("too many records wait for it")]
    Full,
    /// It has chosen a record that it was not asked about, or none.
    #[error("it chose none of the records")]
    NoChoice,
}
