//! `-healthcheck`: asks a running daemon for its identity, as a container's health command.

use std::time::Duration;

use crate::{
    client::{Client, ClientError},
    wire::{maddr::ControlAddr, pb},
};

/// A daemon that needs longer is not well.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why the daemon is taken for ill.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// No connection, one that broke, or a refusal.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An answer that is none to the question.
    #[error("unexpected answer from {0}")]
    Answer(ControlAddr),
}

/// Sends IDENTIFY to the daemon at `addr` and waits some seconds for its answer.
///
/// # Errors
/// [`HealthError`]: the check failed.
pub fn check(addr: &ControlAddr) -> Result<(), HealthError> {
    let wrong = || HealthError::Answer(addr.clone());
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::Identify).into()),
        ..pb::Request::default()
    };
    let answer = match Client::connect(addr, DEADLINE)?.ask(&request, DEADLINE) {
        Err(ClientError::Refused(_)) => return Err(wrong()),
        other => other?,
    };
    let identify = answer.identify.filter(|identify| !identify.id.is_empty());
    identify.map(drop).ok_or_else(wrong)
}
