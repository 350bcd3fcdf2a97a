//! Writing to clients that do not read.
//!
//! What they have not read fills the kernel's buffer of their socket, which a control group counts.

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, Stuck},
};

/// How long a client may leave its socket full where there is no room for that (SECURITY.md 3).
const PATIENCE: Duration = Duration::from_millis(250);
fixed_limit!("full socket of a client that has no room", time PATIENCE);

/// Runs `writing` to a socket that is full. Its buffer has `buffer` bytes, which are charged to
/// `account` meanwhile.
///
/// # Errors
/// Those of `writing`, and [`io::ErrorKind::OutOfMemory`] if there is no room for a buffer that stays
/// full.
///
/// # Cancel safety
/// That of `writing`.
pub(super) async fn charged<T>(
    account: &Arc<Account>,
    buffer: usize,
    writing: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let _stuck = Stuck::new(buffer);
    let mut charge = account.empty_charge();
    match charge.resize_dispensable(buffer) {
        Ok(()) => writing.await,
        Err(error) => timeout(PATIENCE, writing).await.unwrap_or_else(|_| {
            Limit::ClientsBlocked.hit();
            Err(io::Error::new(io::ErrorKind::OutOfMemory, error))
        }),
    }
}
