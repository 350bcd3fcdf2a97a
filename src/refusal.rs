//! What the operator is told when the program refuses: the reason, in Go's words where Go has
//! some, and then what to do about it.
//!
//! Clients show the last line of stderr as why a start failed, and some look for Go's words in it.
//! So both stand in one line, Go's words first. Every error of the start has its advice here, by
//! matches without a wildcard: a new error does not compile without one.

mod settings;

use std::{io::ErrorKind, os::unix::fs::FileTypeExt as _};

use crate::{
    client::ClientError,
    config::ConfigError,
    control::{
        listener::BindError,
        web::{TokenError, WebError},
    },
    daemon::DaemonError,
    dht::disk::DiskError,
    healthcheck::HealthError,
    identity::{IdentityError, KeyFileError, KeygenError},
    node::{StartError, TransportUnfit, rules::RulesFileError},
    private_network::PrivateNetworkError,
    status::command::CommandError,
    wire::maddr::ControlAddr,
    wss::WssError,
};

/// The line for the operator.
#[must_use]
pub fn text(error: &anyhow::Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}: {advice}"),
        None => error.to_string(),
    }
}

fn advice(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return Some(settings::advice(error));
    }
    if let Some(error) = error.downcast_ref::<KeyFileError>() {
        return Some(for_key_file(error));
    }
    if let Some(error) = error.downcast_ref::<PrivateNetworkError>() {
        return Some(for_private_network(error).into());
    }
    if let Some(error) = error.downcast_ref::<WssError>() {
        return Some(for_wss(error).into());
    }
    if let Some(error) = error.downcast_ref::<KeygenError>() {
        return for_keygen(error);
    }
    if let Some(error) = error.downcast_ref::<BindError>() {
        return error.advice();
    }
    if let Some(error) = error.downcast_ref::<DaemonError>() {
        return for_daemon(error);
    }
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(error), _) => for_health(error),
        (None, Some(CommandError::Client(error))) => for_client(error),
        _ => None,
    }
}

fn for_key_file(error: &KeyFileError) -> String {
    let path = error.path.display();
    let make = format!("make one with \"rp2pd keygen -t ed25519 -f {path}\"");
    match &error.source {
        IdentityError::File { source, .. } if source.kind() == ErrorKind::NotFound => {
            format!("{make}, or let the daemon make it with -createIdentity")
        }
        IdentityError::File { .. } | IdentityError::TooLarge(_) => {
            "-id must name a key file that the daemon's user can read".into()
        }
        IdentityError::RsaTooSmall | IdentityError::RsaTooLarge => {
            format!("{path} is refused by other peers as well: move it away and {make}")
        }
        IdentityError::Wire
        | IdentityError::Missing(_)
        | IdentityError::Type
        | IdentityError::Ed25519Size(_)
        | IdentityError::Ed25519Redundant
        | IdentityError::Ed25519Mismatch
        | IdentityError::Secp256k1Size
        | IdentityError::Key { .. } => {
            format!("{path} holds no usable key: move it away and {make}")
        }
    }
}

fn for_private_network(error: &PrivateNetworkError) -> &'static str {
    match error {
        PrivateNetworkError::File { .. } => {
            "-pnetKey must name a key file that the daemon's user can read"
        }
        PrivateNetworkError::Key { .. } => {
            "-pnetKey takes a file of three lines, /key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits"
        }
    }
}

fn for_wss(error: &WssError) -> &'static str {
    match error {
        WssError::File { .. } => {
            "-wssCert, -wssKey and -wssRoots must name files that the daemon's user can read"
        }
        WssError::Content { .. } | WssError::Refused { .. } => {
            "-wssCert and -wssRoots take files of certificates in PEM, -wssKey one of a private key"
        }
        WssError::Key { .. } => "-wssKey must be the key that the certificate was made for",
    }
}

