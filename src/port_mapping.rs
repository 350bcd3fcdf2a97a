//! Has the router forward ports to this host (`-natPortMap`), by UPnP IGD or NAT-PMP.
//!
//! Only the default gateway is asked, and only it is listened to: on a network of strangers others
//! answer as well, and would have this daemon send requests wherever they like. Mappings last a
//! minute and are renewed each 20 s, as by go-libp2p, so that they end by themselves when the
//! daemon has ended, however that was.

mod error;
mod gateway;
mod http;
mod igd;
mod nat_pmp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    fixed_limits::fixed_limit,
    node::{Node, Port, address_filter::Scope},
    telemetry::Chain,
};
use error::MappingError;
use gateway::{Gateway, default_gateway};

/// Life of a mapping (go-libp2p).
const LIFETIME: Duration = Duration::from_secs(60);

/// Time between renewals (go-libp2p).
const RENEWAL: Duration = Duration::from_secs(20);

/// Time before the first search after one that found nothing; each further one takes twice as
/// long.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// Longest time between two searches.
const LAST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Failed renewals after which the router counts as gone.
const MAX_FAILURES: u32 = 3;

/// Ports mapped (SECURITY.md 3).
const MAX_MAPPINGS: usize = 8;
fixed_limit!("port mapping: ports", MAX_MAPPINGS);

/// Keeps the ports that `node` listens on mapped, until dropped.
pub async fn keep(node: Node) {
    let mut pause = FIRST_PAUSE;
    loop {
        match find(&node).await {
            Ok(gateway) => {
                pause = FIRST_PAUSE;
                renew(&node, &gateway).await;
                node.set_mapped(Vec::new());
            }
            Err(error) => tracing::debug!(error = %Chain(&error), "no router maps ports"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// The first protocol that the router speaks. Nobody is asked if there is nothing to map.
async fn find(node: &Node) -> Result<Gateway, MappingError> {
    if ports(node).is_empty() {
        return Err(MappingError::NothingToMap);
    }
    let address = default_gateway().await.ok_or(MappingError::NoGateway)?;
    let igd = igd::Igd::find(address);
    let nat_pmp = nat_pmp::NatPmp::find(address);
    tokio::pin!(igd, nat_pmp);
    tokio::select! {
        found = &mut igd => match found {
            Ok(igd) => Ok(Gateway::Igd(igd)),
            Err(error) => nat_pmp.await.map(Gateway::NatPmp).map_err(|_| error),
        },
        found = &mut nat_pmp => match found {
            Ok(nat_pmp) => Ok(Gateway::NatPmp(nat_pmp)),
            Err(_) => igd.await.map(Gateway::Igd),
        },
    }
}

/// Maps and renews until the router fails repeatedly.
async fn renew(node: &Node, gateway: &Gateway) {
    let mut mapped: Vec<(Port, SocketAddr)> = Vec::new();
    let mut failures = 0;
    while failures < MAX_FAILURES {
        match map(node, gateway, &mapped).await {
            Ok(now) => {
                failures = 0;
                if now != mapped {
                    tracing::debug!(?now, "ports mapped");
                }
                mapped = now;
                node.set_mapped(mapped.clone());
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(error = %Chain(&error), "ports not mapped");
            }
        }
        sleep(RENEWAL).await;
    }
}

/// Maps every port, at its present place where there is one.
async fn map(
    node: &Node,
    gateway: &Gateway,
    known: &[(Port, SocketAddr)],
) -> Result<Vec<(Port, SocketAddr)>, MappingError> {
    let external = gateway.external_ip().await?;
    if Scope::of_ip(IpAddr::V4(external)) != Scope::Public {
        return Err(MappingError::NotPublic(external));
    }
    let mut mapped = Vec::new();
    for port in ports(node) {
        let known = known.iter().find(|(known, _)| *known == port);
        let wanted = known.map_or(port.number, |(_, at)| at.port());
        let given = gateway.map(port, wanted, LIFETIME).await?;
        mapped.push((port, SocketAddr::new(IpAddr::V4(external), given)));
    }
    Ok(mapped)
}

/// The ports on private IPv4 addresses that are listened on.
fn ports(node: &Node) -> Vec<Port> {
    let private = |ip: Ipv4Addr| Scope::of_ip(IpAddr::V4(ip)) == Scope::Private;
    let mut ports = node.listened_ports(private);
    ports.truncate(MAX_MAPPINGS);
    ports
}
