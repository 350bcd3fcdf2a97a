//! Pubsub: topics that clients publish to and are subscribed to (COMPATIBILITY.md 4.24).
//!
//! [`PubSub`] is the handle; [`Gossip`] lives in the swarm and does what needs the library.
//! Between them are a bounded queue of commands and the table of subscriptions, which fans
//! messages out without asking anybody.

mod gossip;
mod handler;
mod message;
mod recent;
mod topics;

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{
    PeerId,
    gossipsub::{
        Behaviour, CallbackSubscriptionFilter, ConfigBuilder, MaxCountSubscriptionFilter,
        MessageAuthenticity, ValidationMode, Version,
    },
    identity::Keypair,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

pub use gossip::Gossip;
use gossip::{Command, Envelope, NameFilter, Parts, Published, message_id};
use message::Author;
pub use message::{MAX_RPC, Message, seqno_bytes};
use topics::Topics;
pub use topics::{MAX_TOPIC, Subscription};

/// Messages to publish that wait for the swarm; further callers wait to ask.
const MAX_COMMANDS: usize = 256;

/// Messages that wait to be sent to one peer; a further one is dropped.
const MAX_PEER_QUEUE: usize = 512;

/// Topics that one peer may be subscribed to.
const MAX_PEER_TOPICS: usize = 10_000;

/// Messages in one RPC: a peer that asked for many gets them together.
const MAX_RPC_MESSAGES: usize = 5000;

/// Bytes beyond [`MAX_RPC`] that the library counts against the limit: the length in front,
/// and what it has read of the next RPC.
const RPC_SLACK: usize = 64 << 10;

/// How long a message's id is remembered, so that nobody gets it twice (Go's time).
const SEEN: Duration = Duration::from_secs(120);

/// How long a message may wait to be sent before it is dropped.
const QUEUE_TIME: Duration = Duration::from_secs(5);

/// Heartbeats for which messages are kept for peers that missed them (gossipsub's default).
const HISTORY: usize = 5;

/// Time between heartbeats unless configured (Go's default).
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Time before the first heartbeat unless configured (Go's default).
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);

/// Shortest time between heartbeats.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// How long SUBSCRIBE waits until connected peers have been told.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long PUBLISH waits for peers that have too much to read; then the message is dropped,
/// as Go does at once.
const CONGESTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause between two attempts to publish.
const CONGESTION_PAUSE: Duration = Duration::from_millis(2);

const MESHSUB: &str = "/meshsub";
const FLOODSUB: &str = "/floodsub/1.0.0";

/// How messages find their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// Through a mesh of few peers, with gossip beside it; floodsub with peers that speak no
    /// other.
    Gossipsub,
    /// To every peer that wants them.
    Floodsub,
}

impl Router {
    /// The protocols that the swarm serves then.
    #[must_use]
    pub fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Gossipsub => &["/meshsub/1.1.0", "/meshsub/1.0.0", FLOODSUB],
            Self::Floodsub => &[FLOODSUB],
        }
    }
}

/// What is done about signatures (go-libp2p-pubsub's policies).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Signs, and takes what is signed.
    Strict,
    /// Signs, and takes what is signed or not.
    Lax,
    /// Does not sign, and takes what is not signed.
    Off,
}

/// What pubsub is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How messages find their way.
    pub router: Router,
    /// What is done about signatures.
    pub signing: Signing,
    /// Time between heartbeats; at least 10 ms.
    pub heartbeat_interval: Option<Duration>,
    /// Time before the first.
    pub heartbeat_delay: Option<Duration>,
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Its payload in bytes, and how many there is room for.
    #[error("message of {len} bytes, there is room for {max}")]
    TooLarge {
        /// Bytes of payload.
        len: usize,
        /// Bytes of payload at most, on this topic.
        max: usize,
    },
    /// The node is stopping, or the library refuses.
    #[error("not published")]
    Failed,
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The topic's name in bytes is longer than [`MAX_TOPIC`].
    #[error("topic name of {0} bytes")]
    NameTooLong(usize),
    /// There are as many topics as may be, or their names are as long.
    #[error("too many topics")]
    TooManyTopics,
    /// There are as many subscriptions as may be.
    #[error("too many subscriptions")]
    TooManySubscriptions,
}

/// What was published and lost, for the report.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    published: AtomicU64,
    /// Messages that peers did not get because they read too slowly.
    unsent: AtomicU64,
}

/// A handle to pubsub, cheap to clone.
#[derive(Debug, Clone)]
pub struct PubSub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    commands: mpsc::Sender<Command>,
    topics: Arc<Topics>,
    author: Arc<Author>,
    counters: Arc<Counters>,
    router: Router,
}

