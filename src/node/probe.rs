//! Each address of a peer, dialed by itself: which of them answer, and how fast.
//!
//! A CONNECT stops at the first that answers. Here all are dialed, beside the swarm.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use libp2p::{Multiaddr, PeerId, TransportError, multiaddr::Protocol};
use tokio::{
    sync::Semaphore,
    time::{Instant as Deadline, timeout_at},
};

use super::{
    Cause, DialBack, Node, Options, StartError,
    address_filter::{Scope, is_harmless},
    dial::{Names, Origin, is_name},
    peer_address::{is_relayed, strip_peer},
};

use crate::fixed_limits::fixed_limit;

/// Addresses of one probe (SECURITY.md 3); further ones are left out.
const MAX_ADDRESSES: usize = 64;
fixed_limit!("addresses of a probe", MAX_ADDRESSES);

/// Addresses of a probe that are dialed at once (SECURITY.md 3).
const MAX_AT_ONCE: usize = 4;

/// Probes at once (SECURITY.md 3); a further one fails.
const MAX_PROBES: usize = 4;
fixed_limit!("probes at once", MAX_PROBES);

/// What an address has answered.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The address that was dialed, without `/p2p/<peer>`.
    pub address: Multiaddr,
    /// What it was resolved from, if that holds a name.
    pub name: Option<Multiaddr>,
    /// Time to the answer.
    pub time: Duration,
    /// Who has proven to be there, or why nobody has.
    pub answer: Result<PeerId, Cause>,
}

/// Why nothing was dialed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// As many probes run as may.
    #[error("too many probes")]
    TooMany,
    /// None is named, and none is known.
    #[error("no addresses")]
    NoAddresses,
    /// The identity of the dials cannot be used.
    #[error("the transports cannot be built")]
    Transport(#[source] StartError),
}

/// Dials addresses one by one.
pub(super) struct Prober {
    options: Options,
    /// Made for the first probe: few daemons see one.
    dials: tokio::sync::OnceCell<Arc<DialBack>>,
    names: Names,
    places: Semaphore,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

/// An address to dial, or why it cannot be.
struct Target {
    address: Multiaddr,
    name: Option<Multiaddr>,
    unfit: Option<Cause>,
}

impl Target {
    fn of(address: Multiaddr) -> Self {
        let unfit = is_relayed(&address).then(|| {
            Cause::Other("not dialed: it leads through a relay, as CONNECT dials it".to_owned())
        });
        Self {
            address,
            name: None,
            unfit,
        }
    }
}

impl Prober {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            dials: tokio::sync::OnceCell::new(),
            names: Names::default(),
            places: Semaphore::new(MAX_PROBES),
        }
    }

    async fn dials(&self) -> Result<Arc<DialBack>, ProbeError> {
        let made = self.dials.get_or_try_init(|| async {
            let made = DialBack::new(&self.options).await;
            made.map(Arc::new).map_err(ProbeError::Transport)
        });
        made.await.cloned()
    }

    async fn probe(
        &self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        deadline: Deadline,
    ) -> Result<Vec<Probed>, ProbeError> {
        let _place = self.places.try_acquire().map_err(|_| ProbeError::TooMany)?;
        let dials = self.dials().await?;
        let mut targets = Vec::new();
        for address in addresses {
            targets.extend(self.targets(peer, address, deadline).await);
        }
        targets.truncate(MAX_ADDRESSES);
        let dialing = targets
            .into_iter()
            .map(|target| dial(&dials, peer, target, deadline));
        Ok(stream::iter(dialing).buffered(MAX_AT_ONCE).collect().await)
    }

    /// What `address` stands for.
    async fn targets(
        &self,
        peer: Option<PeerId>,
        address: Multiaddr,
        deadline: Deadline,
    ) -> Vec<Target> {
        let of_any = |part| matches!(part, Protocol::Dnsaddr(_));
        if !is_name(&address) {
            return vec![Target::of(address)];
        }
        let resolving = async {
            match peer {
                Some(peer) => self.names.resolve(peer, address.clone()).await,
                // Its records name the addresses of single peers.
                None if address.iter().any(of_any) => Err("/dnsaddr needs a peer id".to_owned()),
                None => self.names.resolve(PeerId::random(), address.clone()).await,
            }
        };
        let resolved = timeout_at(deadline, resolving).await;
        match resolved.unwrap_or_else(|_| Err("name lookup: no time is left".to_owned())) {
            Ok(mut found) => {
                // Records are a stranger's words, unless the client has said the same.
                let given = !is_harmless(&address);
                found.retain(|found| given || is_harmless(found));
                let target = |found| Target {
                    name: Some(address.clone()),
                    ..Target::of(found)
                };
                found.into_iter().map(target).collect()
            }
            Err(reason) => vec![Target {
                unfit: Some(Cause::Name(reason)),
                ..Target::of(address)
            }],
        }
    }
}

async fn dial(
    dials: &DialBack,
    peer: Option<PeerId>,
    target: Target,
    deadline: Deadline,
) -> Probed {
    let begun = Instant::now();
    let Target {
        address,
        name,
        unfit,
    } = target;
    let answer = match unfit {
        Some(cause) => Err(cause),
        None => {
            let named = match peer {
                Some(peer) => address.clone().with(Protocol::P2p(peer)),
                None => address.clone(),
            };
            match timeout_at(deadline, dials.who_answers(named)).await {
                Ok(Ok(peer)) => Ok(peer),
                Ok(Err(error)) => Err(Cause::from_transport(&error, &address)),
                Err(_) => Err(Cause::from_transport(
                    &TransportError::Other(std::io::ErrorKind::TimedOut.into()),
                    &address,
                )),
            }
        }
    };
    Probed {
        address,
        name,
        time: begun.elapsed(),
        answer,
    }
}

impl Node {
    /// Dials `addresses`, and those that are known of `peer`, each by itself, for `timeout` at most.
    ///
    /// # Errors
    /// See [`ProbeError`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the dials.
    pub async fn probe(
        &self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        timeout: Duration,
    ) -> Result<Vec<Probed>, ProbeError> {
        let mut wanted: Vec<Multiaddr> = Vec::new();
        let named = addresses.into_iter().map(|address| match peer {
            Some(peer) => strip_peer(address, peer),
            None => address,
        });
        let known = peer.map(|peer| self.0.book.candidates(&peer));
        let known = known.into_iter().flatten().filter(|known| {
            let scope = match known.origin {
                Origin::Given => return true,
                Origin::Told(scope) => scope,
                Origin::Hearsay => Scope::of_address(&known.address),
            };
            self.0.filter.admits_dial(scope, &known.address)
        });
        for address in named.chain(known.map(|known| known.address)) {
            if !address.is_empty() && !wanted.contains(&address) && wanted.len() < MAX_ADDRESSES {
                wanted.push(address);
            }
        }
        if wanted.is_empty() {
            return Err(ProbeError::NoAddresses);
        }
        let deadline = Deadline::now() + timeout;
        self.0.prober.probe(peer, wanted, deadline).await
    }
}
