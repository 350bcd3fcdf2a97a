//! A rendezvous point: takes registrations and tells of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::AsyncWriteExt as _;
use libp2p::PeerId;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{sleep, timeout};

use super::{
    message::{
        DEFAULT_TTL, Discover, Kind, MAX_ANSWER, MAX_NAMESPACE, MAX_REQUEST, MAX_TTL, Message,
        Register, Status, Unregister,
    },
    record::{Form, Record},
    registrations::Registrations,
};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Charge, prefix},
    node::Node,
    streams::{InboundStream, Service},
    wire::frame::{self, FrameReader},
};

/// Time for a request to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the peer to say what program it is.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for the peer to take an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one stream that are served at once; between further ones there is a pause.
const BURST: usize = 32;
fixed_limit!("rendezvous: requests of one stream without a pause", BURST);
const PAUSE: Duration = Duration::from_millis(20);

/// What a request may take in memory once it is read: an entry of two bytes takes 32. An answer takes
/// [`MAX_ANSWER`] with its encoded form.
const REQUEST_COST: usize = 32 * MAX_REQUEST;

/// It is no request, or there is no room for its answer.
#[derive(Debug)]
struct Refused;

pub(super) struct Server {
    node: Node,
    registrations: Mutex<Registrations>,
}

impl Server {
    pub(super) fn new(node: Node) -> Self {
        Self {
            node,
            registrations: Mutex::new(Registrations::new()),
        }
    }

    /// Answers inbound streams.
    pub(super) fn service(self: &Arc<Self>) -> Service {
        let server = self.clone();
        Service::new(Box::new(move |inbound| {
            let server = server.clone();
            Box::pin(async move { server.serve(inbound).await })
        }))
    }

    /// Answers requests until there is none in time, or one that is cut, oversized or none.
    async fn serve(&self, mut inbound: InboundStream) {
        let Some(peer) = self.node.streams().peers.get(&inbound.peer) else {
            return;
        };
        // What it speaks follows from what it says of itself.
        let _ = timeout(IDENTIFY_TIMEOUT, peer.identified()).await;
        let turns = peer.answering.clone();
        drop(peer);
        let charge = inbound.account.empty_charge();
        let mut reader = FrameReader::new(MAX_REQUEST, BytesMut::new()).charged(charge);
        for served in 0_usize.. {
            if served >= BURST {
                sleep(PAUSE).await;
            }
            let read = timeout(READ_TIMEOUT, reader.next(&mut inbound.stream)).await;
            let Ok(Ok(Some(frame))) = read else { break };
            let answer = {
                // However many streams the peer has: others' requests wait for few of its own.
                let _turn = turns.acquire().await;
                self.encoded_answer(&inbound, frame)
            };
            match answer {
                Err(Refused) => break,
                Ok(None) => {}
                Ok(Some((answer, _held))) => {
                    if !say(&mut inbound, &answer).await {
                        return;
                    }
                }
            }
        }
        let _ = timeout(WRITE_TIMEOUT, inbound.stream.close()).await;
    }

    /// The answer to a request, if it has one, charged for as long as the peer takes to read it.
    fn encoded_answer(
        &self,
        inbound: &InboundStream,
        request: Bytes,
    ) -> Result<Option<(Bytes, Charge)>, Refused> {
        let held = inbound.account.charge(REQUEST_COST + MAX_ANSWER);
        let mut held = held.map_err(|_| Refused)?;
        let request = Message::decode(request).map_err(|_| Refused)?;
        let answer = self.answer(inbound, request).ok_or(Refused)?;
        Ok(answer.map(|answer| {
            let encoded = frame::encode(&answer);
            held.shrink(encoded.len());
            (encoded, held)
        }))
    }

