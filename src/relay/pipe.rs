//! The bytes of one circuit, between the relay's streams to its two ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{circuits::Meter, message::Limit};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Charge},
    muxer::Connection,
    streams::Attached,
    wire::scratch::with_scratch,
};

/// Bytes read at once at most, so that an end that does not read costs no more memory than that.
const MAX_CHUNK: usize = 128 << 10;
fixed_limit!("relay: payload that a circuit holds each way", bytes MAX_CHUNK);

/// Reads of one direction before other tasks get a turn.
const MAX_READS: usize = 32;

/// Time for the other direction to end once one has used up its bytes.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Between two looks at whether the ends of a circuit are there of which one direction is done.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Bytes that may wait on the stream of an end whose bytes cannot be passed on: a stream's first
/// window.
const WINDOW: u64 = 256 << 10;

/// What a circuit may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CircuitLimits {
    /// Bytes in each direction; 0 is no limit.
    pub data: u64,
    /// Its lifetime; zero is no limit.
    pub time: Duration,
    /// Bytes read at once from either end, 128 KiB at most.
    pub buffer: usize,
}

impl CircuitLimits {
    /// As messages tell them.
    pub(super) fn message(&self) -> Limit {
        Limit {
            // A part of a second counts: 0 would say that there is no limit.
            duration: Some(u32::try_from(self.time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)),
            data: Some(self.data),
        }
    }
}

/// One end of a circuit.
pub(super) trait End: AsyncRead + AsyncWrite + Unpin {
    /// These bytes of it wait until the other end takes them.
    fn blocked(&mut self, bytes: usize);

    /// Whether nothing can reach it any more.
    fn is_lost(&self) -> bool;
}

/// The stream to one end of a circuit, and the connection that it is a stream of.
pub(super) type Leg = Attached<Arc<Connection>>;

impl End for Leg {
    fn blocked(&mut self, bytes: usize) {
        self.stream.blocked(bytes);
    }

    fn is_lost(&self) -> bool {
        self.attached.is_closed()
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// Read and not yet written.
    pending: Bytes,
    /// What is reserved for it, in the name of the peer whose bytes they are.
    charge: Charge,
    /// Bytes that may still be read.
    budget: u64,
    /// Bytes passed on, not yet told to the meter.
    moved: u64,
    source_ended: bool,
    done: bool,
}

impl Way {
    fn new(limits: &CircuitLimits, account: &Arc<Account>) -> Self {
        Self {
            pending: Bytes::new(),
            charge: account.empty_charge(),
            budget: match limits.data {
                0 => u64::MAX,
                data => data,
            },
            moved: 0,
            source_ended: false,
            done: false,
        }
    }

    /// Keeps `rest`, which could not be written.
    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        let charged = self.charge.resize(rest.len());
        charged.map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        self.pending = Bytes::copy_from_slice(rest);
        Ok(())
    }

    /// All that was kept is written.
    fn forget(&mut self) {
        self.pending = Bytes::new();
        // A reservation can always become smaller.
        let _ = self.charge.resize(0);
    }

    /// Bytes that wait here and on the stream that they came on.
    fn held(&self) -> u64 {
        match self.pending.len() {
            0 => 0,
            pending => WINDOW + pending as u64,
        }
    }

    /// Copies until the source has ended, or its bytes are used up, and `to` knows it. An error
    /// is one of the whole circuit.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        for _ in 0..MAX_READS {
            while !self.pending.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.pending.advance(n),
                }
                if self.pending.is_empty() {
                    self.forget();
                    from.blocked(0);
                }
            }
            if self.source_ended || self.budget == 0 {
                ready!(Pin::new(&mut *to).poll_close(cx))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            let wanted = usize::try_from(self.budget).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            let Poll::Ready(read) = Pin::new(&mut *from).poll_read(cx, &mut buffer[..wanted])
            else {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                return Poll::Pending;
            };
            let read = read?;
            self.source_ended = read == 0;
            self.budget = self.budget.saturating_sub(read as u64);
            self.moved += read as u64;
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, rest)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(n) => rest = &rest[n..],
                    Poll::Pending => {
                        self.keep(rest)?;
                        from.blocked(rest.len());
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A running circuit. Resolves when both directions are done, when either fails, when its time
/// is over or when it is cut; dropping the ends then resets what is not finished.
#[derive(Debug)]
pub(super) struct CircuitPipe<A, B> {
    source: A,
    destination: B,
    there: Way,
    back: Way,
    meter: Arc<Meter>,
    chunk: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// A direction has used up its bytes.
    exhausted: bool,
    /// The next look at whether the ends are there, while one direction is done: it has finished
    /// to read the one, and may have nothing to write to it.
    look: Option<Pin<Box<Sleep>>>,
}

impl<A: End, B: End> CircuitPipe<A, B> {
    /// Each end comes with the account that is charged for what it sends.
    pub(super) fn new(
        (source, sources): (A, &Arc<Account>),
        (destination, destinations): (B, &Arc<Account>),
        limits: &CircuitLimits,
        meter: Arc<Meter>,
    ) -> Self {
        let end = (!limits.time.is_zero())
            .then(|| Instant::now().checked_add(limits.time))
            .flatten();
        Self {
            source,
            destination,
            there: Way::new(limits, sources),
            back: Way::new(limits, destinations),
            meter,
            chunk: limits.buffer.clamp(1, MAX_CHUNK),
            deadline: end.map(|end| Box::pin(sleep_until(end))),
            exhausted: false,
            look: None,
        }
    }

    fn poll_ways(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let chunk = self.chunk.min(scratch.len());
        let buffer = &mut scratch[..chunk];
        let (source, destination) = (&mut self.source, &mut self.destination);
        if !self.there.done
            && let Poll::Ready(Err(error)) = self.there.poll(cx, source, destination, buffer)
        {
            return Poll::Ready(Err(error));
        }
        if !self.back.done
            && let Poll::Ready(Err(error)) = self.back.poll(cx, destination, source, buffer)
        {
            return Poll::Ready(Err(error));
        }
        if self.there.done && self.back.done {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// Shows others what has been passed on and what waits.
    fn tell(&mut self) {
        let moved = std::mem::take(&mut self.there.moved) + std::mem::take(&mut self.back.moved);
        if moved > 0 {
            self.meter.add_moved(moved);
        }
        self.meter.set_held(self.there.held() + self.back.held());
    }

    /// Completes when one direction is done and an end is lost, which nobody else would notice.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.there.done || self.back.done {
            let look = self
                .look
                .get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
            if self.source.is_lost() || self.destination.is_lost() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let used_up = |way: &Way| way.done && way.budget == 0;
        if !self.exhausted && (used_up(&self.there) || used_up(&self.back)) {
            self.exhausted = true;
            let end = Instant::now() + LAST_WORDS;
            let end = self
                .deadline
                .as_ref()
                .map_or(end, |set| set.deadline().min(end));
            self.deadline = Some(Box::pin(sleep_until(end)));
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<A: End, B: End> Future for CircuitPipe<A, B> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.is_cut(cx.waker()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let result = with_scratch(|scratch| this.poll_ways(cx, scratch));
        this.tell();
        if result.is_ready() {
            return result;
        }
        if this.poll_lost(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_deadline(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests;
