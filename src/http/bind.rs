//! Where `-metricsAddr` leads.

use std::{io, net::Ipv4Addr};

use tokio::net::{TcpListener, lookup_host};

use crate::wording::system_error;

/// Why nothing listens there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It is not `HOST:PORT`.
    #[error("-metricsAddr={0}: not host:port, as in 127.0.0.1:8888")]
    Address(String),
    /// The system refuses.
    #[error(
        "-metricsAddr={address}: {}; the daemon goes on without",
        system_error(source)
    )]
    Io {
        /// What was asked for.
        address: String,
        /// What the system says.
        source: io::Error,
    },
}

/// Listens on `HOST:PORT`. Without a host that is loopback, where Go's daemon listens on every
/// address.
///
/// # Errors
/// [`BindError`]: in Go's daemon that is a line on stderr, and the daemon goes on.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    let wrong = || BindError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let failed = |source| BindError::Io {
        address: address.to_owned(),
        source,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        return bound.map_err(failed);
    }
    let found: Vec<_> = lookup_host((host, port)).await.map_err(failed)?.collect();
    TcpListener::bind(&*found).await.map_err(failed)
}
