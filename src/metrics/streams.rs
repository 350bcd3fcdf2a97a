//! Inbound streams, while they are negotiated and while a handler has them.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Protocols with a count of their own, as many as a board can show. Their names are those that
/// the daemon and its clients handle, never a stranger's.
const MAX_PROTOCOLS: usize = 64;

/// The name under which all further ones are counted.
const OTHERS: &str = "other";

/// Inbound streams at this moment.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    negotiating: AtomicI64,
    /// How many streams each protocol has. Names stay, so that a board shows 0.
    protocols: Mutex<Vec<(String, i64)>>,
}

/// Counts a stream that is negotiated until dropped.
#[derive(Debug)]
pub(crate) struct Negotiating;

/// Counts a stream of one protocol until dropped.
#[derive(Debug)]
pub(crate) struct Handled(usize);

impl Streams {
    pub(crate) fn negotiate(&self) -> Negotiating {
        self.negotiating.fetch_add(1, Relaxed);
        Negotiating
    }

    /// A handler of `protocol` takes the stream.
    pub(crate) fn handle(&self, protocol: &str) -> Handled {
        let mut protocols = self.protocols.lock();
        let known = protocols.iter().position(|(name, _)| name == protocol);
        let index = known.unwrap_or_else(|| {
            let name = match protocols.len() {
                MAX_PROTOCOLS.. => return MAX_PROTOCOLS,
                _ => protocol,
            };
            protocols.push((name.to_owned(), 0));
            protocols.len() - 1
        });
        if index == MAX_PROTOCOLS && protocols.len() == MAX_PROTOCOLS {
            protocols.push((OTHERS.to_owned(), 0));
        }
        if let Some((_, count)) = protocols.get_mut(index) {
            *count += 1;
        }
        Handled(index)
    }

    pub(crate) fn negotiating(&self) -> i64 {
        self.negotiating.load(Relaxed)
    }

    pub(crate) fn by_protocol(&self) -> Vec<(String, i64)> {
        self.protocols.lock().clone()
    }
}

impl Drop for Negotiating {
    fn drop(&mut self) {
        super::metrics().streams.negotiating.fetch_sub(1, Relaxed);
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        let mut protocols = super::metrics().streams.protocols.lock();
        if let Some((_, count)) = protocols.get_mut(self.0) {
            *count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_protocols_than_a_board_shows_are_counted_together() {
        let streams = Streams::default();
        for number in 0..1000 {
            // Its drop counts elsewhere.
            std::mem::forget(streams.handle(&format!("/{number}")));
            std::mem::forget(streams.handle("/0"));
        }
        let told = streams.by_protocol();
        assert_eq!(told.len(), MAX_PROTOCOLS + 1);
        assert_eq!(told[0], ("/0".to_owned(), 1001));
        assert_eq!(told[MAX_PROTOCOLS].0, OTHERS);
        assert_eq!(told[MAX_PROTOCOLS].1, 1000 - MAX_PROTOCOLS as i64);
    }
}
