//! What has arrived by one moment, until it is served.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use super::{Arrivals, MAX_READY};
use crate::streams::Unserved;

/// Requests that had arrived at one moment. Later ones are not waited for.
#[derive(Debug)]
pub(super) struct Arrived {
    arrivals: Arc<Arrivals>,
    /// The sockets from which something has not been read yet.
    ready: Vec<u64>,
    /// There were more of them than the kernel was asked for.
    more: bool,
    /// The parts of those that are served in which some of them may be left.
    left: [bool; 2],
}

impl Arrived {
    /// Those on the sockets that are `ready`, and those that are being served.
    pub(super) fn new(arrivals: Arc<Arrivals>, ready: Vec<u64>) -> Self {
        Self {
            more: ready.len() == MAX_READY,
            arrivals,
            ready,
            left: [true; 2],
        }
    }

    /// Whether everything has been read. From then on it counts as being served, or has been.
    fn is_read(&mut self) -> bool {
        if self.ready.is_empty() {
            return true;
        }
        let ready = self.arrivals.ready();
        if ready.len() == MAX_READY {
            // Which others there are is not known.
            return false;
        }
        if std::mem::take(&mut self.more) {
            self.ready = ready;
        } else {
            self.ready.retain(|socket| ready.contains(socket));
        }
        self.ready.is_empty()
    }
}

impl Unserved for Arrived {
    fn is_served(&mut self) -> bool {
        if !self.is_read() {
            return false;
        }
        // A part that is empty once has none of them left.
        for (left, serving) in self.left.iter_mut().zip(&self.arrivals.serving) {
            *left &= serving.load(SeqCst) > 0;
        }
        match self.left {
            [false, false] => return true,
            // New ones count where none is waited for.
            [true, _] => self.arrivals.part.store(1, SeqCst),
            [false, true] => self.arrivals.part.store(0, SeqCst),
        }
        false
    }
}
