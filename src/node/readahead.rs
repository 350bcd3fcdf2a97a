//! Large reads below small readers.
//!
//! noise asks the socket for 8 KiB at a time and tls for 4 KiB; each costs a system call.
//! Here one call fetches what the kernel has, up to 64 KiB.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};

use crate::memory::{Throttle, received};

/// Bytes fetched at once. The largest noise frame.
const CHUNK: usize = 64 * 1024;

/// Buffers kept by each worker thread between uses.
const MAX_SPARE: usize = 4;

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
    throttle: Throttle,
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
            throttle: Throttle::default(),
        }
    }

    fn came(&mut self, bytes: usize) {
        received(bytes);
        self.throttle.read(bytes);
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
            let most = ready!(self.throttle.poll(cx, out.len().max(CHUNK)));
            if out.len() >= CHUNK {
                let most = most.min(out.len());
                let n = ready!(Pin::new(&mut self.io).poll_read(cx, &mut out[..most]))?;
                self.came(n);
                return Poll::Ready(Ok(n));
            }
            let mut buffer = take_buffer();
            let most = most.min(CHUNK);
            let read = Pin::new(&mut self.io).poll_read(cx, &mut buffer[..most]);
            match read {
                Poll::Ready(Ok(end @ 1..)) => {
                    self.came(end);
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
