//! How far a request reaches, and who a handler's socket file belongs to.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use crate::streams::RequestOrigin;

/// Paths of handlers that are looked at at once.
const MAX_LOOKUPS: usize = 4;

/// Time for one look.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a request from `origin` may lead to a tcp port of `ip`.
pub(super) fn reaches(origin: RequestOrigin, ip: IpAddr) -> bool {
    let to = ip.to_canonical();
    match origin {
        RequestOrigin::User(_) => true,
        // To connect to no address in particular is to connect to this machine.
        RequestOrigin::Tcp { ip, local } => {
            to == ip || local && (to.is_loopback() || to.is_unspecified())
        }
    }
}

/// The user that a file belongs to, as far as the file system says so in time.
///
/// A client names the path, and a file system behind it may hang: no worker waits for it, and few
/// threads do. Whoever is not checked here is checked when the handler is connected to.
pub(super) async fn owner(path: PathBuf) -> Option<u32> {
    static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);
    let lookup = async {
        let permit = LOOKUPS.acquire().await.ok()?;
        let found = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            fs::metadata(path).ok().map(|file| file.uid())
        });
        found.await.ok().flatten()
    };
    timeout(LOOKUP_TIMEOUT, lookup).await.ok().flatten()
}
