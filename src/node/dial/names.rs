//! Names in addresses, resolved before anything is dialed.
//!
//! The library's transport resolves while it dials, one address after the other, and takes 16 of
//! the addresses that a name has. Here a name is replaced by all of its addresses, which are then
//! dialed side by side like any others.

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    TokioResolver,
    config::{ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
    system_conf::read_system_conf,
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::Mutex;

use crate::{fixed_limits::fixed_limit, telemetry::Chain};

/// Addresses taken from one name, as many as are dialed of one peer.
pub(super) const MAX_RESOLVED: usize = 100;
fixed_limit!("addresses taken from one name", MAX_RESOLVED);

/// Lookups for one name: records of `/dnsaddr` may name further names.
const MAX_LOOKUPS: usize = 64;
fixed_limit!("lookups for one name", MAX_LOOKUPS);

/// Records of `/dnsaddr` that refer to each other (go-libp2p's number).
const MAX_DEPTH: usize = 4;

/// Time for all lookups of one name.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the system says how names are resolved.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What is said where no name server answers.
pub(in crate::node) const NO_ANSWER: &str = "DNS does not answer";

/// Why a name has no addresses, in words.
pub(in crate::node) type ResolveError = String;

/// Resolves names as the system does. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct Names(Arc<Mutex<Option<Loaded>>>);

#[derive(Debug, Clone)]
struct Loaded {
    resolver: TokioResolver,
    /// When each of the system's files was last changed.
    read: [Option<SystemTime>; SYSTEM_FILES.len()],
}

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
        let search = async {
            let resolver = self.resolver().await?;
            search(&resolver, peer, address).await
        };
        tokio::time::timeout(TIMEOUT, search)
            .await
            .unwrap_or_else(|_| Err(format!("name lookup: {NO_ANSWER}")))
    }

    /// The resolver as the system's files have it now. What an older one remembers, failures
    /// among it, goes with it.
    async fn resolver(&self) -> Result<TokioResolver, ResolveError> {
        let known = self.0.lock().clone();
        // Files may lie on a slow disk, and a runtime's worker must not wait for one.
        let loaded = tokio::task::spawn_blocking(move || {
            let read = SYSTEM_FILES.map(changed);
            match known {
                Some(known) if known.read == read => Ok(known),
                _ => load(read),
            }
        });
        let loaded = loaded.await.map_err(|error| error.to_string())??;
        let resolver = loaded.resolver.clone();
        *self.0.lock() = Some(loaded);
        Ok(resolver)
    }
}

fn changed(path: &str) -> Option<SystemTime> {
    Path::new(path).metadata().ok()?.modified().ok()
}

fn load(read: [Option<SystemTime>; SYSTEM_FILES.len()]) -> Result<Loaded, ResolveError> {
    let (config, options) = read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(error = %Chain(&error), "no name servers: only names in /etc/hosts are resolved");
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        (nowhere, ResolverOpts::default())
    });
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Loaded { resolver, read })
}

/// Replaces names by what they stand for until none is left.
async fn search(
    resolver: &TokioResolver,
    peer: PeerId,
    address: Multiaddr,
) -> Result<Vec<Multiaddr>, ResolveError> {
    let mut found: Vec<Multiaddr> = Vec::new();
    // A name that stays is looked up as well, to see where it leads.
    let stays = !is_name(&address);
    let mut pending = vec![(address, 0)];
    let mut lookups = 0;
    let mut failure = None;
    while let Some((address, depth)) = pending.pop() {
        let done = if stays {
            !has_name(&address)
        } else {
            !is_name(&address)
        };
        if done {
            if !found.contains(&address) && found.len() < MAX_RESOLVED {
                found.push(address);
            }
            continue;
        }
        if lookups == MAX_LOOKUPS || depth > MAX_DEPTH {
            failure.get_or_insert_with(|| "too many lookups".to_owned());
            continue;
        }
        lookups += 1;
        match replace(resolver, peer, &address).await {
            // The last is looked at first: the order of the records stays.
            Ok(next) => pending.extend(next.into_iter().rev().map(|next| (next, depth + 1))),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        None if found.is_empty() => Err("no such host".to_owned()),
        _ => Ok(found),
    }
}

/// Replaces the first name in `address`.
async fn replace(
    resolver: &TokioResolver,
    peer: PeerId,
    address: &Multiaddr,
) -> Result<Vec<Multiaddr>, ResolveError> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let Some(at) = parts.iter().position(|part| name(part).is_some()) else {
        return Ok(vec![address.clone()]);
    };
    let before = || parts[..at].iter().cloned();
    let after = || parts[at + 1..].iter().cloned();
    let host = name(&parts[at]).unwrap_or_default();
    if let Protocol::Dnsaddr(_) = parts[at] {
        // In front of a circuit, the records are the relay's.
        let circuit = parts.iter().position(|part| *part == Protocol::P2pCircuit);
        let end = circuit.map_or(parts.len(), |circuit| circuit.saturating_sub(1));
        let (peer, end) = match parts.get(end) {
            Some(Protocol::P2p(relay)) if end > at => (*relay, end),
            _ => (peer, parts.len()),
        };
        let suffix: Multiaddr = parts[at + 1..end].iter().cloned().collect();
        let rest = || parts[end..].iter().cloned();
        let records = dnsaddr_records(resolver, &host).await?;
        let ours = records
            .into_iter()
            .filter_map(|record| own_record(record, peer))
            .filter(|record| record.ends_with(&suffix));
        return Ok(ours
            .map(|record| before().chain(&record).chain(rest()).collect())
            .collect());
    }
    let wanted: fn(&IpAddr) -> bool = match parts[at] {
        Protocol::Dns4(_) => IpAddr::is_ipv4,
        Protocol::Dns6(_) => IpAddr::is_ipv6,
        _ => |_| true,
    };
    let ips = addresses(resolver, &host).await?;
    let ips = ips.into_iter().filter(wanted).map(Protocol::from);
    Ok(ips
        .map(|ip| before().chain(std::iter::once(ip)).chain(after()).collect())
        .collect())
}

/// Go's words where the name does not exist, plain ones where nobody answers.
fn failure(name: &str, error: &NetError) -> ResolveError {
    if error.is_no_records_found() {
        format!("lookup {name}: no such host")
    } else {
        format!("lookup {name}: {NO_ANSWER}: {error}")
    }
}

/// The addresses of a host, of both families.
pub(super) async fn addresses(
    resolver: &TokioResolver,
    host: &str,
) -> Result<Vec<IpAddr>, ResolveError> {
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
        Some(_) => Some(crate::node::peer_address::strip_peer(record, peer)),
        None => None,
    }
}
