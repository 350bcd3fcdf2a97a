//! Lines about single peers, in the form that go-libp2p writes (its `core/canonicallog`) and that
//! filters of fail2ban look for: `CANONICAL_PEER_STATUS: peer=ID addr=/ip4/1.2.3.4/tcp/5 ...`.
//!
//! A line names an address for others to block, so it is written only where packets from that
//! address have been answered from there, and never for the address of a relay. The filters take
//! the last ` addr=` of a line: text that a peer may have chosen is written without that word.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use tracing::Level;

use crate::{fixed_limits::fixed_limit, wording::quote};

/// Go's name for this logger. The macros need a literal, which the tests compare.
macro_rules! logger {
    () => {
        "canonical-log"
    };
}

/// Of so many events that are normal one by one, one is told, by chance (go-libp2p's).
const SAMPLE_RATE: u32 = 100;

/// Lines of one kind at once (SECURITY.md 3). go-libp2p has no such limit; its documented fail2ban
/// rule counts 90 of an address in three minutes.
const BURST: u32 = 256;
fixed_limit!("log lines about single peers at once", BURST);

/// Time until one more (SECURITY.md 3): a flood that goes on fills 20 MB of a disk in a day.
const INTERVAL: Duration = Duration::from_secs(1);
fixed_limit!("until one more line about a peer", time INTERVAL);

/// Longest text of an error, in bytes.
const MAX_TEXT: usize = 256;

static STATUS: Lines = Lines::new();
static MISBEHAVING: Lines = Lines::new();

/// What is normal of one peer, and a sign of trouble in masses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerStatus<'a> {
    /// There is a connection.
    Established {
        /// This side dialed.
        outbound: bool,
    },
    /// An inbound connection could not be secured.
    HandshakeFailed {
        /// `noise`, `tls`, `plaintext`, or `multistream` before there was one.
        protocol: &'a str,
        /// Why.
        error: &'a str,
    },
    /// An inbound connection was turned away, since its address has too many or makes too many.
    Refused {
        /// Why.
        error: &'a str,
    },
}

/// Tells the status of the peer at `address`, once in a hundred times.
pub(crate) fn peer_status(peer: Option<PeerId>, address: &Multiaddr, status: PeerStatus<'_>) {
    if rand::random_range(0..SAMPLE_RATE) != 0
        || !tracing::enabled!(target: logger!(), Level::INFO)
        || !STATUS.is_due(Instant::now())
    {
        return;
    }
    let line = status_line(peer, address, status);
    tracing::info!(target: logger!(), "{line}");
}

/// Tells that a peer breaks the rules of `component`. `address` is asked for only if a line is due;
/// without one there is nobody to block, and no line.
pub(crate) fn misbehaving_peer(
    peer: &PeerId,
    address: impl FnOnce() -> Option<Multiaddr>,
    component: &str,
    error: &str,
    message: &str,
) {
    if !tracing::enabled!(target: logger!(), Level::WARN) || !MISBEHAVING.is_due(Instant::now()) {
        return;
    }
    if let Some(address) = address() {
        let line = misbehaving_line(peer, &address, component, error, message);
        tracing::warn!(target: logger!(), "{line}");
    }
}

fn status_line(peer: Option<PeerId>, address: &Multiaddr, status: PeerStatus<'_>) -> String {
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let fields = match status {
        PeerStatus::Established { outbound } => [
            ("connection_status", "established"),
            ("dir", if outbound { "outbound" } else { "inbound" }),
        ],
        PeerStatus::HandshakeFailed { protocol, error } => {
            [("handshake_failure", protocol), ("err", error)]
        }
        PeerStatus::Refused { error } => [("connection_status", "refused"), ("err", error)],
    };
    let fields = fields.map(|(name, value)| format!("{name}={}", told(value)));
    format!(
        "CANONICAL_PEER_STATUS: peer={peer} addr={address} sample_rate={SAMPLE_RATE} {}",
        fields.join(" ")
    )
}

fn misbehaving_line(
    peer: &PeerId,
    address: &Multiaddr,
    component: &str,
    error: &str,
    message: &str,
) -> String {
    format!(
        "CANONICAL_MISBEHAVING_PEER: peer={peer} addr={address} component={component} err={} msg={}",
        told(error),
        told(message)
    )
}

/// Text in Go's quotes, cut to a length, in which no filter finds an address.
fn told(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    let text = text.get(..end.unwrap_or(0)).unwrap_or_default();
    quote(&text.replace("addr=", "addr:"))
}

/// How many lines may still be written.
#[derive(Debug)]
struct Lines {
    /// When all are there again.
    whole_at: Mutex<Option<Instant>>,
}

impl Lines {
    const fn new() -> Self {
        Self {
            whole_at: Mutex::new(None),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut whole_at = self.whole_at.lock();
        let spent = whole_at.unwrap_or(now).max(now);
        if spent.duration_since(now) > INTERVAL * (BURST - 1) {
            return false;
        }
        *whole_at = Some(spent + INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Multiaddr {
        "/ip4/1.2.3.4/tcp/5".parse().unwrap()
    }

    #[test]
    fn lines_are_those_of_go() {
        // As go-libp2p's LogPeerStatus and LogMisbehavingPeer format them.
        let peer: PeerId = "12D3KooWSbNLGMYeUuMSXDiHwbhXHzTJaWZzH95MZzeAob9BeB51"
            .parse()
            .unwrap();
        let status = |peer, status| status_line(peer, &address(), status);
        assert_eq!(
            status(Some(peer), PeerStatus::Established { outbound: false }),
            format!(
                "CANONICAL_PEER_STATUS: peer={peer} addr=/ip4/1.2.3.4/tcp/5 sample_rate=100 \
                 connection_status=\"established\" dir=\"inbound\""
            )
        );
        let failed = PeerStatus::HandshakeFailed {
            protocol: "noise",
            error: "EOF",
        };
        assert_eq!(
            status(None, failed),
            "CANONICAL_PEER_STATUS: peer= addr=/ip4/1.2.3.4/tcp/5 sample_rate=100 \
             handshake_failure=\"noise\" err=\"EOF\""
        );
        assert_eq!(
            misbehaving_line(&peer, &address(), "pubsub", "a \"b\"", "c"),
            format!(
                "CANONICAL_MISBEHAVING_PEER: peer={peer} addr=/ip4/1.2.3.4/tcp/5 component=pubsub \
                 err=\"a \\\"b\\\"\" msg=\"c\""
            )
        );
    }

    #[test]
    fn nobody_can_have_another_address_blocked() {
        let error = format!("x addr=/ip4/9.9.9.9/tcp/1\n {}", "ä".repeat(1000));
        let failed = PeerStatus::HandshakeFailed {
            protocol: "tls",
            error: &error,
        };
        let line = status_line(None, &address(), failed);
        assert_eq!(line.matches("addr=").count(), 1, "{line}");
        assert!(line.len() < 600 && !line.contains('\n'), "{line}");
    }

    #[test]
    fn a_flood_has_a_burst_and_then_a_line_in_a_second() {
        let lines = Lines::new();
        let start = Instant::now();
        let told = |second: u32| {
            let now = start + INTERVAL * second;
            (0..10_000).filter(|_| lines.is_due(now)).count()
        };
        assert_eq!(told(0), BURST as usize);
        assert_eq!(told(0), 0);
        assert_eq!(told(60), 60);
        assert_eq!(told(10_000), BURST as usize);
    }
}
