//! Streams of peers, carried to a service of this host.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::time::timeout;

use super::{
    Shared,
    tunnel::{Carried, Kind, Tunnel},
};
use crate::{
    control::dial_turn::{DIAL_TIMEOUT, turn},
    descriptors::HANDLER_RESERVE,
    limit_hits::Limit,
    streams::{InboundStream, RequestOrigin, Service},
};

/// Serves the streams of `tunnel`, which a request from `origin` has made.
pub(super) fn service(tunnel: Arc<Tunnel>, shared: Arc<Shared>, origin: RequestOrigin) -> Service {
    Service::lasting(Box::new(move |inbound| {
        // Boxed before the rest, so that what lasts does not carry the larger state of the dial
        // along.
        let dial = Box::pin(dial(inbound, tunnel.clone(), shared.clone(), origin));
        async move {
            if let Some(carried) = dial.await {
                carried.run().await;
            }
        }
        .boxed()
    }))
}

/// Connects to the service. Without it the stream is dropped, which resets it.
async fn dial(
    inbound: InboundStream,
    tunnel: Arc<Tunnel>,
    shared: Arc<Shared>,
    origin: RequestOrigin,
) -> Option<Carried> {
    let InboundStream {
        peer,
        stream,
        dials,
        ..
    } = inbound;
    let Kind::Expose { allow } = &tunnel.kind else {
        return None;
    };
    let Some(place) = tunnel.place() else {
        tunnel.fail(peer, "too many connections".to_owned());
        return None;
    };
    if allow.as_ref().is_some_and(|allow| !allow.contains(&peer)) {
        Limit::TunnelPeers.hit();
        tunnel.fail(peer, format!("peer {peer} is not allowed"));
        return None;
    }
    let parts = &shared.parts;
    let connecting = async {
        // The peer's own turn first: whoever waits for it takes none of the others'.
        let own = turn(&dials, Limit::PeerDials).await;
        let all = turn(&shared.dials, Limit::HandlerDials).await;
        if own.is_none() || all.is_none() {
            return Err("too many connections are being made".to_owned());
        }
        if !parts.descriptors.can_spare(HANDLER_RESERVE) {
            Limit::HandlerDescriptors.hit();
            return Err("no file descriptors are left".to_owned());
        }
        let connect = parts.guard.connect(origin, &tunnel.addr);
        match timeout(DIAL_TIMEOUT, connect).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(format!("{}: {error}", tunnel.addr)),
            Err(_) => {
                Limit::HandlerTime.hit();
                Err(format!("{} does not accept", tunnel.addr))
            }
        }
    };
    let connecting = tunnel.closed.run_until_cancelled(connecting);
    let connected = parts.closing.run_until_cancelled(connecting).await??;
    match connected {
        Ok(socket) => {
            let (stream, drain) = ((stream, tunnel.open()), parts.drain.clone());
            let places = vec![place];
            let carried = Carried::new(tunnel, peer, socket, stream, drain, None, places);
            Some(carried)
        }
        Err(reason) => {
            tunnel.fail(peer, reason);
            None
        }
    }
}
