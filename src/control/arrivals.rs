//! Control requests that have arrived and are not served yet.
//!
//! Go's client registers a handler without reading the answer, and its users let the other side
//! open a stream at once. That stream can be faster than the registration. So a proposal that
//! nobody handles is looked at again after the requests that had arrived before it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use rustix::event::{Timespec, epoll};

use super::socket::Socket;
use crate::{streams::Registrations, wire::frame::Source};

/// Looks at sockets in the kernel, where requests wait that no task has read yet.
///
/// The runtime's own readiness does not do: it tells of a request only after its next turn.
#[derive(Debug)]
pub struct Arrivals {
    /// Listener and clients that send requests. `None` where the system has no more of these:
    /// then only requests that have been read count.
    waiting: Option<OwnedFd>,
    /// Requests that have been read, or connections taken from the queue.
    serving: AtomicUsize,
}

/// A request that has been read, for as long as it may change what is registered.
#[derive(Debug)]
pub(super) struct Serving(Arc<Arrivals>);

/// What is known of the requests of one client. They count in exactly one way at any moment: as
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
            arrivals: accepted.0.clone(),
            serving: Some(accepted),
            is_watched: false,
        }
    }

    /// What was read holds no registration, and what comes after it waits for it.
    pub(super) fn release(&mut self) {
        self.serving = None;
    }

    /// The session waits for the client at `socket`. What arrives meanwhile counts.
    pub(super) fn wait(&mut self, socket: &Socket) {
        if !self.is_watched {
            self.is_watched = true;
            self.arrivals.watch(socket);
        }
        self.serving = None;
    }

    /// What can be read from `socket` is no request any more.
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
        self.0.serving.fetch_sub(1, SeqCst);
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
            serving: AtomicUsize::new(0),
        })
    }

    /// What can be read from `socket` is a request, until it is closed or forgotten. That includes
    /// what has arrived before.
    pub(super) fn watch(&self, socket: &impl AsFd) {
        if let Some(waiting) = &self.waiting {
            let (data, flags) = (epoll::EventData::new_u64(0), epoll::EventFlags::IN);
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
        self.serving.fetch_add(1, SeqCst);
        Serving(self.clone())
    }

    fn any_in_kernel(&self) -> io::Result<bool> {
        let Some(waiting) = &self.waiting else {
            return Ok(false);
        };
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        Ok(epoll::wait(waiting, &mut events[..], Some(&now))? > 0)
    }
}

impl Registrations for Arrivals {
    /// The kernel is asked first: a request moves from there to those that are served.
    fn are_pending(&self) -> bool {
        self.any_in_kernel().unwrap_or(false) || self.serving.load(SeqCst) > 0
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
        arrivals.watch(&session);
        assert!(!arrivals.are_pending());
        client.write_all(b"request").expect("written");
        assert!(arrivals.are_pending());
        let serving = arrivals.serve();
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&session, &mut buffer).expect("read"), 7);
        assert!(arrivals.are_pending());
        drop(serving);
        assert!(!arrivals.are_pending());
        client.write_all(b"payload").expect("written");
        arrivals.forget(&session);
        assert!(!arrivals.are_pending(), "a pipe's payload is no request");
    }

    #[test]
    fn a_client_that_waits_to_be_accepted_counts() {
        let arrivals = Arrivals::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        arrivals.watch(&listener);
        assert!(!arrivals.are_pending());
        let _client = UnixStream::connect(&path).expect("connected");
        assert!(arrivals.are_pending());
        let _session = listener.accept().expect("accepted");
        assert!(!arrivals.are_pending());
    }
}
