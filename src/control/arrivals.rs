//! Control requests that have arrived and are not served yet.
//!
//! Go's client registers a handler without reading the answer, and its users let the other side
//! open a stream at once. That stream can be faster than the registration. So a proposal that
//! nobody handles is looked at again after the requests that had arrived before it.

mod unserved;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use rustix::event::{Timespec, epoll};

use super::socket::Socket;
use crate::{
    streams::{Registrations, Unserved},
    wire::frame::Source,
};

/// Sockets of which the kernel is asked at once whether something has arrived.
const MAX_READY: usize = 64;

/// The listener's number. Clients have the following ones.
const LISTENER: u64 = 0;

/// Looks at sockets in the kernel, where requests wait that no task has read yet.
///
/// The runtime's own readiness does not do: it tells of a request only after its next turn.
#[derive(Debug)]
pub struct Arrivals {
    /// Listener and clients that send requests. `None` where the system has no more of these:
    /// then only requests that have been read count.
    waiting: Option<OwnedFd>,
    /// The number of the client that was watched last.
    last: AtomicU64,
    /// The listener has no room for clients: those in its queue are not about to be served.
    is_full: AtomicBool,
    /// Requests that have been read, or connections taken from the queue, in two parts: whoever
    /// waits for those before it lets later ones count in the other part.
    serving: [AtomicUsize; 2],
    /// The part in which new ones count.
    part: AtomicUsize,
}

/// A request that has been read, for as long as it may change what is registered.
#[derive(Debug)]
pub(super) struct Serving {
    arrivals: Arc<Arrivals>,
    part: usize,
}

/// What is known of the requests of one client. They count in one way at most at any moment: as
/// read, or as watched by the kernel.
#[derive(Debug)]
pub(super) struct Attention {
    arrivals: Arc<Arrivals>,
    /// Held while what was read may hold a registration, or while nothing has been read yet.
    serving: Option<Serving>,
    /// The kernel watches the socket. Most clients send their only request at once, and are never
    /// waited for.
    is_watched: bool,
}

impl Attention {
    /// Of a client that has been `accepted`.
    pub(super) fn new(accepted: Serving) -> Self {
        Self {
            arrivals: accepted.arrivals.clone(),
            serving: Some(accepted),
            is_watched: false,
        }
    }

    /// The session waits for the client at `socket`. What arrives meanwhile counts.
    pub(super) fn wait(&mut self, socket: &Socket) {
        if !self.is_watched {
            self.is_watched = true;
            let number = 1 + self.arrivals.last.fetch_add(1, SeqCst);
            self.arrivals.watch(socket, number);
        }
        self.serving = None;
    }

    /// What can be read from `socket` is no request that is about to be served.
    pub(super) fn forget(&mut self, socket: &Socket) {
        if std::mem::take(&mut self.is_watched) {
            self.arrivals.forget(socket);
        }
        self.serving = None;
    }
}

/// A client's socket. What is read from it counts as being served before it leaves the kernel.
pub(super) struct Watched<'a> {
    pub(super) socket: &'a Socket,
    pub(super) attention: &'a mut Attention,
}

impl Source for Watched<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Attention {
            arrivals, serving, ..
        } = self.attention;
        serving.get_or_insert_with(|| arrivals.serve());
        let read = Source::poll_read(&mut self.socket, cx, buffer);
        if read.is_pending() {
            self.attention.wait(self.socket);
        }
        read
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(serving) = self.arrivals.serving.get(self.part) {
            serving.fetch_sub(1, SeqCst);
        }
    }
}

