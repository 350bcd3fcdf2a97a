//! The end of the daemon: the signals that request it, and the drain that follows.
//!
//! The first signal asks for an orderly end, the second ends at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The signals the daemon answers. Installed before anything else, also for the sake of
/// PID 1, for which the kernel has no default actions.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    report: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The name of SIGTERM, SIGINT or SIGHUP.
    Stop(&'static str),
    /// SIGUSR1.
    Report,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// If the system refuses one.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            report: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Stop("SIGHUP"),
            _ = self.report.recv() => Asked::Report,
        }
    }

    /// The name of the next signal that asks to stop.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}

/// Tells whoever moves bytes that the daemon ends. Cheap to clone, and to look at with each byte.
#[derive(Debug, Clone)]
pub struct Drain {
    begun: Arc<AtomicBool>,
    closing: CancellationToken,
}

impl Drain {
    /// Begins by cancelling `closing`, which nobody else may cancel.
    #[must_use]
    pub fn new(closing: CancellationToken) -> Self {
        Self {
            begun: Arc::default(),
            closing,
        }
    }

    /// The daemon ends from now on.
    pub fn begin(&self) {
        // Whoever the token wakes finds that it has begun.
        self.begun.store(true, Ordering::Release);
        self.closing.cancel();
    }

    /// Whether the daemon ends. Takes no lock.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Completes when the drain begins. Each poll takes a lock that all users of the token share.
    pub fn begun_owned(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }
}