impl PubSub {
    /// Pubsub under `identity`, and its part of the swarm.
    ///
    /// # Errors
    /// If the identity does not sign or the library refuses the settings.
    pub fn new(identity: &Keypair, settings: &Settings) -> anyhow::Result<(Self, Gossip)> {
        let sign = settings.signing != Signing::Off;
        let author = Arc::new(Author::new(identity, sign)?);
        let own = author.peer;
        let topics = Arc::new(Topics::default());
        let interval = settings.heartbeat_interval.unwrap_or(HEARTBEAT);
        let interval = interval.max(MIN_HEARTBEAT);
        let last_seqno = Arc::new(AtomicU64::new(0));
        let last = last_seqno.clone();
        let mut config = ConfigBuilder::default();
        config
            .heartbeat_interval(interval)
            .heartbeat_initial_delay(settings.heartbeat_delay.unwrap_or(FIRST_HEARTBEAT))
            .history_length(HISTORY)
            .max_transmit_size(MAX_RPC + RPC_SLACK)
            .max_control_message_size(MAX_RPC)
            .max_publish_messages(MAX_RPC_MESSAGES)
            .duplicate_cache_time(SEEN)
            .connection_handler_queue_len(MAX_PEER_QUEUE)
            .publish_queue_duration(QUEUE_TIME)
            .forward_queue_duration(QUEUE_TIME)
            .flood_publish(false)
            .validation_mode(match settings.signing {
                Signing::Strict => ValidationMode::Strict,
                Signing::Lax | Signing::Off => ValidationMode::Permissive,
            })
            .message_id_fn(move |message| {
                if let (Some(seqno), true) = (message.sequence_number, message.source == Some(own))
                {
                    last.store(seqno, Ordering::Relaxed);
                }
                message_id(message.source.as_ref(), message.sequence_number)
            });
        match settings.router {
            Router::Gossipsub => config
                .protocol_id_prefix(MESHSUB)
                .mesh_n_low(5)
                .support_floodsub(),
            // The library's mesh is everybody then, and it gossips with nobody.
            Router::Floodsub => config
                .protocol_id(FLOODSUB, Version::V1_0)
                .mesh_n_low(1000)
                .mesh_n(1000)
                .mesh_n_high(2000)
                .gossip_lazy(0)
                .gossip_factor(0.0),
        };
        let allowed: NameFilter = |topic| topic.as_str().len() <= MAX_TOPIC;
        let library = Behaviour::new_with_subscription_filter_and_transform(
            if sign {
                MessageAuthenticity::Signed(identity.clone())
            } else {
                MessageAuthenticity::Author(own)
            },
            config.build()?,
            MaxCountSubscriptionFilter {
                filter: CallbackSubscriptionFilter(allowed),
                max_subscribed_topics: MAX_PEER_TOPICS,
                max_subscriptions_per_request: MAX_PEER_TOPICS,
            },
            Envelope {
                own,
                topics: topics.clone(),
                refuse_signed: !sign,
            },
        )
        .map_err(anyhow::Error::msg)?;
        let (commands, received) = mpsc::channel(MAX_COMMANDS);
        let counters = Arc::new(Counters::default());
        let gossip = Gossip::new(Parts {
            library,
            author: author.clone(),
            topics: topics.clone(),
            commands: received,
            last_seqno,
            history: interval * HISTORY as u32,
            counters: counters.clone(),
        });
        let inner = Inner {
            commands,
            topics,
            author,
            counters,
            router: settings.router,
        };
        Ok((Self(Arc::new(inner)), gossip))
    }

    /// Publishes `data` on `topic`, to peers and to subscribers here. That nobody is
    /// subscribed is no error.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, topic: String, data: Bytes) -> Result<(), PublishError> {
        let inner = &self.0;
        let max = inner.author.room(&topic);
        if data.len() > max {
            let len = data.len();
            return Err(PublishError::TooLarge { len, max });
        }
        let deadline = Instant::now() + CONGESTION_TIMEOUT;
        let seqno = loop {
            let (reply, published) = oneshot::channel();
            let command = Command::Publish {
                topic: topic.clone(),
                data: data.clone(),
                reply,
            };
            let sent = inner.commands.send(command).await;
            sent.map_err(|_| PublishError::Failed)?;
            match published.await {
                Ok(Published::Sent(seqno)) => break seqno,
                Ok(Published::Congested(_)) if Instant::now() < deadline => {
                    sleep(CONGESTION_PAUSE).await;
                }
                Ok(Published::Congested(seqno)) => {
                    tracing::debug!(topic, "no peer takes the message: dropped");
                    break seqno;
                }
                Ok(Published::Refused) | Err(_) => return Err(PublishError::Failed),
            }
        };
        inner.counters.published.fetch_add(1, Ordering::Relaxed);
        if inner.topics.has_subscribers(&topic) {
            let message = inner.author.message(topic, data, seqno);
            inner
                .topics
                .deliver(message.map_err(|_| PublishError::Failed)?);
        }
        Ok(())
    }

    /// Subscribes to `topic`, and returns when connected peers have been told.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(&self, topic: String) -> Result<Subscription, SubscribeError> {
        let (subscription, announced) = self.0.topics.subscribe(topic)?;
        if let Some(announced) = announced {
            // A peer that does not read must not keep the subscriber from the others.
            let _ = timeout(ANNOUNCE_TIMEOUT, announced).await;
        }
        Ok(subscription)
    }

    /// The protocols by which a peer that takes part is known.
    #[must_use]
    pub fn protocols(&self) -> &'static [&'static str] {
        self.0.router.protocols()
    }

    /// Topics with subscribers here.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.0.topics.list()
    }

    /// Connected peers that are subscribed to `topic`.
    pub async fn peers(&self, topic: String) -> Vec<PeerId> {
        let (reply, peers) = oneshot::channel();
        let command = Command::Peers { topic, reply };
        if self.0.commands.send(command).await.is_err() {
            return Vec::new();
        }
        // An error means the node is stopping.
        peers.await.unwrap_or_default()
    }

    /// Messages published, delivered and lost, one line.
    #[must_use]
    pub fn report(&self) -> String {
        let Inner {
            topics, counters, ..
        } = &*self.0;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "Pubsub messages published: {}, delivered: {}, lost by slow subscribers: {}, lost by slow peers: {}",
            load(&counters.published),
            load(&topics.delivered),
            load(&topics.dropped),
            load(&counters.unsent)
        );
        out
    }
}
