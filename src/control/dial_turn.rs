//! The turn to connect to a handler or to a service.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{fixed_limits::fixed_limit, limit_hits::Limit};

/// How long a handler may take to accept (the JavaScript daemon's limit; Go has none).
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
fixed_limit!("connecting to a handler", time DIAL_TIMEOUT);

/// A turn to dial. None if there is none for as long as a dial may take.
pub(super) async fn turn(dials: &Semaphore, limit: Limit) -> Option<SemaphorePermit<'_>> {
    if let Ok(permit) = dials.try_acquire() {
        return Some(permit);
    }
    limit.hit();
    timeout(DIAL_TIMEOUT, dials.acquire()).await.ok()?.ok()
}