impl Arrivals {
    /// Nothing has arrived.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let waiting = epoll::create(epoll::CreateFlags::CLOEXEC);
        Arc::new(Self {
            waiting: waiting
                .inspect_err(|error| tracing::debug!(%error, "arrivals are not watched"))
                .ok(),
            last: AtomicU64::new(LISTENER),
            is_full: AtomicBool::new(false),
            serving: [AtomicUsize::new(0), AtomicUsize::new(0)],
            part: AtomicUsize::new(0),
        })
    }

    /// Who waits in the queue of `listener` is about to send a request.
    pub(super) fn listen(&self, listener: &impl AsFd) {
        self.watch(listener, LISTENER);
    }

    /// Whether the listener has no room for those in its queue.
    pub(super) fn set_full(&self, full: bool) {
        self.is_full.store(full, SeqCst);
    }

    /// What can be read from `socket` is a request, until it is closed or forgotten. That includes
    /// what has arrived before.
    fn watch(&self, socket: &impl AsFd, number: u64) {
        if let Some(waiting) = &self.waiting {
            let (data, flags) = (epoll::EventData::new_u64(number), epoll::EventFlags::IN);
            // Without it a proposal may be refused that comes before its handler.
            let _ = epoll::add(waiting, socket, data, flags);
        }
    }

    /// What can be read from `socket` is no request any more.
    fn forget(&self, socket: &impl AsFd) {
        if let Some(waiting) = &self.waiting {
            let _ = epoll::delete(waiting, socket);
        }
    }

    /// Call it before a request leaves the kernel, so that it is never in neither place.
    pub(super) fn serve(self: &Arc<Self>) -> Serving {
        let part = self.part.load(SeqCst) & 1;
        if let Some(serving) = self.serving.get(part) {
            serving.fetch_add(1, SeqCst);
        }
        Serving {
            arrivals: self.clone(),
            part,
        }
    }

    /// The sockets on which something has arrived, [`MAX_READY`] of them at most.
    fn ready(&self) -> Vec<u64> {
        let Some(waiting) = &self.waiting else {
            return Vec::new();
        };
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; MAX_READY];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let count = epoll::wait(waiting, &mut events[..], Some(&now)).unwrap_or(0);
        let ready = events.iter().take(count).map(|event| event.data.u64());
        let is_full = self.is_full.load(SeqCst);
        ready
            .filter(|ready| *ready != LISTENER || !is_full)
            .collect()
    }

    fn is_serving(&self) -> bool {
        let mut parts = self.serving.iter();
        parts.any(|serving| serving.load(SeqCst) > 0)
    }
}

impl Registrations for Arc<Arrivals> {
    /// The kernel is asked first: a request moves from there to those that are served.
    fn arrived(&self) -> Option<Box<dyn Unserved>> {
        let ready = self.ready();
        if ready.is_empty() && !self.is_serving() {
            return None;
        }
        Some(Box::new(unserved::Arrived::new(self.clone(), ready)))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_request_counts_from_its_arrival_to_its_end() {
        let arrivals = Arrivals::new();
        let (mut client, session) = UnixStream::pair().expect("a pair");
        arrivals.watch(&session, 1);
        assert!(arrivals.arrived().is_none());
        client.write_all(b"request").expect("written");
        assert!(arrivals.arrived().is_some());
        let serving = arrivals.serve();
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&session, &mut buffer).expect("read"), 7);
        assert!(arrivals.arrived().is_some());
        drop(serving);
        assert!(arrivals.arrived().is_none());
        client.write_all(b"payload").expect("written");
        arrivals.forget(&session);
        let payload = arrivals.arrived();
        assert!(payload.is_none(), "a pipe's payload is no request");
    }

    #[test]
    fn a_client_that_waits_to_be_accepted_counts() {
        let arrivals = Arrivals::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        arrivals.listen(&listener);
        assert!(arrivals.arrived().is_none());
        let _client = UnixStream::connect(&path).expect("connected");
        assert!(arrivals.arrived().is_some());
        arrivals.set_full(true);
        assert!(arrivals.arrived().is_none(), "it is not its turn");
        arrivals.set_full(false);
        assert!(arrivals.arrived().is_some());
        let _session = listener.accept().expect("accepted");
        assert!(arrivals.arrived().is_none());
    }

    #[test]
    fn what_comes_later_is_not_waited_for() {
        let arrivals = Arrivals::new();
        let pairs: Vec<_> = (1..=3)
            .map(|number| {
                let (client, session) = UnixStream::pair().expect("a pair");
                arrivals.watch(&session, number);
                (client, session)
            })
            .collect();
        let send = |at: usize| (&pairs[at].0).write_all(b"x").expect("written");
        let read = |at: usize| rustix::io::read(&pairs[at].1, &mut [0; 8]).expect("read");
        let early = arrivals.serve();
        send(0);
        let mut arrived = arrivals.arrived().expect("two requests");
        assert!(!arrived.is_served());
        // The first is read while others come, and served after it.
        send(1);
        let served = arrivals.serve();
        read(0);
        assert!(!arrived.is_served(), "both are being served");
        drop(early);
        assert!(!arrived.is_served(), "one is being served");
        let _late = arrivals.serve();
        drop(served);
        assert!(arrived.is_served());
        assert!(arrivals.arrived().is_some(), "later ones are not served");
    }

    #[test]
    fn of_many_all_are_waited_for() {
        let arrivals = Arrivals::new();
        let pairs: Vec<_> = (0..2 * MAX_READY as u64)
            .map(|number| {
                let (mut client, session) = UnixStream::pair().expect("a pair");
                arrivals.watch(&session, 1 + number);
                client.write_all(b"x").expect("written");
                (client, session)
            })
            .collect();
        let mut arrived = arrivals.arrived().expect("requests");
        for (_, session) in &pairs {
            assert!(!arrived.is_served());
            rustix::io::read(session, &mut [0; 8]).expect("read");
        }
        assert!(arrived.is_served());
    }
}
