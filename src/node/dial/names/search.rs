//! What a name stands for, found bit by bit.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use hickory_resolver::{TokioResolver, net::NetError, proto::rr::RData};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::{Instant, timeout_at};

use super::{
    MAX_DEPTH, MAX_LOOKUPS, MAX_RESOLVED, NO_ANSWER, Names, ResolveError, Resolvers, TIMEOUT,
    has_name, is_name, name,
};
use crate::node::peer_address::strip_peer;

/// What came of one lookup: addresses that may hold names again, and how many led there.
type Looked = (Result<Vec<Multiaddr>, ResolveError>, usize);

/// A search for the addresses of one name. Dropping it ends it.
pub(in crate::node::dial) struct Search {
    names: Names,
    peer: PeerId,
    address: Multiaddr,
    resolvers: Option<Resolvers>,
    /// To be looked up, with how many names led there.
    pending: VecDeque<(Multiaddr, usize)>,
    running: FuturesUnordered<BoxFuture<'static, Looked>>,
    lookups: usize,
    found: HashSet<Multiaddr>,
    failure: Option<ResolveError>,
    deadline: Instant,
}

impl Search {
    pub(super) fn new(names: Names, peer: PeerId, address: Multiaddr) -> Self {
        Self {
            names,
            peer,
            resolvers: None,
            pending: VecDeque::from([(address.clone(), 0)]),
            address,
            running: FuturesUnordered::new(),
            lookups: 0,
            found: HashSet::new(),
            failure: None,
            deadline: Instant::now() + TIMEOUT,
        }
    }

    /// All addresses.
    pub(in crate::node::dial) async fn whole(mut self) -> Result<Vec<Multiaddr>, ResolveError> {
        let mut all = Vec::new();
        while let Some(found) = self.next().await {
            all.extend(found);
        }
        self.end().map(|()| all)
    }

