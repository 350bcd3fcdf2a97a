//! The last document, told to all who ask for one within a while.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::{sync::Mutex, task::spawn_blocking};

/// A document is told again for so long. Whoever asks often, or with many connections, costs the
/// daemon no more than this many looks at all layers.
const AGE: Duration = Duration::from_millis(250);

/// The last document, and when it was made.
#[derive(Debug, Default)]
pub struct Latest(Mutex<Option<(Instant, Bytes)>>);

impl Latest {
    /// The last document, or the one that `make` makes if that is too old. It may describe
    /// thousands of peers, so it is made on a thread on which nobody else waits.
    ///
    /// # Cancel safety
    /// The next one that asks has it made anew.
    pub(super) async fn get(&self, make: impl FnOnce() -> Bytes + Send + 'static) -> Bytes {
        // Held while one is made: others that ask wait for the same one.
        let mut last = self.0.lock().await;
        if let Some((made, document)) = &*last
            && made.elapsed() < AGE
        {
            return document.clone();
        }
        // An error is a panic, of which the log tells.
        let document = spawn_blocking(make).await.unwrap_or_default();
        *last = Some((Instant::now(), document.clone()));
        document
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    };

    use super::*;

    /// The one worker has to run another task before the document can be finished.
    #[tokio::test(flavor = "current_thread")]
    async fn no_worker_is_kept_while_a_document_is_made() {
        let (finish, finished) = mpsc::channel();
        let latest = Latest::default();
        let slow = latest.get(move || {
            let told = finished.recv_timeout(Duration::from_secs(20));
            Bytes::from(if told.is_ok() { "free" } else { "kept" })
        });
        let (document, ()) = tokio::join!(slow, async {
            tokio::task::yield_now().await;
            let _ = finish.send(());
        });
        assert_eq!(document, "free");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn those_that_ask_at_once_get_the_same_one() {
        let (latest, made) = (Latest::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let made = made.clone();
            latest.get(move || Bytes::from(made.fetch_add(1, Relaxed).to_string()))
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((&first[..], &second[..]), (&b"0"[..], &b"0"[..]));
        tokio::time::sleep(AGE).await;
        assert_eq!(ask().await, "1");
    }
}
