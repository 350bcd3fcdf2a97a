//! The applications behind the daemons: unix listeners that the daemons dial.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use rustix::net::Shutdown;
use tempfile::TempDir;

use crate::client::read_frame;
use crate::load::{CHUNK, STACK};

/// Bytes of an echoed message.
pub(crate) const MESSAGE: usize = 64;

/// A listener whose threads serve one stream each at a time.
///
/// The threads are there before the load, so that no thread is started while it lasts. They
/// end when the value is dropped and the daemons that feed them have ended.
#[derive(Debug)]
pub(crate) struct Handler {
    listener: Arc<UnixListener>,
    home: TempDir,
}

impl Handler {
    /// Echoes what arrives, on at most `threads` streams at once.
    pub(crate) fn echo(threads: usize) -> Result<Self> {
        Self::serve(threads, echo)
    }

    /// Swallows amounts announced by eight bytes and acknowledges each with one byte.
    pub(crate) fn sink(threads: usize) -> Result<Self> {
        Self::serve(threads, sink)
    }

    /// As [`Handler::sink`] for one circuit at a time: it agrees to the call first.
    pub(crate) fn called() -> Result<Self> {
        Self::serve(1, |mut stream, mut received| {
            read_frame(&mut stream, &mut received)?;
            // STATUS, OK.
            stream.write_all(&[4, 8, 1, 32, 100])?;
            sink(stream, received)
        })
    }

    /// Echoes one message per stream and then keeps the stream open until the value that
    /// [`Held`] is goes away.
    pub(crate) fn hold() -> Result<(Self, Held)> {
        let (keep, held) = mpsc::sync_channel(usize::from(u16::MAX));
        let handler = Self::serve(1, move |mut stream, received| {
            let mut message = [0; MESSAGE];
            (&received[..]).chain(&stream).read_exact(&mut message)?;
            stream.write_all(&message)?;
            keep.try_send(stream).context("keep the stream")
        })?;
        Ok((handler, Held { _streams: held }))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.home.path().join("handler")
    }

    fn serve(
        threads: usize,
        serve: impl Fn(UnixStream, BytesMut) -> Result<()> + Clone + Send + 'static,
    ) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("compare").tempdir()?;
        let listener = Arc::new(UnixListener::bind(home.path().join("handler"))?);
        for _ in 0..threads {
            let listener = Arc::clone(&listener);
            let serve = serve.clone();
            thread::Builder::new().stack_size(STACK).spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let mut received = BytesMut::new();
                    // A stream that fails shows at its opener, which reports it.
                    let _ = read_frame(&mut stream, &mut received)
                        .and_then(|_info| serve(stream, received));
                }
            })?;
        }
        Ok(Self { listener, home })
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // Wakes the threads that wait in accept.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
    }
}

/// Streams that stay open.
#[derive(Debug)]
pub(crate) struct Held {
    _streams: mpsc::Receiver<UnixStream>,
}

fn echo(mut stream: UnixStream, received: BytesMut) -> Result<()> {
    stream.write_all(&received)?;
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..count])?;
    }
}

fn sink(stream: UnixStream, received: BytesMut) -> Result<()> {
    let mut source = (&received[..]).chain(&stream);
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut header = [0; 8];
        if source.read_exact(&mut header).is_err() {
            return Ok(());
        }
        let mut left = usize::try_from(u64::from_be_bytes(header))?;
        while left > 0 {
            let most = left.min(CHUNK);
            let count = source.read(&mut chunk[..most])?;
            ensure!(count > 0, "stream ended early");
            left -= count;
        }
        (&stream).write_all(&[1])?;
    }
}
