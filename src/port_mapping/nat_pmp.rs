//! NAT-PMP (RFC 6886).

use std::{net::Ipv4Addr, time::Duration};

use tokio::{net::UdpSocket, time::timeout};

use super::error::MappingError;
use crate::node::Port;

/// Where a gateway listens.
const PORT: u16 = 5351;

/// Time for the first answer; each repetition takes twice as long (RFC 6886 3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Times that a request is sent. RFC 6886 has nine, which take two minutes: this asks again
/// anyway.
const MAX_TRIES: u32 = 4;

/// Datagrams looked at for one request.
const MAX_DATAGRAMS: usize = 8;

/// Added to the number of an operation in its answer.
const ANSWER: u8 = 128;

const EXTERNAL_ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;

pub(super) struct NatPmp {
    /// Connected, so that nobody but the gateway is heard.
    socket: UdpSocket,
}

impl NatPmp {
    /// Asks `gateway` whether it speaks the protocol.
    pub(super) async fn find(gateway: Ipv4Addr) -> Result<Self, MappingError> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((gateway, PORT)).await?;
        let found = Self { socket };
        found.external_ip().await?;
        Ok(found)
    }

    pub(super) async fn external_ip(&self) -> Result<Ipv4Addr, MappingError> {
        let answer = self.request(&[0, EXTERNAL_ADDRESS]).await?;
        let ip: [u8; 4] = field(&answer, 8)?;
        Ok(ip.into())
    }

    pub(super) async fn map(
        &self,
        port: Port,
        wanted: u16,
        lifetime: Duration,
    ) -> Result<u16, MappingError> {
        let request = request(port, wanted, lifetime);
        let answer = self.request(&request).await?;
        let given = u16::from_be_bytes(field(&answer, 10)?);
        match given {
            0 => Err(MappingError::Malformed),
            given => Ok(given),
        }
    }

    async fn request(&self, request: &[u8]) -> Result<Vec<u8>, MappingError> {
        let operation = request.get(1).copied().unwrap_or_default();
        let mut wait = FIRST_WAIT;
        for _ in 0..MAX_TRIES {
            self.socket.send(request).await?;
            if let Ok(answer) = timeout(wait, self.answer(operation)).await {
                return answer;
            }
            wait *= 2;
        }
        Err(MappingError::NoAnswer)
    }

    /// The answer to `operation`; others are of earlier requests.
    async fn answer(&self, operation: u8) -> Result<Vec<u8>, MappingError> {
        let mut buffer = [0; 16];
        for _ in 0..MAX_DATAGRAMS {
            let length = self.socket.recv(&mut buffer).await?;
            let answer = &buffer[..length];
            if answer.get(1) == Some(&(operation + ANSWER)) {
                return match u16::from_be_bytes(field(answer, 2)?) {
                    0 => Ok(answer.to_vec()),
                    error => Err(MappingError::Refused(error)),
                };
            }
        }
        Err(MappingError::NoAnswer)
    }
}

fn request(port: Port, wanted: u16, lifetime: Duration) -> [u8; 12] {
    let mut request = [0; 12];
    request[1] = if port.udp { MAP_UDP } else { MAP_TCP };
    request[4..6].copy_from_slice(&port.number.to_be_bytes());
    request[6..8].copy_from_slice(&wanted.to_be_bytes());
    let seconds = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
    request[8..].copy_from_slice(&seconds.to_be_bytes());
    request
}

fn field<const N: usize>(answer: &[u8], at: usize) -> Result<[u8; N], MappingError> {
    let bytes = answer.get(at..at + N);
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(MappingError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_twelve_bytes() {
        let port = Port {
            udp: false,
            number: 0x0fa1,
        };
        let request = request(port, 0x1234, Duration::from_secs(60));
        assert_eq!(request, [0, 2, 0, 0, 0x0f, 0xa1, 0x12, 0x34, 0, 0, 0, 60]);
    }
}
