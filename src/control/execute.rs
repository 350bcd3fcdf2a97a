//! Requests that one call of the node answers.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    context::Context,
    events,
    outcome::{Last, Outcome},
    pubsub,
    request::HostRequest,
    response, steer, tunnelling, validators,
};
use crate::{
    memory::Account,
    streams::{Listening, RequestOrigin, Target},
    telemetry::Chain,
    wire::pb,
};

/// Does what a client at `origin` requests of the host.
pub(super) async fn execute(
    context: &Context,
    account: &Arc<Account>,
    origin: RequestOrigin,
    request: HostRequest,
) -> Outcome {
    use HostRequest as Request;
    let node = &context.node;
    let registry = &node.streams().registry;
    Outcome::Answer(match request {
        Request::Identify => response::identify(node.peer_id(), &node.addresses()),
        Request::Status => response::status(context.reporter.clone().status().await),
        Request::ListPeers => response::peers(node.peers()),
        Request::Events { kinds, present } => {
            return events::serve(context, account, kinds, present).await;
        }
        // Rare, and large: each client carries the state of whatever is not boxed.
        Request::Steer(request) => {
            return Box::pin(steer::serve(context, account, request)).await;
        }
        Request::Tunnel(request) => {
            return Box::pin(tunnelling::serve(context, account, origin, request)).await;
        }
        Request::Validate(request) => return validators::serve(context, account, request),
        Request::ValidateRecords(request) => {
            return validators::serve_records(context, account, request);
        }
        Request::PubSub(request) => return pubsub::serve(context, account, request).await,
        Request::Connect {
            peer,
            addresses,
            timeout,
        } => done(
            node.connect(peer, addresses, Instant::now() + timeout)
                .await,
            |error| {
                tracing::debug!(%peer, error = %Chain(&error), "not connected");
                response::dial_error(&error)
            },
        ),
        Request::Probe {
            peer,
            addresses,
            timeout,
        } => match Box::pin(node.probe(peer, addresses, timeout)).await {
            Ok(probed) => response::probed(&probed),
            Err(error) => response::error(error.to_string()),
        },
        Request::Disconnect { peer } => {
            node.disconnect(peer).await;
            response::ok()
        }
        Request::Tag { peer, tag, weight } => {
            done(node.tag(peer, &tag, weight), response::tag_error)
        }
        Request::Untag { peer, tag } => {
            node.untag(&peer, &tag);
            response::ok()
        }
        Request::Trim => {
            node.trim().await;
            response::ok()
        }
        Request::OpenStream {
            peer,
            protocols,
            timeout,
        } => match node
            .open_stream(peer, &protocols, Instant::now() + timeout)
            .await
        {
            Ok(opened) => {
                let answer = response::stream(peer, &opened);
                return Last::Stream(answer, Box::new(opened)).into();
            }
            Err(error) => {
                tracing::debug!(%peer, error = %Chain(&error), "no stream opened");
                response::error(response::stream_error(&error, &protocols))
            }
        },
        Request::SetHandler {
            addr,
            protocols,
            policy,
        } => match context.guard.register(origin, &addr).await {
            Err(denied) => response::error(response::denied(&denied)),
            Ok(()) => {
                let target = Target::Socket(Listening { addr, origin });
                done(registry.register(&target, &protocols, policy), |error| {
                    response::registry_error(&error)
                })
            }
        },
        Request::RemoveHandler { addr, protocols } => done(
            registry.unregister(&Listening { addr, origin }, &protocols),
            |error| response::registry_error(&error),
        ),
        Request::PeerProtocols { peer } => match node.peer_protocols(&peer) {
            Some(protocols) => response::peer_protocols(&protocols),
            None => response::unknown_peer(peer),
        },
        Request::PeerInfo { peer } => match node.peer_addresses(&peer) {
            Some(addresses) => response::known_peer(peer, &addresses),
            None => response::unknown_peer(peer),
        },
    })
}

fn done<E>(result: Result<(), E>, text: impl FnOnce(E) -> String) -> pb::Response {
    match result {
        Ok(()) => response::ok(),
        Err(error) => response::error(text(error)),
    }
}
