//! Reservations: who may be reached through this relay.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::Instant;

use super::{Inner, is_relayed};
use crate::{
    memory::prefix,
    metrics::metrics,
    node::address_filter::Scope,
    relay::{
        message::{self, HopMessage, Reservation, Status},
        reservations::{LIFETIME, Pledge},
        voucher,
    },
    streams::InboundStream,
};

/// Marks the connections of peers that have reserved, and what that is worth (go-libp2p's value).
const TAG: &str = "relay-reservation";
const WORTH: i64 = 10;

/// Addresses told with a reservation, so that the answer stays below the 4096 bytes that peers
/// take.
const MAX_ADDRESSES: usize = 16;

impl Inner {
    /// Reserves a place for the peer on the other end. What it is to be told.
    pub(super) fn reserve(&self, inbound: &InboundStream) -> Result<HopMessage, Status> {
        let pledge = self.pledge(inbound)?;
        let mut granted = message::hop_status(Status::Ok);
        granted.reservation = Some(Reservation {
            expire: Some(pledge.expire),
            addrs: self.addresses(&inbound.remote),
            voucher: pledge.voucher,
        });
        granted.limit = Some(self.limits.message());
        Ok(granted)
    }

    /// A peer that does not take the answer has no reservation, as in Go.
    pub(super) fn retract(&self, peer: &PeerId) {
        if self.reservations.lock().retract(peer) {
            self.node.untag(peer, TAG);
        }
    }

    fn pledge(&self, inbound: &InboundStream) -> Result<Pledge, Status> {
        let (peer, now) = (inbound.peer, Instant::now());
        let connected = self.node.streams().peers.get(&peer);
        let connected = connected.ok_or(Status::ReservationRefused)?;
        {
            let mut reservations = self.reservations.lock();
            if let Some(pledge) = reservations.recent(&peer, now) {
                metrics().relay.reserved(true);
                return Ok(pledge);
            }
            let over = reservations.forget(now);
            let presence = Arc::downgrade(&connected);
            let is_renewal = reservations.has(&peer);
            reservations.reserve(peer, prefix(&inbound.remote), presence, now)?;
            metrics().relay.reserved(is_renewal);
            drop(reservations);
            over.iter().for_each(|peer| self.node.untag(peer, TAG));
        }
        // Without a tag it is worth as much as before.
        let _ = self.node.tag(peer, TAG, WORTH);
        let expire = voucher::seconds_after_1970(LIFETIME);
        let pledge = Pledge {
            expire,
            voucher: voucher::sign(&self.identity, &peer, expire).map(Into::into),
        };
        self.reservations.lock().pledge(&peer, pledge.clone());
        Ok(pledge)
    }

    /// Where this relay is, for a peer that is met at `asker`: its public addresses, or else those
    /// that such a peer can reach. Go's nodes need none; others take no reservation without.
    fn addresses(&self, asker: &Multiaddr) -> Vec<Bytes> {
        let own = self.node.addresses();
        let direct = || own.iter().filter(|address| !is_relayed(address));
        let public = direct().filter(|address| Scope::Public.admits(address));
        let mut chosen: Vec<_> = public.collect();
        if chosen.is_empty() {
            let scope = Scope::of_teller(asker);
            chosen = direct().filter(|address| scope.admits(address)).collect();
        }
        let id = Protocol::P2p(self.node.peer_id());
        let chosen = chosen.into_iter().take(MAX_ADDRESSES);
        let told = chosen.map(|address| address.clone().with(id.clone()).to_vec().into());
        told.collect()
    }
}
