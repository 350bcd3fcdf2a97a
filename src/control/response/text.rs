//! Errors in the words that Go's clients read.

use std::{fmt::Write as _, slice};

use crate::{
    control::{guard::AccessDenied, persistent::error::CallError},
    dht::QueryError,
    node::{Cause, CircuitError, DialError, RoutingError, StreamError, TagError},
    pubsub::{MAX_TOPIC, PublishError, SubscribeError},
    relay::message::HOP,
    streams::{MAX_NAME, NegotiationError, OpenError, ProtocolName, RegistryError},
    wording::quote,
};

/// Failed addresses listed in one error (go-libp2p's dial error).
const MAX_LISTED: usize = 16;

/// The text of a failed CONNECT (COMPATIBILITY.md 4.5).
pub(crate) fn dial_error(error: &DialError) -> String {
    match error {
        DialError::ToSelf => "failed to dial: dial to self attempted".to_owned(),
        DialError::NoAddresses(peer) => {
            format!("failed to dial: failed to dial {peer}: no addresses")
        }
        DialError::AllFailed(peer, failures) => {
            let mut text = format!("failed to dial: failed to dial {peer}: all dials failed");
            // Writing to a String cannot fail.
            for (address, cause) in failures.iter().take(MAX_LISTED) {
                let _ = write!(text, "\n  * [{address}] {}", cause_text(cause));
            }
            if let Some(skipped) = failures.len().checked_sub(MAX_LISTED).filter(|n| *n > 0) {
                let _ = write!(text, "\n    ... skipping {skipped} errors ...");
            }
            text
        }
        DialError::Routing(error) => routing_error(*error).to_owned(),
        DialError::Denied(reason) => format!("failed to dial: {reason}"),
        DialError::DeadlineExceeded => "failed to dial: context deadline exceeded".to_owned(),
        DialError::Unidentified(reason) => format!("identify failed to complete: {reason}"),
        DialError::ConnectionFailed => "failed to dial: connection failed".to_owned(),
    }
}

/// Go's words for what the DHT does not find.
fn routing_error(error: RoutingError) -> &'static str {
    match error {
        RoutingError::EmptyTable => "failed to find any peer in table",
        RoutingError::NotFound => "routing: not found",
        RoutingError::DeadlineExceeded => "context deadline exceeded",
    }
}

pub(super) fn cause_text(cause: &Cause) -> String {
    match cause {
        Cause::Socket(Some(address), kind, text) => {
            let network = if address.is_ipv4() { "tcp4" } else { "tcp6" };
            let reason = match kind {
                std::io::ErrorKind::ConnectionRefused => "connection refused",
                std::io::ErrorKind::HostUnreachable => "no route to host",
                std::io::ErrorKind::NetworkUnreachable => "network is unreachable",
                std::io::ErrorKind::ConnectionReset => "connection reset by peer",
                std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address",
                std::io::ErrorKind::PermissionDenied => "permission denied",
                _ => text,
            };
            format!("dial {network} {address}: connect: {reason}")
        }
        Cause::Socket(None, _, text) | Cause::Name(text) | Cause::Other(text) => text.clone(),
        Cause::Cancelled => "context canceled".to_owned(),
        Cause::TimedOut => "i/o timeout".to_owned(),
        Cause::NoTransport => "no transport for protocol".to_owned(),
        Cause::PeerIdMismatch(mismatch) => {
            format!("failed to negotiate security protocol: {mismatch}")
        }
        Cause::Circuit(error) => circuit_error(error),
    }
}

/// Go's words for circuits that were not opened (COMPATIBILITY.md 4.5).
fn circuit_error(error: &CircuitError) -> String {
    const OPENING: &str = "error opening hop stream to relay";
    match error {
        CircuitError::NoRelay => {
            "can't dial a p2p-circuit without specifying a relay: /p2p-circuit".to_owned()
        }
        CircuitError::NoRelayId(relay) => {
            format!("error parsing relay multiaddr '{relay}': invalid p2p multiaddr")
        }
        CircuitError::Loop => format!("{OPENING}: {error}"),
        CircuitError::Relay(error) => format!("{OPENING}: {}", dial_error(error)),
        CircuitError::NotSpoken => {
            format!("{OPENING}: failed to negotiate protocol: protocols not supported: [{HOP}]")
        }
        CircuitError::Open => format!("{OPENING}: context deadline exceeded"),
        CircuitError::Stream(_) | CircuitError::Off => "stream reset".to_owned(),
        CircuitError::DeadlineExceeded => "i/o deadline reached".to_owned(),
        CircuitError::Unexpected(kind) => {
            format!("unexpected relay response; not a status message ({kind})")
        }
        CircuitError::Refused(status, name) => {
            format!("error opening relay circuit: {name} ({status})")
        }
    }
}

