//! The TCP connection to a peer, with what the kernel holds for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead, AsyncWrite, IoSlice};
use libp2p::tcp::tokio::TcpStream;
use rustix::io::ioctl_fionread;

use crate::memory::{self, Stuck, is_throttled};

/// A socket that tells the memory ladder what fills the kernel's buffers because a peer does not
/// read, or is read more slowly.
#[derive(Debug)]
pub(super) struct PeerSocket {
    io: TcpStream,
    /// Bytes that the kernel takes before the peer is ready for them. What is on its way is not
    /// counted, so that no network is too fast for it.
    bound: u32,
    unsent: Option<Stuck>,
    unread: Option<Stuck>,
}

impl PeerSocket {
    pub(super) fn new(io: TcpStream) -> Self {
        Self::bounded(io, memory::unsent())
    }

    fn bounded(io: TcpStream, bound: u32) -> Self {
        // Where there is no such option, the size of the buffer is the bound.
        #[cfg(any(target_os = "android", target_os = "linux"))]
        if let Err(error) = socket2::SockRef::from(&io.0).set_tcp_notsent_lowat(bound) {
            tracing::debug!(%error, "no bound for unsent bytes");
        }
        Self {
            io,
            bound,
            unsent: None,
            unread: None,
        }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.unsent = None;
        } else if self.unsent.is_none() {
            self.unsent = Some(Stuck::new(self.bound as usize));
        }
        written
    }
}

impl AsyncRead for PeerSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, out));
        self.unread = is_throttled()
            .then(|| ioctl_fionread(&self.io.0).ok())
            .flatten()
            .map(|bytes| Stuck::new(usize::try_from(bytes).unwrap_or(0)));
        Poll::Ready(read)
    }
}

impl AsyncWrite for PeerSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncWriteExt as _, FutureExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Bytes that fit into a connection whose other end does not read.
    async fn capacity(bounded: bool) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialed = tokio::net::TcpStream::connect(address).await.unwrap();
        let (_silent, _) = listener.accept().await.unwrap();
        let mut socket: Pin<Box<dyn AsyncWrite>> = match bounded {
            true => Box::pin(PeerSocket::bounded(TcpStream(dialed), 128 << 10)),
            false => Box::pin(TcpStream(dialed)),
        };
        let (mut sent, chunk) = (0, vec![0; 64 << 10]);
        loop {
            // What is written moves into the other end's buffer meanwhile.
            tokio::task::yield_now().await;
            match socket.write(&chunk).now_or_never() {
                Some(written) => sent += written.unwrap(),
                None => return sent,
            }
        }
    }

    #[tokio::test]
    async fn the_kernel_takes_little_for_who_does_not_read() {
        let (bounded, free) = (capacity(true).await, capacity(false).await);
        assert!(bounded + (1 << 20) < free, "{bounded} of {free} bytes");
    }
}
