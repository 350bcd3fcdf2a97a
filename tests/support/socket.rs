//! A stream socket of either family.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::secured::Secured;

/// A connected socket of either family.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Secured(Secured),
}

impl Socket {
    /// Ends this side; the other direction stays open.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Secured(socket) => socket.raw.shutdown_write(),
        }
    }

    /// Ends both directions, for every handle of the socket; one that has ended is left alone.
    pub fn shutdown(&self) {
        let _ = match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Secured(socket) => {
                socket.raw.shutdown();
                Ok(())
            }
        };
    }

    /// Bounds every single read and write.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
            Self::Tcp(socket) => {
                socket.set_read_timeout(Some(timeout))?;
                socket.set_write_timeout(Some(timeout))
            }
            Self::Secured(socket) => socket.raw.set_timeout(timeout),
        }
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// As the operating system says. One end of a secured connection has one handle.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Secured(_) => return Err(ErrorKind::Unsupported.into()),
        })
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(buf),
            Self::Tcp(socket) => socket.read(buf),
            Self::Secured(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write(buf),
            Self::Tcp(socket) => socket.write(buf),
            Self::Secured(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
