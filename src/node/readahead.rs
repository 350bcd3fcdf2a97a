//! Large reads below small readers.
//!
//! noise asks the socket for 8 KiB at a time and tls for 4 KiB; each costs a system call.
//! Here one call fetches what the kernel has, up to 64 KiB.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

use tokio::time::{Sleep, sleep};

use crate::memory::{is_held_up, received};

/// Bytes fetched at once. The largest noise frame.
const CHUNK: usize = 64 * 1024;

/// Buffers kept by each worker thread between uses.
const MAX_SPARE: usize = 4;

/// Time between two reads of a connection while memory is short, so that those that are cut are gone
/// before others take their place. All reads go on, at 64 KiB in this time.
const HOLD_UP: Duration = Duration::from_millis(200);

/// Time between two looks whether memory is still short.
const HOLD_UP_STEP: Duration = Duration::from_millis(10);

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Box<[u8]> {
    SPARE
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; CHUNK].into())
}

fn give_back(buffer: Box<[u8]>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE {
            spare.push(buffer);
        }
    });
}

/// A connection whose reads are large. It holds a buffer only while it has unread bytes.
#[derive(Debug)]
pub(super) struct ReadAhead<IO> {
    io: IO,
    fetched: Option<Fetched>,
    held_up: Option<HeldUp>,
}

#[derive(Debug)]
struct HeldUp {
    sleep: Pin<Box<Sleep>>,
    steps: u32,
}

#[derive(Debug)]
struct Fetched {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<IO> ReadAhead<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self {
            io,
            fetched: None,
            held_up: None,
        }
    }

    /// Ready once the socket may be read.
    fn poll_held_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.held_up.is_none() && !is_held_up() {
            return Poll::Ready(());
        }
        let held_up = self.held_up.get_or_insert_with(|| HeldUp {
            sleep: Box::pin(sleep(HOLD_UP_STEP)),
            steps: 0,
        });
        loop {
            ready!(held_up.sleep.as_mut().poll(cx));
            held_up.steps += 1;
            if HOLD_UP_STEP * held_up.steps >= HOLD_UP || !is_held_up() {
                self.held_up = None;
                return Poll::Ready(());
            }
            held_up.sleep = Box::pin(sleep(HOLD_UP_STEP));
        }
    }

    fn copy(&mut self, out: &mut [u8]) -> usize {
        let Some(fetched) = &mut self.fetched else {
            return 0;
        };
        let n = out.len().min(fetched.end - fetched.start);
        out[..n].copy_from_slice(&fetched.buffer[fetched.start..fetched.start + n]);
        fetched.start += n;
        if fetched.start == fetched.end
            && let Some(fetched) = self.fetched.take()
        {
            give_back(fetched.buffer);
        }
        n
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for ReadAhead<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.fetched.is_none() {
            ready!(self.poll_held_up(cx));
            if out.len() >= CHUNK {
                let read = Pin::new(&mut self.io).poll_read(cx, out);
                if let Poll::Ready(Ok(n)) = read {
                    received(n);
                }
                return read;
            }
            let mut buffer = take_buffer();
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
            match read {
                Poll::Ready(Ok(end @ 1..)) => {
                    received(end);
                    self.fetched = Some(Fetched {
                        buffer,
                        start: 0,
                        end,
                    });
                }
                other => {
                    give_back(buffer);
                    return Poll::Ready(Ok(ready!(other)?));
                }
            }
        }
        Poll::Ready(Ok(self.copy(out)))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for ReadAhead<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
