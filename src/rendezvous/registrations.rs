//! Who has registered at this point.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::PeerId;
use sha2::{Digest as _, Sha256};

use super::{
    message::{MAX_ANSWER, MAX_NAMESPACE, Register, Status},
    record::{Form, Record},
};
use crate::{fixed_limits::fixed_limit, limit_hits::Limit, memory::Charge};

/// Registrations of all peers.
const MAX_REGISTRATIONS: usize = 8192;
fixed_limit!("rendezvous: registrations", MAX_REGISTRATIONS);

/// Names under which one peer may register (rust-libp2p's value).
const MAX_PER_PEER: usize = 32;
fixed_limit!("rendezvous: registrations of one peer", MAX_PER_PEER);

/// Registrations of all peers of one address, or one IPv6 /56.
const MAX_PER_ADDRESS: usize = 512;
fixed_limit!("rendezvous: registrations of one address", MAX_PER_ADDRESS);

/// Registrations in one answer.
const MAX_FOUND: usize = 100;
fixed_limit!("rendezvous: registrations in one answer", MAX_FOUND);

/// Registrations looked at for one answer. There may be more that the asker does not read.
const MAX_SEEN: usize = 1000;

/// Why there is no answer.
type Refusal = (Status, &'static str);

#[derive(Debug)]
struct Entry {
    namespace: Bytes,
    record: Record,
    address: Option<IpAddr>,
    expires: Instant,
    _charge: Charge,
}

/// The registrations, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Registrations {
    /// Makes cookies nobody else can make.
    secret: [u8; 16],
    last: u64,
    entries: BTreeMap<u64, Entry>,
    /// Their numbers, the first to be over in front.
    ends: BTreeSet<(Instant, u64)>,
    namespaces: HashMap<Bytes, BTreeSet<u64>>,
    peers: HashMap<PeerId, HashMap<Bytes, u64>>,
    addresses: HashMap<IpAddr, usize>,
}

impl Registrations {
    pub(super) fn new() -> Self {
        Self {
            secret: rand::random(),
            last: 0,
            entries: BTreeMap::new(),
            ends: BTreeSet::new(),
            namespaces: HashMap::new(),
            peers: HashMap::new(),
            addresses: HashMap::new(),
        }
    }

    /// Registers `record`, whose peer was met at `address`, or renews its registration.
    pub(super) fn register(
        &mut self,
        namespace: Bytes,
        record: Record,
        address: Option<IpAddr>,
        (ttl, now): (Duration, Instant),
        charge: Charge,
    ) -> Result<(), Refusal> {
        self.unregister(&record.peer, &namespace);
        self.forget(now);
        let of_peer = self.peers.get(&record.peer).map_or(0, HashMap::len);
        let of_address = address.and_then(|address| self.addresses.get(&address));
        if of_peer >= MAX_PER_PEER
            || of_address.is_some_and(|count| *count >= MAX_PER_ADDRESS)
            || self.entries.len() >= MAX_REGISTRATIONS
        {
            Limit::Rendezvous.hit();
            return Err((Status::Unavailable, "too many registrations"));
        }
        self.last += 1;
        let number = self.last;
        let numbers = self.namespaces.entry(namespace.clone()).or_default();
        numbers.insert(number);
        let of_peer = self.peers.entry(record.peer).or_default();
        of_peer.insert(namespace.clone(), number);
        if let Some(address) = address {
            *self.addresses.entry(address).or_default() += 1;
        }
        self.ends.insert((now + ttl, number));
        let entry = Entry {
            namespace,
            record,
            address,
            expires: now + ttl,
            _charge: charge,
        };
        self.entries.insert(number, entry);
        Ok(())
    }

