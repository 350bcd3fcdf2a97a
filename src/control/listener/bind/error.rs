//! Why the control socket could not be bound, and what to do about it.

use std::{fs, io};

use crate::accounts;
use crate::wording::system_error;

/// Why the control socket could not be bound, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {what}: {reason}")]
pub struct BindError {
    what: String,
    reason: String,
    advice: Option<String>,
    #[source]
    source: Option<io::Error>,
}

/// What lies at the path of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// A socket that this process listened on, or whoever has these numbers.
    Live { pid: i32, uid: u32 },
    /// A socket that nobody listens on, which may be replaced.
    Stale,
    /// A socket that nobody listens on, of another user.
    StaleOfAnother { uid: u32 },
    /// Something else.
    NoSocket,
    /// It cannot be told.
    Unknown,
}

pub(in crate::control) fn bind_error(what: String, source: io::Error) -> BindError {
    let other = "name an address of this host with -listen, such as /unix/tmp/p2pd.sock";
    let (reason, advice) = match source.kind() {
        io::ErrorKind::AddrInUse => (
            "bind: address already in use".to_owned(),
            "stop what listens there, or choose another address with -listen",
        ),
        io::ErrorKind::NotFound => (
            "bind: no such file or directory".to_owned(),
            "make the directory of the socket first, or choose another path with -listen",
        ),
        io::ErrorKind::InvalidInput => ("bind: invalid argument".to_owned(), other),
        io::ErrorKind::PermissionDenied => (
            "bind: permission denied".to_owned(),
            "choose a directory that this user may write to, or a port above 1023, with -listen",
        ),
        io::ErrorKind::AddrNotAvailable => {
            ("bind: cannot assign requested address".to_owned(), other)
        }
        io::ErrorKind::ReadOnlyFilesystem => (
            "bind: read-only file system".to_owned(),
            "choose a path on a writable file system with -listen",
        ),
        _ => (format!("bind: {}", system_error(&source)), other),
    };
    BindError {
        what,
        reason,
        advice: Some(advice.to_owned()),
        source: Some(source),
    }
}

impl BindError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<String> {
        self.advice.clone()
    }

    /// A name that leads to no address.
    pub(super) fn lookup(name: &str, reason: &str, source: Option<io::Error>) -> Self {
        Self {
            what: "tcp".to_owned(),
            reason: format!("lookup {name}: {reason}"),
            advice: Some(
                "does a name server answer? See /etc/resolv.conf, or give -listen an ip address"
                    .into(),
            ),
            source,
        }
    }

    /// With what is in the way.
    pub(super) fn behind(self, obstacle: Obstacle) -> Self {
        let advice = match obstacle {
            Obstacle::Live { pid, uid } => format!(
                "{} listens there: stop it, or choose another socket with -listen",
                process(pid, uid)
            ),
            Obstacle::StaleOfAnother { uid } => format!(
                "nobody listens there, but the file belongs to {}: remove it, or choose another \
                 socket with -listen",
                user(uid)
            ),
            Obstacle::NoSocket => {
                "a file that is no socket has that name: choose another with -listen".into()
            }
            Obstacle::Stale | Obstacle::Unknown => return self,
        };
        Self {
            advice: Some(advice),
            ..self
        }
    }

    /// With the flag that asked for what failed.
    pub(super) fn about(self, flag: &str) -> Self {
        Self {
            advice: Some(format!("this user may not do what {flag} asks for")),
            ..self
        }
    }
}

/// A process by number, name and user. The numbers are those of the start of its listening.
fn process(pid: i32, uid: u32) -> String {
    let user = user(uid);
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(
            "process {pid} ({}) of {user}",
            name.trim_end().escape_debug()
        ),
        Err(_) => format!("process {pid} of {user}"),
    }
}

fn user(uid: u32) -> String {
    match accounts::user_name(uid) {
        Some(name) => format!("user {} ({uid})", name.escape_debug()),
        None => format!("user {uid}"),
    }
}
