//! Fuzz target: the tap between yamux and the connection, as sequences of operations checked
//! against a model.

mod model;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures::{
    io::{AsyncRead as _, AsyncWrite as _},
    task::noop_waker,
};
use parking_lot::Mutex;

use super::{
    streams::Streams,
    tap::{Handle, Tap, tap},
};
use crate::fuzz_input::Input;
use model::Model;

/// A connection in memory: what was sent to it, and what waits to be read.
#[derive(Debug, Default)]
struct Wire {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Wire>>);

impl futures::io::AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock();
        if wire.incoming.is_empty() {
            return Poll::Pending;
        }
        let count = buffer.len().min(wire.incoming.len());
        for (slot, byte) in buffer.iter_mut().zip(wire.incoming.drain(..count)) {
            *slot = byte;
        }
        Poll::Ready(Ok(count))
    }
}

impl futures::io::AsyncWrite for Pipe {
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

struct Scene {
    pipe: Pipe,
    streams: Arc<Streams>,
    tap: Tap<Pipe>,
    handle: Handle<Pipe>,
    model: Model,
}

/// Reads, writes, released streams and flushes in any order. The streams end as the frames say,
/// what they hold is counted, and the resets that are owed are sent between frames.
pub(crate) fn tap_sequences(data: &[u8]) {
    let mut input = Input::new(data);
    let pipe = Pipe::default();
    let streams = Arc::new(Streams::default());
    let (tap, handle) = tap(pipe.clone(), streams.clone());
    let mut scene = Scene {
        pipe,
        streams,
        tap,
        handle,
        model: Model::default(),
    };
    while !input.is_empty() {
        scene.step(&mut input);
        scene.compare();
    }
    scene.flush();
    scene.compare();
    assert_eq!(scene.pipe.0.lock().outgoing, scene.model.sent());
}

impl Scene {
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        match kind % 8 {
            0 | 1 => self.read(input.chunk(), usize::from(input.byte()) + 1),
            2 | 3 => {
                let header = header(input);
                let body = if header[1] == 0 { input.chunk() } else { &[] };
                self.write(header, body);
            }
            4 => {
                let id = u32::from(input.byte() % 8);
                let _ = self.streams.state(id);
                let _ = self.model.own(id);
            }
            5 => {
                let (id, abort) = (u32::from(input.byte() % 8), input.byte().is_multiple_of(2));
                self.streams.release(id, abort);
                self.model.release(id, abort);
            }
            6 => self.flush(),
            _ => {
                self.streams.connection_lost();
                self.model.lose();
            }
        }
    }

    /// Bytes arrive, and yamux reads until there are no more.
    fn read(&mut self, bytes: &[u8], size: usize) {
        self.pipe.0.lock().incoming.extend(bytes);
        let mut read = Vec::new();
        let mut buffer = vec![0; size];
        let mut idle = 0;
        while idle < 2 {
            let waker = noop_waker();
            let cx = &mut Context::from_waker(&waker);
            match Pin::new(&mut self.tap).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(count)) => read.extend_from_slice(&buffer[..count]),
                // It pauses once in a while; the second time there is nothing to read.
                Poll::Pending => idle += 1,
                Poll::Ready(Err(_)) => {
                    assert!(
                        self.model.violated(),
                        "reading ends once the rules are broken"
                    );
                    self.pipe.0.lock().incoming.clear();
                    return;
                }
            }
        }
        assert!(
            !self.model.violated(),
            "reading ends once the rules are broken"
        );
        assert_eq!(read, bytes, "the bytes pass as they came");
        self.model.receive(bytes);
    }

    /// yamux writes a header with one call and its body in pieces.
    fn write(&mut self, mut header: [u8; 12], body: &[u8]) {
        if header[1] == 0 {
            header[8..].copy_from_slice(&(body.len() as u32).to_be_bytes());
        }
        self.write_all(&header);
        for piece in body.chunks(5) {
            self.write_all(piece);
        }
        self.model.write(header, body);
    }

    fn write_all(&mut self, bytes: &[u8]) {
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        let written = Pin::new(&mut self.tap).poll_write(cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()));
    }

    fn flush(&mut self) {
        let waker = noop_waker();
        let flushed = self.handle.poll_flush(&mut Context::from_waker(&waker));
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        let outgoing = std::mem::take(&mut self.pipe.0.lock().outgoing);
        self.model.flush(&outgoing);
    }

    fn compare(&mut self) {
        assert_eq!(self.streams.count(), self.model.count());
        let unread = self.streams.buffered.unread.load(Ordering::Relaxed);
        assert_eq!(
            unread,
            self.model.unread(),
            "what waits to be read is counted"
        );
        for id in self.model.ids() {
            // Who looks at a stream owns it.
            let end = self.streams.state(id).end();
            assert_eq!(end, self.model.own(id), "the end of stream {id}");
        }
    }
}

/// A frame's header with a body yet to come.
fn header(input: &mut Input<'_>) -> [u8; 12] {
    let mut header = [0; 12];
    header[1] = input.byte() % 4;
    header[3] = input.byte() % 16;
    header[7] = input.byte() % 8;
    header[11] = input.byte();
    header
}