fn for_keygen(error: &KeygenError) -> Option<String> {
    let (path, source) = match error {
        KeygenError::Write { path, source } => (path, source),
        // They say what there is.
        KeygenError::Type(_) | KeygenError::Bits(_) => return None,
        KeygenError::Make(_) | KeygenError::Check(_) => {
            return Some("try again, or another type with -t".into());
        }
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| ".".into(), |folder| folder.display().to_string());
    if path.as_os_str().is_empty() {
        return Some("name the file with -f".into());
    }
    Some(match source.kind() {
        ErrorKind::AlreadyExists => {
            "no key is ever overwritten: name another file, or move this one away".into()
        }
        ErrorKind::NotFound => format!("make the directory {folder} first"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room first".into(),
        _ => {
            format!("name a file in a directory that this user may write to, which {folder} is not")
        }
    })
}

fn for_daemon(error: &DaemonError) -> Option<String> {
    match error {
        DaemonError::Node(error) => for_start(error),
        DaemonError::Datastore(error) => for_datastore(error),
        DaemonError::Rules(error) => Some(for_rules(error).into()),
        DaemonError::Web(error) => for_web(error).map(str::to_owned),
        // It says what to do.
        DaemonError::Join(_) => None,
        DaemonError::PubSub(_) => Some("use a key of another type with -id".into()),
        DaemonError::Runtime(_) | DaemonError::Panicked(_) => None,
    }
}

fn for_web(error: &WebError) -> Option<&'static str> {
    match error {
        WebError::Bind { .. } => Some("choose another address with -controlHttp"),
        WebError::Token(TokenError::Io { .. }) => {
            Some("name a file that this user may read, or make, with -controlToken")
        }
        WebError::Token(TokenError::Text(_) | TokenError::Owner(_)) => {
            Some("remove it to have another one made")
        }
        // It says what to do.
        WebError::Token(TokenError::Open(_)) => None,
    }
}

fn for_start(error: &StartError) -> Option<String> {
    let failures = match error {
        StartError::Transport(TransportUnfit::Identity(_)) => {
            return Some("use a key of another type with -id".into());
        }
        StartError::Transport(TransportUnfit::Websockets(_)) | StartError::Panicked(_) => {
            return None;
        }
        StartError::Listen(failures) => failures,
    };
    let is = |words: &str| failures.iter().any(|one| one.to_string().contains(words));
    Some(
        if is("address already in use") {
            "another program has the port: choose another with -hostAddrs, or port 0 for a free one"
        } else if is("no transport for protocol") {
            "-hostAddrs listens on /tcp/PORT, /tcp/PORT/ws, /tcp/PORT/tls/ws and /udp/PORT/quic-v1"
        } else if is("cannot assign requested address") || is("Cannot assign requested address") {
            "this host has no such address: /ip4/0.0.0.0 and /ip6/:: stand for all that it has"
        } else if is("ermission denied") {
            "ports below 1024 need a privilege: choose another with -hostAddrs"
        } else {
            "name other addresses with -hostAddrs, or none with -noListenAddrs"
        }
        .to_owned(),
    )
}

fn for_datastore(error: &DiskError) -> Option<String> {
    match error {
        DiskError::Version { .. } => Some("name another with -datastore".into()),
        // They say it themselves.
        DiskError::File { .. }
        | DiskError::Open { .. }
        | DiskError::InUse(_)
        | DiskError::Foreign(_)
        | DiskError::Damaged { .. } => None,
    }
}

fn for_rules(error: &RulesFileError) -> &'static str {
    match error {
        RulesFileError::File { .. } => "it must be a file that the daemon may read",
        RulesFileError::Damaged { .. } => "mend it, or move it away to start without rules",
    }
}

fn for_client(error: &ClientError) -> Option<String> {
    let advice = match error {
        ClientError::Io { addr, source } => return Some(for_connection(addr, source.kind())),
        ClientError::Unknown(_) => "start the daemon anew after an update",
        ClientError::Refused(_) => return None,
    };
    Some(advice.into())
}

fn for_connection(addr: &ControlAddr, kind: ErrorKind) -> String {
    let usual = "is the daemon running, and is -listen the address of its socket?";
    let ControlAddr::Unix(path) = addr else {
        return usual.into();
    };
    match (kind, std::fs::metadata(path)) {
        (ErrorKind::PermissionDenied, _) => {
            "the socket is another user's: ask as that user, or start the daemon with -listenMode=0660 \
             and -listenGroup"
                .into()
        }
        (_, Ok(found)) if !found.file_type().is_socket() => {
            "what has that name is no socket: is -listen the address of the daemon's?".into()
        }
        (ErrorKind::ConnectionRefused, Ok(_)) => {
            "the socket of a daemon that has ended: start it, or name another with -listen".into()
        }
        _ => usual.into(),
    }
}

fn for_health(error: &HealthError) -> Option<String> {
    match error {
        HealthError::Client(error) => for_client(error),
        HealthError::Answer(_) => Some("what listens there is no healthy daemon".into()),
    }
}
