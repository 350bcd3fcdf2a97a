//! Limits that are reached: counted for the report, told to the log once a minute at most.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Between two log lines about the same limit.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A moment before the first limit is reached.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Declares the limits and a counter for each.
macro_rules! limits {
    ($($name:ident $text:literal;)*) => {
        /// A limit that turns something away or makes it wait (SECURITY.md 3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit {
            $(#[doc = concat!("On ", $text, ".")] $name,)*
        }

        const ALL: &[(Limit, &str)] = &[$((Limit::$name, $text),)*];

        static HITS: [Hits; ALL.len()] = [const { Hits::new() }; ALL.len()];
    };
}

limits! {
    Clients "control connections";
    Descriptors "control connections that the descriptors leave no room for";
    PeerDescriptors "inbound connections that the descriptors leave no room for";
    HandlerDescriptors "handler connections that the descriptors leave no room for";
    MemoryInbound "inbound connections refused for memory";
    MemoryStreams "inbound streams refused for memory";
    MemoryTrimmed "idle peers closed for memory";
    MemoryCut "connections cut for memory";
    MemoryCharged "memory held because of one peer, client or address prefix";
    ClientsBlocked "clients that did not read while memory was short";
    ClientsRefused "control connections of clients that may not connect";
    Http "HTTP on the control socket";
    HttpConnections "connections to the metrics address";
    HttpTime "requests to the metrics address that do not end";
    WebStrangers "connections to control over http that show no token";
    WebTime "requests of control over http that do not end";
    WebSites "requests of control over http from other sites";
    WebTokens "wrong tokens of control over http";
    FrameTime "control frames that do not end";
    FrameSize "control frames too large";
    HandlerSlots "stream handlers";
    HandlerAddresses "handler addresses out of the caller's reach";
    Tunnels "tunnels";
    TunnelConnections "connections of one tunnel";
    TunnelPeers "connections to tunnels of those that may not use them";
    HandlerDials "handler connections being made";
    HandlerTime "handlers that do not accept";
    PeerDials "handler connections being made for one peer";
    Calls "calls of a persistent connection";
    Handled "calls that a persistent connection handles";
    Streams "inbound streams";
    NegotiationTime "streams without a protocol proposal in time";
    PendingInbound "inbound connections being secured";
    PendingOutbound "dials under way";
    Inbound "inbound connections";
    Established "connections";
    PerPeer "connections with one peer";
    WrongPeer "addresses that lead to another peer";
    DeadAddress "addresses that never led anywhere";
    PerAddress "inbound connections from one address";
    AddressRate "new inbound connections from one address";
    Blocked "connections that rules forbid";
    TrafficConnections "connections with one peer that a client has limited";
    TrafficStreams "streams that a client has limited";
    Bandwidth "payload that a client has limited";
    Tags "tags of peers";
    AutonatDials "dials that other nodes ask for";
    DhtQueries "DHT queries under way";
    DhtChecks "newcomers to the DHT table being checked";
    DhtJudges "records that wait for one validator";
    DhtVerdictTime "records that are not judged in time";
    DhtStrayVerdicts "verdicts about records that wait for none";
    PubsubSubscribers "messages that wait for one subscriber";
    PubsubJudges "messages that wait for one validator";
    PubsubVerdictTime "verdicts that do not come in time";
    PubsubStrayVerdicts "verdicts about messages that wait for none";
    PubsubPeers "messages that wait for one peer";
    PubsubTopics "topics of peers";
    PubsubSeen "messages remembered";
    RelayReservations "reservations at this relay";
    RelayAddress "reservations at this relay from one address";
    RelayCircuits "circuits of one peer through this relay";
    RelayMemory "requests to this relay refused for memory";
    RelayCut "circuits through this relay cut for memory";
    PubsubScore "pubsub rules that peers have broken";
    Rendezvous "registrations at this rendezvous point";
    WaitingCircuits "inbound circuits that wait for the swarm";
    CircuitsOfRelay "inbound circuits from one relay";
    Punches "hole punches under way";
    PunchRounds "hole punches that one peer asks for";
}

#[derive(Debug)]
struct Hits {
    count: AtomicU64,
    /// When the next line may be written, milliseconds after [`START`].
    quiet_until: AtomicU64,
}

impl Hits {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            quiet_until: AtomicU64::new(0),
        }
    }

    /// Counts; the sum so far if a line is due at `now`.
    fn add(&self, now: Duration) -> Option<u64> {
        let count = self.count.fetch_add(1, Relaxed) + 1;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let due = |until: u64| {
            let next = millis(now.saturating_add(LOG_INTERVAL));
            (millis(now) >= until).then_some(next)
        };
        let claimed = self.quiet_until.fetch_update(Relaxed, Relaxed, due);
        claimed.is_ok().then_some(count)
    }
}

impl Limit {
    /// Its name as the label of a metric: `per_address`.
    #[must_use]
    pub fn label(self) -> String {
        let mut label = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !label.is_empty() {
                label.push('_');
            }
            label.push(letter.to_ascii_lowercase());
        }
        label
    }

    /// Counts that the limit was reached.
    pub fn hit(self) {
        let (_, text) = ALL[self as usize];
        if let Some(count) = HITS[self as usize].add(START.elapsed()) {
            tracing::warn!(limit = text, count, "limit reached");
        }
    }
}

/// How often one limit was reached since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Which one.
    pub limit: Limit,
    /// What it is on.
    pub text: &'static str,
    /// How often.
    pub count: u64,
}

/// How often each limit was reached so far, those that never were too.
#[must_use]
pub fn snapshot() -> Vec<Count> {
    let count = |(&(limit, text), hits): (&(Limit, &'static str), &Hits)| Count {
        limit,
        text,
        count: hits.count.load(Relaxed),
    };
    ALL.iter().zip(&HITS).map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bite_counts_and_one_a_minute_is_told() {
        let hits = Hits::new();
        let told: Vec<u64> = (0..300)
            .filter_map(|second| hits.add(Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [1, 61, 121, 181, 241]);
        assert_eq!(hits.count.load(Relaxed), 300);
    }

    #[test]
    fn each_limit_has_its_own_counter() {
        for (index, (limit, text)) in ALL.iter().enumerate() {
            assert_eq!(*limit as usize, index);
            let twins = ALL.iter().filter(|(_, other)| other == text).count();
            assert_eq!(twins, 1, "{text}");
        }
        Limit::Tags.hit();
        let told = snapshot();
        let tags = told.iter().find(|told| told.limit == Limit::Tags);
        assert!(tags.is_some_and(|tags| tags.count > 0 && tags.text == "tags of peers"));
    }
}