    /// Removes the registration of `peer` under `namespace`, if there is one.
    pub(super) fn unregister(&mut self, peer: &PeerId, namespace: &Bytes) {
        let number = self.peers.get(peer).and_then(|names| names.get(namespace));
        if let Some(number) = number.copied() {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else {
            return;
        };
        self.ends.remove(&(entry.expires, number));
        if let Some(numbers) = self.namespaces.get_mut(&entry.namespace) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.namespaces.remove(&entry.namespace);
            }
        }
        if let Some(names) = self.peers.get_mut(&entry.record.peer) {
            names.remove(&entry.namespace);
            if names.is_empty() {
                self.peers.remove(&entry.record.peer);
            }
        }
        if let Some(address) = entry.address
            && let Some(count) = self.addresses.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    /// Forgets those whose time is over. The others are not looked at.
    fn forget(&mut self, now: Instant) {
        while let Some((_, number)) = self.ends.first().filter(|(end, _)| *end <= now) {
            self.remove(*number);
        }
    }

    /// The form in which `peer` has registered last, if it has.
    pub(super) fn form_of(&self, peer: &PeerId) -> Option<Form> {
        let last = self.peers.get(peer)?.values().max()?;
        self.entries.get(last).map(|entry| entry.record.form)
    }

    /// Those under `namespace`, or under any name, that have registered since `cookie` was given;
    /// at most `limit`, for a peer that reads `form`, or any. With a cookie for those that follow.
    pub(super) fn discover(
        &self,
        namespace: Option<&Bytes>,
        cookie: Option<&Bytes>,
        limit: Option<u64>,
        form: Option<Form>,
        now: Instant,
    ) -> Result<(Vec<Register>, Bytes), Refusal> {
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        if namespace.is_some_and(|namespace| namespace.len() > MAX_NAMESPACE) {
            return Err((Status::InvalidNamespace, "the namespace is too long"));
        }
        let cookie = cookie.filter(|cookie| !cookie.is_empty());
        let after = match cookie {
            None => 0,
            Some(cookie) => self
                .read_cookie(namespace, cookie)
                .ok_or((Status::InvalidCookie, "the cookie is not of this point"))?,
        };
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit
            .filter(|limit| *limit > 0)
            .unwrap_or(MAX_FOUND)
            .min(MAX_FOUND);
        let next = after.saturating_add(1)..;
        let mut numbers: Box<dyn Iterator<Item = u64> + '_> = match namespace {
            Some(namespace) => match self.namespaces.get(namespace) {
                Some(numbers) => Box::new(numbers.range(next).copied()),
                None => Box::new(std::iter::empty()),
            },
            None => Box::new(self.entries.range(next).map(|(number, _)| *number)),
        };
        let (mut found, mut size, mut seen) = (Vec::new(), 0, after);
        for number in numbers.by_ref().take(MAX_SEEN) {
            let register = self.entries.get(&number);
            let register = register.and_then(|entry| entry.told(form, now));
            if let Some(register) = register {
                let more = prost::Message::encoded_len(&register) + 8;
                if found.len() >= limit || size + more > MAX_ANSWER / 2 {
                    break;
                }
                size += more;
                found.push(register);
            }
            seen = number;
        }
        Ok((found, self.cookie(namespace, seen)))
    }

    /// Says that everything up to `number` has been told. Text, since some peers read the end of a
    /// cookie as a namespace.
    fn cookie(&self, namespace: Option<&Bytes>, number: u64) -> Bytes {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(number.to_be_bytes());
        digest.update(namespace.map_or(&[][..], |namespace| namespace));
        let digest = digest.finalize();
        let proof = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        format!("{number:016x}{}", proof.collect::<String>()).into()
    }

    fn read_cookie(&self, namespace: Option<&Bytes>, cookie: &Bytes) -> Option<u64> {
        let number = std::str::from_utf8(cookie.get(..16)?).ok()?;
        let number = u64::from_str_radix(number, 16).ok()?;
        (self.cookie(namespace, number) == cookie).then_some(number)
    }
}

impl Entry {
    /// What a peer that reads `form`, or any, is told.
    fn told(&self, form: Option<Form>, now: Instant) -> Option<Register> {
        let left = self.expires.checked_duration_since(now)?;
        (!left.is_zero()).then_some(())?;
        let form = form.unwrap_or(self.record.form);
        Some(Register {
            ns: Some(self.namespace.clone()),
            peer: Some(self.record.in_form(form)?),
            ttl: Some(left.as_secs().max(1)),
        })
    }
}

#[cfg(test)]
mod tests;