/// The text of a failed STREAM_OPEN (COMPATIBILITY.md 4.8).
pub(in crate::control) fn stream_error(error: &StreamError, protocols: &[ProtocolName]) -> String {
    match error {
        StreamError::Dial(error) => dial_error(error),
        StreamError::NoProtocols => {
            "failed to negotiate protocol: no protocols specified".to_owned()
        }
        StreamError::Identify => {
            "identify failed to complete: context deadline exceeded".to_owned()
        }
        StreamError::NegotiationTimeout => {
            "failed to negotiate protocol: context deadline exceeded".to_owned()
        }
        StreamError::Open(OpenError::Open(error)) => format!("failed to open stream: {error}"),
        StreamError::Open(OpenError::Negotiation(NegotiationError::NotSupported)) => format!(
            "failed to negotiate protocol: protocols not supported: [{}]",
            joined(protocols)
        ),
        StreamError::Open(OpenError::Negotiation(NegotiationError::Io(error))) => {
            use std::io::ErrorKind;
            let reason = match error.kind() {
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::WriteZero => "stream reset".to_owned(),
                _ => error.to_string(),
            };
            format!("failed to negotiate protocol: {reason}")
        }
    }
}

fn joined(names: &[ProtocolName]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// The text of a tag that was not given (COMPATIBILITY.md 4.17).
pub(in crate::control) fn tag_error(error: TagError) -> String {
    match error {
        TagError::TooLong(max) => format!("tag must be at most {max} bytes long"),
        TagError::TooMany => "too many tags".to_owned(),
    }
}

/// The text of a failed handler registration or removal (COMPATIBILITY.md 4.9, 4.10).
pub(in crate::control) fn registry_error(error: &RegistryError) -> String {
    match error {
        RegistryError::AlreadySet(name) => format!("handler for protocol {name} already set"),
        RegistryError::NotFound(name) => format!("handler for protocol {name} does not exist"),
        RegistryError::NotFoundAt(name, addr) => {
            format!("handler for protocol {name} with maddr {addr} does not exist")
        }
        RegistryError::NotOwned(name) => {
            format!("handler for protocol {name} was not created in this persistent connection")
        }
        RegistryError::Reserved(name) => {
            format!(
                "protocol {} is served by the daemon itself",
                quote(&name.to_string())
            )
        }
        RegistryError::BadName(len) => {
            format!("protocol name of {len} bytes: must be 1 to {MAX_NAME} bytes long")
        }
        RegistryError::Full => "too many stream handlers".to_owned(),
    }
}

/// The text for a client or a handler that is turned away (COMPATIBILITY.md 3.8).
pub(in crate::control) fn denied(denied: &AccessDenied) -> String {
    match denied {
        AccessDenied::User(uid) => format!("permission denied: user {uid} is not in -controlUids"),
        AccessDenied::Address(ip) => format!("permission denied: {ip} is not in -controlAllow"),
        AccessDenied::Unknown(reason) => format!("permission denied: client unknown: {reason}"),
        AccessDenied::Http => "this is no HTTP server".to_owned(),
        AccessDenied::Owner(addr) => {
            format!("permission denied: handler address {addr} belongs to another user")
        }
        AccessDenied::OutOfReach(addr) => {
            format!("permission denied: handler address {addr} is out of your reach")
        }
    }
}

/// The text of a call that failed between the daemons (COMPATIBILITY.md 4.20).
pub(in crate::control) fn call_error(error: &CallError, protocol: &ProtocolName) -> String {
    let refused = |error| stream_error(&StreamError::Open(error), slice::from_ref(protocol));
    match error {
        CallError::Open(error) => stream_error(error, slice::from_ref(protocol)),
        CallError::Refused => refused(OpenError::Negotiation(NegotiationError::NotSupported)),
        CallError::Closed => "EOF".to_owned(),
        CallError::Cut => "unexpected EOF".to_owned(),
        CallError::Lost(_) => "stream reset".to_owned(),
        CallError::TooLarge => "short buffer".to_owned(),
        CallError::Undecodable(reason) => format!("malformed answer; {reason}"),
        CallError::Empty => "malformed answer; neither response nor error".to_owned(),
        CallError::BadName(len) => registry_error(&RegistryError::BadName(*len)),
        CallError::TooMany => "too many calls".to_owned(),
        CallError::OverBudget(error) => error.to_string(),
        CallError::InUse => "call id already in use".to_owned(),
        CallError::Stopping => "daemon is shutting down".to_owned(),
    }
}

/// The text of a failed DHT request (COMPATIBILITY.md 4.15).
pub(in crate::control) fn query_error(error: &QueryError) -> String {
    error.to_string()
}

/// The text of a failed PUBLISH (COMPATIBILITY.md 4.24).
pub(in crate::control) fn publish_error(error: &PublishError) -> String {
    match error {
        PublishError::TooLarge { len, max } => {
            format!("message of {len} bytes: must be at most {max} bytes long on this topic")
        }
        PublishError::Failed => "failed to publish message".to_owned(),
        // go-libp2p-pubsub's words.
        PublishError::Rejected => "validation failed".to_owned(),
        PublishError::Ignored => "validation ignored".to_owned(),
    }
}

/// The text of a failed SUBSCRIBE (COMPATIBILITY.md 4.24).
pub(in crate::control) fn subscribe_error(error: &SubscribeError) -> String {
    match error {
        SubscribeError::NameTooLong(len) => {
            format!("topic name of {len} bytes: must be at most {MAX_TOPIC} bytes long")
        }
        SubscribeError::TooManyTopics => "too many topics".to_owned(),
        SubscribeError::TooManySubscriptions => "too many subscriptions".to_owned(),
    }
}