    /// The next addresses, none of which has come before. `None` once there are no more, or the
    /// time is over.
    pub(in crate::node::dial) async fn next(&mut self) -> Option<Vec<Multiaddr>> {
        loop {
            let found = self.sort_pending();
            if !found.is_empty() {
                return Some(found);
            }
            let Ok(looked) = timeout_at(self.deadline, self.look()).await else {
                self.fail(format!("name lookup: {NO_ANSWER}"));
                self.pending.clear();
                self.running.clear();
                return None;
            };
            let (found, depth) = looked?;
            match found {
                Ok(found) => {
                    let further = found.into_iter().map(|address| (address, depth));
                    self.pending.extend(further);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    /// Why there are no addresses, after [`Search::next`] has found none.
    pub(in crate::node::dial) fn end(self) -> Result<(), ResolveError> {
        match self.found.is_empty() {
            true => Err(self.failure.unwrap_or_else(|| "no such host".to_owned())),
            false => Ok(()),
        }
    }

    /// That nobody answers says more than that a name has no address of one kind.
    fn fail(&mut self, error: ResolveError) {
        let silent = |error: &ResolveError| error.contains(NO_ANSWER);
        let known = self.failure.as_ref();
        if known.is_none_or(|known| silent(&error) && !silent(known)) {
            self.failure = Some(error);
        }
    }

    /// Takes out those that hold no name, or none that is replaced: these are found.
    fn sort_pending(&mut self) -> Vec<Multiaddr> {
        // A name that stays is looked up as well, to see where it leads.
        let stays = !is_name(&self.address);
        let mut found = Vec::new();
        for (address, depth) in std::mem::take(&mut self.pending) {
            let open = if stays {
                has_name(&address)
            } else {
                is_name(&address)
            };
            if !open {
                if self.found.len() < MAX_RESOLVED && self.found.insert(address.clone()) {
                    found.push(address);
                }
            } else if self.lookups == MAX_LOOKUPS || depth > MAX_DEPTH {
                self.fail("too many lookups".to_owned());
            } else {
                self.lookups += 1;
                self.pending.push_back((address, depth));
            }
        }
        found
    }

    /// Looks up what is pending, and waits for one answer.
    async fn look(&mut self) -> Option<Looked> {
        if self.resolvers.is_none() {
            match self.names.resolvers().await {
                Ok(resolvers) => self.resolvers = Some(resolvers),
                Err(error) => {
                    self.pending.clear();
                    self.fail(error);
                }
            }
        }
        if let Some(resolvers) = &self.resolvers {
            for (address, depth) in self.pending.drain(..) {
                for question in Question::about(&address, self.peer) {
                    let (resolvers, names) = (resolvers.clone(), self.names.clone());
                    let asked = async move {
                        let _place = names.questions.acquire().await;
                        (question.ask(&resolvers).await, depth + 1)
                    };
                    self.running.push(asked.boxed());
                }
            }
        }
        self.running.next().await
    }
}

/// One question to the name servers.
struct Question {
    kind: Kind,
    host: String,
    /// What stands before the name, and after what the answer replaces.
    before: Vec<Protocol<'static>>,
    after: Vec<Protocol<'static>>,
}

#[derive(Clone)]
enum Kind {
    Ip4,
    Ip6,
    /// Records of this peer that end like this.
    Records(PeerId, Multiaddr),
}

impl Question {
    /// What to ask about the first name in `address`.
    fn about(address: &Multiaddr, peer: PeerId) -> Vec<Self> {
        let parts: Vec<Protocol<'static>> = address.iter().map(Protocol::acquire).collect();
        let Some(at) = parts.iter().position(|part| name(part).is_some()) else {
            return Vec::new();
        };
        let mut end = at + 1;
        let kinds = match parts[at] {
            Protocol::Dns4(_) => vec![Kind::Ip4],
            Protocol::Dns6(_) => vec![Kind::Ip6],
            Protocol::Dnsaddr(_) => {
                // In front of a circuit, the records are the relay's.
                let circuit = parts.iter().position(|part| *part == Protocol::P2pCircuit);
                let relay = circuit.map_or(parts.len(), |circuit| circuit.saturating_sub(1));
                let (peer, until) = match parts.get(relay) {
                    Some(Protocol::P2p(id)) if relay > at => (*id, relay),
                    _ => (peer, parts.len()),
                };
                let suffix = parts[end..until].iter().cloned().collect();
                end = until;
                vec![Kind::Records(peer, suffix)]
            }
            _ => vec![Kind::Ip4, Kind::Ip6],
        };
        let question = |kind| Self {
            kind,
            host: name(&parts[at]).unwrap_or_default(),
            before: parts[..at].to_vec(),
            after: parts[end..].to_vec(),
        };
        kinds.into_iter().map(question).collect()
    }

    async fn ask(self, resolvers: &Resolvers) -> Result<Vec<Multiaddr>, ResolveError> {
        let Self {
            kind,
            host,
            before,
            after,
        } = self;
        let answers: Vec<Multiaddr> = match kind {
            Kind::Ip4 => {
                let found = addresses(&resolvers.ip4, &host).await?.into_iter();
                found.filter(IpAddr::is_ipv4).map(Multiaddr::from).collect()
            }
            Kind::Ip6 => {
                let found = addresses(&resolvers.ip6, &host).await?.into_iter();
                found.filter(IpAddr::is_ipv6).map(Multiaddr::from).collect()
            }
            Kind::Records(peer, suffix) => {
                let records = dnsaddr_records(&resolvers.ip4, &host).await?.into_iter();
                let own = records.filter_map(|record| own_record(record, peer));
                own.filter(|record| record.ends_with(&suffix)).collect()
            }
        };
        let whole = |answer: Multiaddr| {
            let before = before.iter().cloned();
            before.chain(&answer).chain(after.iter().cloned()).collect()
        };
        Ok(answers.into_iter().map(whole).collect())
    }
}

/// Go's words where the name does not exist, plain ones where nobody answers.
fn failure(name: &str, error: &NetError) -> ResolveError {
    if error.is_no_records_found() {
        format!("lookup {name}: no such host")
    } else {
        format!("lookup {name}: {NO_ANSWER}: {error}")
    }
}

/// The addresses of a host that `resolver` asks for.
async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let found = resolver.lookup_ip(host).await;
    let found = found.map_err(|error| failure(host, &error))?;
    Ok(found.iter().collect())
}

/// The addresses in the TXT records of `_dnsaddr.<host>`.
async fn dnsaddr_records(
    resolver: &TokioResolver,
    host: &str,
) -> Result<Vec<Multiaddr>, ResolveError> {
    let name = format!("_dnsaddr.{host}");
    let found = resolver.txt_lookup(name.as_str()).await;
    let found = found.map_err(|error| failure(&name, &error))?;
    let texts = found.answers().iter().filter_map(|record| {
        let RData::TXT(text) = &record.data else {
            return None;
        };
        // A record longer than 255 bytes comes in several strings.
        String::from_utf8(text.txt_data.concat()).ok()
    });
    Ok(texts
        .filter_map(|text| text.strip_prefix("dnsaddr=")?.parse().ok())
        .collect())
}

/// A record without its trailing `/p2p/<peer>`; nothing if it is about another peer.
fn own_record(record: Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    match record.iter().last() {
        Some(Protocol::P2p(other)) if other != peer => None,
        Some(_) => Some(strip_peer(record, peer)),
        None => None,
    }
}
