//! Pubsub: topics that clients publish to and are subscribed to (COMPATIBILITY.md 4.24).
//!
//! [`PubSub`] is the handle. A message goes from the client that publishes it, or from the stream
//! it came on, straight into the queues of those who get it: the swarm has no part in it.

pub(crate) mod fuzzing;
mod message;
mod message_cache;
mod reader;
mod router;
mod rpc_queue;
mod seen;
mod snapshot;
mod subscription;
mod subscriptions;
mod validators;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::future::join_all;
use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use message::Author;
pub use message::{MAX_RPC, Message};
use router::Router;
pub use snapshot::{PeerSnapshot, Snapshot, TopicSnapshot};
pub use subscription::Subscription;
pub use subscriptions::{MAX_TOPIC, SubscribeError};
pub use validators::{Ask, TopicValidator, TopicValidatorError, ValidatorSettings, Verdict};
use validators::{Submitter, Validation, Validators};

use crate::{
    events::Events,
    fixed_limits::fixed_limit,
    memory::{Account, Shed},
    node::Node,
};

/// Time between heartbeats unless configured (Go's default).
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Time before the first heartbeat unless configured (Go's default).
const FIRST_HEARTBEAT: Duration = Duration::from_millis(100);

/// Shortest time between heartbeats.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// How long SUBSCRIBE waits until connected peers have been told.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long PUBLISH waits while all peers that should get the message have much to read; then
/// it is queued for those that have room.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(1);
fixed_limit!("pubsub: time that a PUBLISH waits for busy peers", time PUBLISH_PATIENCE);

/// How long a message of a peer waits while all that should get it are busy.
const FORWARD_PATIENCE: Duration = Duration::from_millis(250);
fixed_limit!("pubsub: time that a peer's message waits for busy peers", time FORWARD_PATIENCE);

const MESHSUB_11: &str = "/meshsub/1.1.0";
const MESHSUB_10: &str = "/meshsub/1.0.0";
const FLOODSUB: &str = "/floodsub/1.0.0";

/// How messages find their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterKind {
    /// Through a mesh of few peers, with gossip beside it; floodsub with peers that speak no
    /// other.
    Gossipsub,
    /// To every peer that wants them.
    Floodsub,
}

impl RouterKind {
    /// The protocols of such a node, the one it likes best first.
    #[must_use]
    pub fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Gossipsub => &[MESHSUB_11, MESHSUB_10, FLOODSUB],
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
    pub router: RouterKind,
    /// What is done about signatures.
    pub signing: Signing,
    /// Time between heartbeats; at least 10 ms.
    pub heartbeat_interval: Option<Duration>,
    /// Time before the first.
    pub heartbeat_delay: Option<Duration>,
    /// Bytes of memory that the process may use, 0 if that is unknown.
    pub memory: u64,
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
    /// The identity does not sign.
    #[error("not published")]
    Failed,
    /// The topic's validator has rejected it.
    #[error("rejected")]
    Rejected,
    /// The topic's validator has ignored it, or has not answered.
    #[error("ignored")]
    Ignored,
}

/// A handle to pubsub, cheap to clone.
#[derive(Debug, Clone)]
pub struct PubSub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    author: Author,
    signing: Signing,
    kind: RouterKind,
    router: Arc<Router>,
    validators: Arc<Validators>,
    last_seqno: AtomicU64,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Inner {
    fn protocols(&self) -> &'static [&'static str] {
        self.kind.protocols()
    }

    /// The verdict about a message that a client here publishes.
    async fn validated(&self, message: &Arc<Message>) -> Verdict {
        let queue = match self.validators.of(message.topic()) {
            None => return Verdict::Accept,
            Some(Validation::Held) => return Verdict::Ignore,
            Some(Validation::By(queue)) => queue,
        };
        let (reply, verdict) = oneshot::channel();
        match queue.submit(message, Submitter::Client(reply)) {
            Ok(()) => verdict.await.unwrap_or(Verdict::Ignore),
            Err(verdict) => verdict,
        }
    }
}

impl Inner {
    /// Keeps the meshes, and forgets peers that have gone, until dropped.
    async fn beat(self: Arc<Self>, first: Duration, interval: Duration) {
        let mut ticks = interval_at(Instant::now() + first, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.router.heartbeat();
            while self.router.sweep() {
                yield_now().await;
            }
        }
    }
}

