//! Listening: on which sockets, and what is known of their addresses.

pub(super) mod error;
mod plan;
mod rescan;
mod told;

use std::{net::IpAddr, time::Duration};

use futures::StreamExt as _;
use libp2p::{Multiaddr, Swarm, TransportError, core::transport::ListenerId, swarm::SwarmEvent};

pub(super) use error::MAX_LISTENERS;
pub use error::{ListenError, ListenersError};
pub(super) use plan::Plan;
pub(super) use rescan::Rescan;
pub use told::ListenerInfo;
pub(super) use told::Listeners;

use super::{
    behaviour::{Behaviour, BehaviourEvent},
    guarded::Guarded,
    interfaces,
};
use plan::Socket;

/// Wildcard listeners learn their addresses from the system, which may take a moment.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a closed socket to be free.
const FREE_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two looks at whether it is.
const FREE_INTERVAL: Duration = Duration::from_millis(10);

/// What came of [`listen`].
pub(super) struct Listening {
    pub(super) listeners: Listeners,
    pub(super) failures: Vec<ListenError>,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
    /// What else happened meanwhile, in order.
    pub(super) early: Vec<SwarmEvent<BehaviourEvent>>,
}

/// A listener that was asked for and has not told its address yet.
struct Pending<'a> {
    id: ListenerId,
    address: &'a Multiaddr,
}

/// Listens on each of `wanted` and waits until every listener knows its addresses.
pub(super) async fn listen(
    swarm: &mut Swarm<Guarded<Behaviour>>,
    wanted: &[Multiaddr],
) -> Listening {
    let plan = plan::make(wanted).await;
    let mut failures = plan.failures;
    let mut listeners = Listeners::new(plan.aliases);
    let mut pending = Vec::new();
    let mut notices = Vec::new();
    let found = tokio::task::spawn_blocking(interfaces::addresses).await;
    let found = found.unwrap_or_else(|error| Err(error.into()));
    let known = found.is_ok();
    let host = rescan::or_loopback(found);
    for (socket, address) in &plan.sockets {
        match open(
            swarm,
            (socket, address),
            &host,
            &mut listeners,
            &mut notices,
        ) {
            Ok(ids) => {
                listeners.add(address.clone(), ids.clone());
                pending.extend(ids.into_iter().map(|id| Pending { id, address }));
            }
            Err(reason) => failures.push(ListenError {
                address: address.clone(),
                reason,
            }),
        }
    }
    // A wildcard listener has no address where the host has none of its family.
    if known {
        pending.retain(|one| {
            let wildcard = listeners.wildcard(one.id);
            wildcard.is_none_or(|wildcard| {
                host.iter()
                    .any(|ip| ip.is_ipv4() == wildcard.is_ipv4() && interfaces::is_told(*ip, &[]))
            })
        });
    }
    let mut early = Vec::new();
    let addresses = async {
        while !pending.is_empty() {
            let event = swarm.select_next_some().await;
            if let Some(failure) = settle(&event, &mut pending) {
                failures.push(failure);
            }
            if !listeners.on_event(&event) {
                early.push(event);
            }
        }
    };
    if tokio::time::timeout(ADDRESS_TIMEOUT, addresses)
        .await
        .is_err()
    {
        tracing::warn!("listeners without addresses: the system does not tell of its interfaces");
    }
    // The other interfaces of a wildcard are known at the same time.
    while let std::task::Poll::Ready(Some(event)) = futures::poll!(swarm.next()) {
        if !listeners.on_event(&event) {
            early.push(event);
        }
    }
    Listening {
        listeners,
        failures,
        notices,
        early,
    }
}

/// What is to be done for `wanted` while the daemon runs: all of it, or nothing. Names are resolved, and
/// sockets bound for a moment.
///
/// # Errors
/// Why the first of them cannot be listened on.
pub(super) async fn plan(wanted: &[Multiaddr]) -> Result<(Plan, Vec<IpAddr>), ListenError> {
    let mut plan = plan::make(wanted).await;
    if !plan.failures.is_empty() {
        return Err(plan.failures.swap_remove(0));
    }
    let found = tokio::task::spawn_blocking(interfaces::addresses).await;
    let found = found.unwrap_or_else(|error| Err(error.into()));
    Ok((plan, rescan::or_loopback(found)))
}