    /// `None` if it is no request, nothing inside if it has no answer.
    fn answer(&self, inbound: &InboundStream, request: Message) -> Option<Option<Message>> {
        // py-libp2p leaves out what is the default.
        let kind = Kind::try_from(request.kind.unwrap_or_default()).ok()?;
        Some(match kind {
            Kind::Register => {
                let registered = self.register(inbound, request.register?);
                tracing::debug!(peer = %inbound.peer, ?registered, "asks to be registered");
                Some(Message::registered(registered))
            }
            Kind::Unregister => {
                self.unregister(inbound.peer, request.unregister?);
                None
            }
            Kind::Discover => Some(Message::discovered(
                self.discover(inbound.peer, &request.discover?),
            )),
            Kind::RegisterResponse | Kind::DiscoverResponse => return None,
        })
    }

    fn register(
        &self,
        inbound: &InboundStream,
        request: Register,
    ) -> Result<u64, (Status, &'static str)> {
        let namespace = request.ns.unwrap_or_default();
        if namespace.is_empty() || namespace.len() > MAX_NAMESPACE {
            return Err((Status::InvalidNamespace, "a namespace has 1 to 255 bytes"));
        }
        let ttl = request.ttl.filter(|ttl| *ttl > 0).unwrap_or(DEFAULT_TTL);
        if ttl > MAX_TTL {
            return Err((Status::InvalidTtl, "the ttl is above 72 hours"));
        }
        let record = request.peer.as_ref().and_then(Record::read);
        let record = record.ok_or((Status::InvalidPeerRecord, "not a peer record"))?;
        if record.peer != inbound.peer {
            return Err((Status::NotAuthorized, "a peer can only register itself"));
        }
        if record.addresses.is_empty() {
            return Err((Status::InvalidPeerRecord, "no addresses"));
        }
        let charge = charge(&inbound.account, &namespace, &record)?;
        let times = (Duration::from_secs(ttl), Instant::now());
        // The frame that it is part of is not kept.
        let namespace = Bytes::copy_from_slice(&namespace);
        let address = prefix(&inbound.remote);
        let mut registrations = self.registrations.lock();
        registrations.register(namespace, record, address, times, charge)?;
        Ok(ttl)
    }

    fn unregister(&self, peer: PeerId, request: Unregister) {
        // Old clients name themselves; nobody names another.
        let own = request.id.is_none_or(|id| id == peer.to_bytes());
        if let Some(namespace) = request.ns.filter(|_| own) {
            self.registrations.lock().unregister(&peer, &namespace);
        }
    }

    fn discover(
        &self,
        peer: PeerId,
        request: &Discover,
    ) -> Result<(Vec<Register>, Bytes), (Status, &'static str)> {
        let registrations = self.registrations.lock();
        let form = match request.every_form {
            Some(true) => None,
            _ => Some(self.form_of(peer, &registrations)),
        };
        registrations.discover(
            request.ns.as_ref(),
            request.cookie.as_ref(),
            request.limit,
            form,
            Instant::now(),
        )
    }

    /// What `peer` reads: what it has written itself, or else what its program does.
    fn form_of(&self, peer: PeerId, registrations: &Registrations) -> Form {
        let agent = self.node.streams().peers.get(&peer);
        let agent = agent.and_then(|peer| peer.agent()).unwrap_or_default();
        let program = || match () {
            () if agent.contains("py-libp2p") => Form::Plain,
            () if agent.contains("rust-libp2p") => Form::Legacy,
            () => Form::Signed,
        };
        registrations.form_of(&peer).unwrap_or_else(program)
    }
}

/// Charges a registration to the peer that makes it.
fn charge(
    account: &Arc<Account>,
    namespace: &Bytes,
    record: &Record,
) -> Result<Charge, (Status, &'static str)> {
    let charge = account.charge(record.size() + 2 * namespace.len() + 256);
    charge.map_err(|_| (Status::Unavailable, "no memory is left"))
}

/// Whether the peer takes the answer.
async fn say(inbound: &mut InboundStream, frame: &[u8]) -> bool {
    let said = async {
        inbound.stream.write_all(frame).await?;
        inbound.stream.flush().await
    };
    matches!(timeout(WRITE_TIMEOUT, said).await, Ok(Ok(())))
}
