//! The router, whichever protocol it speaks.

use std::{fs, net::Ipv4Addr, time::Duration};

use super::{error::MappingError, igd::Igd, nat_pmp::NatPmp};
use crate::node::Port;

pub(super) enum Gateway {
    Igd(Igd),
    NatPmp(NatPmp),
}

impl Gateway {
    /// The router's address on the internet.
    pub(super) async fn external_ip(&self) -> Result<Ipv4Addr, MappingError> {
        match self {
            Self::Igd(igd) => igd.external_ip().await,
            Self::NatPmp(nat_pmp) => nat_pmp.external_ip().await,
        }
    }

    /// Maps `port`, at `wanted` if that is free. The port of the router that leads here.
    pub(super) async fn map(
        &self,
        port: Port,
        wanted: u16,
        lifetime: Duration,
    ) -> Result<u16, MappingError> {
        match self {
            Self::Igd(igd) => igd.map(port, wanted, lifetime).await,
            Self::NatPmp(nat_pmp) => nat_pmp.map(port, wanted, lifetime).await,
        }
    }
}

/// The router on the default route, by the kernel's file.
pub(super) async fn default_gateway() -> Option<Ipv4Addr> {
    let read = tokio::task::spawn_blocking(|| fs::read_to_string("/proc/net/route"));
    gateway_of(&read.await.ok()?.ok()?)
}

/// A line has the interface, then destination and gateway, hexadecimal and in network order as
/// the machine reads it.
fn gateway_of(table: &str) -> Option<Ipv4Addr> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (destination, gateway) = (fields.nth(1)?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let default = destination == "00000000" && gateway != 0;
        default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_leads_to_the_gateway() {
        let number = u32::from_ne_bytes([192, 168, 10, 1]);
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\n\
             eth0\t000AA8C0\t00000000\t0001\n\
             eth0\t00000000\t{number:08X}\t0003\n"
        );
        assert_eq!(gateway_of(&table), Some([192, 168, 10, 1].into()));
        assert_eq!(gateway_of("eth0\t000AA8C0\t00000000\t0001\n"), None);
        assert_eq!(gateway_of("eth0\t00000000\tnonsense\n"), None);
        assert_eq!(gateway_of(""), None);
    }
}