/// Listens on all that is planned, or on nothing. Returns those whose addresses are not known yet.
///
/// # Errors
/// Why the first of them cannot be listened on.
pub(super) fn add(
    swarm: &mut Swarm<Guarded<Behaviour>>,
    plan: Plan,
    host: &[IpAddr],
    listeners: &mut Listeners,
) -> Result<Vec<ListenerId>, ListenError> {
    let (mut opened, mut notices) = (Vec::new(), Vec::new());
    for (socket, address) in &plan.sockets {
        match open(swarm, (socket, address), host, listeners, &mut notices) {
            Ok(ids) => {
                listeners.add(address.clone(), ids.clone());
                opened.extend(ids);
            }
            Err(reason) => {
                listeners.close(swarm, &opened);
                return Err(ListenError {
                    address: address.clone(),
                    reason,
                });
            }
        }
    }
    for notice in notices {
        tracing::warn!("{notice}");
    }
    listeners.add_aliases(plan.aliases);
    Ok(opened)
}

/// Waits until sockets that were closed can be bound anew, for a moment at most: transports close them
/// when they are polled.
pub(super) async fn freed(addresses: &[Multiaddr]) {
    let free = async {
        while !plan::make(addresses).await.failures.is_empty() {
            tokio::time::sleep(FREE_INTERVAL).await;
        }
    };
    // Whoever listens there next is told.
    let _ = tokio::time::timeout(FREE_TIMEOUT, free).await;
}

/// Takes a listener that has an address, or has closed, off the list. Why it has closed.
fn settle(
    event: &SwarmEvent<BehaviourEvent>,
    pending: &mut Vec<Pending<'_>>,
) -> Option<ListenError> {
    match event {
        SwarmEvent::NewListenAddr { listener_id, .. } => {
            pending.retain(|one| one.id != *listener_id);
            None
        }
        SwarmEvent::ListenerClosed {
            listener_id,
            reason,
            ..
        } => {
            let at = pending.iter().position(|one| one.id == *listener_id)?;
            let closed = pending.swap_remove(at);
            let reason = reason.as_ref().err();
            Some(ListenError {
                address: closed.address.clone(),
                reason: reason.map_or_else(|| "closed".to_owned(), innermost),
            })
        }
        _ => None,
    }
}

/// Listens on a socket. On a wildcard address whose interfaces cannot be watched, on each address
/// of `host`, the addresses that the host has now.
fn open(
    swarm: &mut Swarm<Guarded<Behaviour>>,
    (socket, asked): (&Socket, &Multiaddr),
    host: &[IpAddr],
    listeners: &mut Listeners,
    notices: &mut Vec<String>,
) -> Result<Vec<ListenerId>, String> {
    let reason = match swarm.listen_on(socket.address.clone()) {
        Ok(id) => {
            if let Some(wildcard) = socket.wildcard() {
                listeners.add_wildcard(id, wildcard);
            }
            return Ok(vec![id]);
        }
        Err(TransportError::MultiaddrNotSupported(_)) => {
            return Err("no transport for protocol".to_owned());
        }
        Err(TransportError::Other(error)) => innermost(&error),
    };
    let Some(wildcard) = socket.wildcard() else {
        return Err(reason);
    };
    // The socket was free a moment ago, so it is the interfaces that cannot be watched.
    notices.push(format!(
        "{}: the interfaces of this host cannot be watched ({reason}): listening on each of its \
         addresses instead, new ones are looked for every {} s",
        socket.address,
        rescan::INTERVAL.as_secs()
    ));
    let ids = listeners.open_each(swarm, (socket, asked), wildcard, host);
    if ids.is_empty() { Err(reason) } else { Ok(ids) }
}

fn innermost(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    let mut next = error
        .get_ref()
        .map(|inner| inner as &(dyn std::error::Error + 'static));
    for _ in 0..16 {
        let Some(current) = next else { break };
        text = current.to_string();
        next = current.source();
    }
    text
}
