//! A socket whose bytes travel through a handshake of noise, as every peer's do.

use std::io::{self, Read, Write};

use futures::executor::block_on;
use futures::io::{AllowStdIo, AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::upgrade::OutboundConnectionUpgrade as _;
use libp2p::identity::Keypair;
use libp2p::noise;

use super::Socket;

/// The name of noise in multistream-select.
pub const NOISE: &str = "/noise";

/// What is written is encrypted, what is read is decrypted.
pub struct Secured {
    output: Box<noise::Output<AllowStdIo<Socket>>>,
    /// Another handle of the socket below.
    pub raw: Box<Socket>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured")
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}

impl Secured {
    /// Shakes hands over `socket`, on which noise was agreed on.
    ///
    /// # Errors
    /// If the other side does not shake hands.
    pub fn new(socket: Socket, key: &Keypair) -> io::Result<Self> {
        let raw = Box::new(socket.try_clone()?);
        let config = noise::Config::new(key).map_err(io::Error::other)?;
        // Reads and writes of the socket block, so nothing ever waits for a waker.
        let shaken = block_on(config.upgrade_outbound(AllowStdIo::new(socket), NOISE));
        let (_, output) = shaken.map_err(io::Error::other)?;
        Ok(Self {
            output: Box::new(output),
            raw,
        })
    }
}

impl Read for Secured {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        block_on(self.output.read(buf))
    }
}

impl Write for Secured {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        block_on(async {
            let written = self.output.write(buf).await?;
            self.output.flush().await?;
            Ok(written)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
