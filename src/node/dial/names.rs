//! Names in addresses, resolved before anything is dialed.
//!
//! The library's transport resolves while it dials, one address after the other, and takes 16 of
//! the addresses that a name has. Here a name is replaced by all of its addresses, each of which is
//! dialed as soon as it is known.

mod search;

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    system_conf::read_system_conf,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{fixed_limits::fixed_limit, telemetry::Chain};
pub(super) use search::Search;

/// Addresses taken from one name.
pub(super) const MAX_RESOLVED: usize = 256;
fixed_limit!("addresses taken from one name", MAX_RESOLVED);

/// Lookups for one name: records of `/dnsaddr` may name further names.
const MAX_LOOKUPS: usize = 128;
fixed_limit!("lookups for one name", MAX_LOOKUPS);

/// Records of `/dnsaddr` that refer to each other (go-libp2p's number).
const MAX_DEPTH: usize = 4;

/// Time for all lookups of one name.
const TIMEOUT: Duration = Duration::from_secs(5);
fixed_limit!("time for all questions about one name", time TIMEOUT);

/// Questions under way, for all names.
const MAX_QUESTIONS: usize = 64;
fixed_limit!("questions to name servers under way", MAX_QUESTIONS);

/// Name servers asked at the same time: all that a system may name. One that is silent costs
/// nothing then.
const MAX_SERVERS: usize = 3;

/// Where the system says how names are resolved.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What is said where no name server answers.
pub(in crate::node) const NO_ANSWER: &str = "DNS does not answer";

/// Why a name has no addresses, in words.
pub(in crate::node) type ResolveError = String;

/// Resolves names as the system does. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::node) struct Names {
    loaded: Arc<Mutex<Option<Loaded>>>,
    questions: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            loaded: Arc::default(),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        }
    }
}

/// One for each kind of address: the answer of one need not wait for that of the other, which some
/// name servers never give.
#[derive(Debug, Clone)]
struct Resolvers {
    ip4: TokioResolver,
    ip6: TokioResolver,
}

#[derive(Debug, Clone)]
struct Loaded {
    resolvers: Resolvers,
    read: Stamps,
}

/// What tells one state of a file from another: its times, its inode, its length. Edits within one
/// tick of the clock have the same time, and so have copies that keep it.
type Stamp = Option<(SystemTime, i64, u64, u64)>;

/// Of each of the system's files.
type Stamps = [Stamp; SYSTEM_FILES.len()];

/// Whether the address holds a name that is resolved here. A secure websocket needs the name
/// itself, which the server's certificate is for.
pub(in crate::node) fn is_name(address: &Multiaddr) -> bool {
    let secure = address
        .iter()
        .any(|part| matches!(part, Protocol::Wss(_) | Protocol::Tls));
    has_name(address) && !secure
}

/// Whether the address holds a name of any kind.
pub(super) fn has_name(address: &Multiaddr) -> bool {
    address.iter().any(|part| name(&part).is_some())
}

/// The name in a component of an address.
fn name(part: &Protocol<'_>) -> Option<String> {
    match part {
        Protocol::Dns(name)
        | Protocol::Dns4(name)
        | Protocol::Dns6(name)
        | Protocol::Dnsaddr(name) => Some(name.to_string()),
        _ => None,
    }
}

impl Names {
    /// The addresses of `peer` that `address` stands for, none twice.
    pub(in crate::node) async fn resolve(
        &self,
        peer: PeerId,
        address: Multiaddr,
    ) -> Result<Vec<Multiaddr>, ResolveError> {
        self.search(peer, address).whole().await
    }

    /// Looks for the addresses of `peer` that `address` stands for. The time for it runs from now
    /// on.
    pub(super) fn search(&self, peer: PeerId, address: Multiaddr) -> Search {
        Search::new(self.clone(), peer, address)
    }

    /// The resolvers as the system's files have them now. What older ones remember, failures
    /// among it, goes with them.
    async fn resolvers(&self) -> Result<Resolvers, ResolveError> {
        let known = self.loaded.lock().clone();
        // Files may lie on a slow disk, and a runtime's worker must not wait for one.
        let loaded = tokio::task::spawn_blocking(move || {
            let read = SYSTEM_FILES.map(stamp);
            match known {
                Some(known) if known.read == read => Ok(known),
                _ => load(read),
            }
        });
        let loaded = loaded.await.map_err(|error| error.to_string())??;
        let resolvers = loaded.resolvers.clone();
        *self.loaded.lock() = Some(loaded);
        Ok(resolvers)
    }
}

fn stamp(path: &str) -> Stamp {
    let file = Path::new(path).metadata().ok()?;
    Some((file.modified().ok()?, file.ctime(), file.ino(), file.len()))
}

fn load(read: Stamps) -> Result<Loaded, ResolveError> {
    let (config, mut options) = read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(error = %Chain(&error), "no name servers: only names in /etc/hosts are resolved");
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        (nowhere, ResolverOpts::default())
    });
    options.num_concurrent_reqs = MAX_SERVERS;
    let resolver = |strategy| {
        let mut options = options.clone();
        options.ip_strategy = strategy;
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config.clone(), provider);
        let resolver = resolver.with_options(options).build();
        resolver.map_err(|error| error.to_string())
    };
    let resolvers = Resolvers {
        ip4: resolver(LookupIpStrategy::Ipv4Only)?,
        ip6: resolver(LookupIpStrategy::Ipv6Only)?,
    };
    Ok(Loaded { resolvers, read })
}