impl PubSub {
    /// Pubsub under `identity`, among the peers of `node`. What happens is told to `events`. Its tasks, `tasks`, end when `closing`
    /// is cancelled.
    ///
    /// # Errors
    /// If the identity does not sign.
    pub fn start(
        identity: &Keypair,
        settings: &Settings,
        (node, events): (&Node, &Events),
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Result<Self, SigningError> {
        // A counter from the start's time, as in Go: peers have not seen a number of this run.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let inner = Arc::new(Inner {
            node: node.clone(),
            author: Author::new(identity, settings.signing != Signing::Off)?,
            signing: settings.signing,
            kind: settings.router,
            router: Arc::new(Router::new(
                settings.router == RouterKind::Floodsub,
                settings.signing,
                events.clone(),
            )),
            validators: Arc::default(),
            last_seqno: AtomicU64::new(u64::try_from(now).unwrap_or(0)),
            tasks,
            closing,
        });
        inner.router.limit_memory(settings.memory);
        let told = node.clone();
        inner.router.set_report(move |peer, offence| {
            told.misbehaves(peer, "pubsub", &format!("{offence:?}"));
        });
        let streams = node.streams();
        for protocol in inner.protocols() {
            streams
                .registry
                .set_service(protocol, Some(inner.service()));
        }
        let observer = inner.clone();
        streams.peers.observe(Box::new(move |peer, protocols| {
            observer.identified(peer, protocols);
        }));
        for (peer, connected) in streams.peers.list() {
            if let Some(protocols) = connected.protocols() {
                inner.identified(peer, &protocols);
            }
        }
        let first = settings.heartbeat_delay.unwrap_or(FIRST_HEARTBEAT);
        let interval = settings.heartbeat_interval.unwrap_or(HEARTBEAT);
        let beat = inner.clone().beat(first, interval.max(MIN_HEARTBEAT));
        let closing = inner.closing.clone();
        inner.tasks.spawn(closing.run_until_cancelled_owned(beat));
        Ok(Self(inner))
    }

    /// Publishes `data` on `topic`, to peers and to subscribers here. That nobody is
    /// subscribed is no error.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, topic: &[u8], data: Option<Bytes>) -> Result<(), PublishError> {
        let inner = &self.0;
        let max = inner.author.room(topic);
        let len = data.as_ref().map_or(0, Bytes::len);
        if len > max {
            return Err(PublishError::TooLarge { len, max });
        }
        let seqno = inner.last_seqno.fetch_add(1, Ordering::Relaxed) + 1;
        let message = inner.author.message(&topic.into(), data.as_deref(), seqno);
        let message = message.map_err(|_| PublishError::Failed)?;
        inner
            .router
            .counters
            .published
            .fetch_add(1, Ordering::Relaxed);
        let message = Arc::new(message);
        match inner.validated(&message).await {
            Verdict::Accept => {}
            Verdict::Reject => return Err(PublishError::Rejected),
            Verdict::Ignore => return Err(PublishError::Ignored),
        }
        inner.router.publish(&message, None, PUBLISH_PATIENCE).await;
        inner.router.subscriptions().deliver(&message);
        Ok(())
    }

    /// Makes a client the validator of the messages on `topic`. What waits for it is charged to
    /// `account`.
    ///
    /// # Errors
    /// See [`TopicValidatorError`].
    pub fn validate_by(
        &self,
        topic: Arc<[u8]>,
        settings: ValidatorSettings,
        account: &Arc<Account>,
    ) -> Result<TopicValidator, TopicValidatorError> {
        let inner = &self.0;
        inner
            .validators
            .add(&inner.router, topic, settings, account)
    }

    /// Subscribes to `topic`, and returns when connected peers have been told. What waits for the
    /// subscriber is charged to `account`.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(
        &self,
        topic: Arc<[u8]>,
        account: &Arc<Account>,
    ) -> Result<Subscription, SubscribeError> {
        let router = &self.0.router;
        let subscription = Subscription::new(router, topic, account)?;
        // A peer that does not read must not keep the subscriber from the others.
        let _ = timeout(ANNOUNCE_TIMEOUT, join_all(router.announced())).await;
        Ok(subscription)
    }

    /// The protocols by which a peer that takes part is known.
    #[must_use]
    pub fn protocols(&self) -> &'static [&'static str] {
        self.0.protocols()
    }

    /// Subscriptions with subscribers here.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<[u8]>> {
        self.0.router.subscriptions().list()
    }

    /// Connected peers that are subscribed to `topic`.
    #[must_use]
    pub fn peers(&self, topic: &[u8]) -> Vec<PeerId> {
        self.0.router.peers(topic)
    }

    /// What is known at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.router.snapshot()
    }
}

impl Shed for PubSub {
    fn trim(&self) {
        self.0.router.trim();
    }

    fn shed(&self, bytes: u64) -> u64 {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.0.router.shed(bytes) as u64
    }
}
