//! The remote's end of a connection in memory.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::io::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;
use tokio::task::yield_now;

/// Turns after which a connection that has nothing to do has sent what it was going to send.
const QUIET_TURNS: usize = 8;

#[derive(Debug, Default)]
struct State {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    ended: bool,
    reader: Option<Waker>,
}

/// What the daemon reads from and writes to.
#[derive(Debug, Clone, Default)]
pub(super) struct Remote(Arc<Mutex<State>>);

/// A yamux frame of stream 1.
pub(super) fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0, kind, 0, flags, 0, 0, 0, 1];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

impl Remote {
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.incoming.extend(bytes);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// The remote closes the connection.
    pub(super) fn end(&self) {
        self.0.lock().ended = true;
        self.send(&[]);
    }

    /// Waits until nothing more is sent.
    pub(super) async fn sent_all(&self) {
        let mut quiet = 0;
        let mut before = 0;
        while quiet < QUIET_TURNS {
            yield_now().await;
            let sent = self.0.lock().outgoing.len();
            quiet = if sent == before { quiet + 1 } else { 0 };
            before = sent;
        }
    }

    /// The payload of stream 1 that has been sent.
    pub(super) fn received(&self) -> Vec<u8> {
        let state = self.0.lock();
        let mut rest = &state.outgoing[..];
        let mut payload = Vec::new();
        while let Some((header, behind)) = rest.split_first_chunk::<12>() {
            let body = match header[1] {
                0 => u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
                _ => 0,
            };
            assert!(behind.len() >= body as usize, "frames are sent whole");
            let (body, behind) = behind.split_at(body as usize);
            if header[4..8] == [0, 0, 0, 1] {
                payload.extend_from_slice(body);
            }
            rest = behind;
        }
        payload
    }
}

impl AsyncRead for Remote {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.incoming.is_empty() && !state.ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(state.incoming.len());
        for (slot, byte) in buffer.iter_mut().zip(state.incoming.drain(..count)) {
            *slot = byte;
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Remote {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
