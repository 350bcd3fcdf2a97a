//! PUBSUB requests, and connections that have become subscriptions (COMPATIBILITY.md 4.24).

use std::{io, pin::pin, sync::Arc};

use futures::FutureExt as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{
    blocked,
    client::Client,
    context::{Context, MAX_BATCH},
    outcome::Outcome,
    output::Output,
    request::{PubSubRequest, Rejected},
    response,
    socket::Socket,
};
use crate::{
    memory::Account,
    pubsub::Subscription,
    wire::{
        frame::{FrameReader, ReadError},
        pb,
    },
};

/// Answers a request; pubsub that is off answers before it looks at it.
pub(super) async fn serve(
    context: &Context,
    account: &Arc<Account>,
    request: Result<PubSubRequest, Rejected>,
) -> Outcome {
    let Some(pubsub) = &context.pubsub else {
        return Outcome::Answer(response::no_pubsub());
    };
    let request = match request {
        Ok(request) => request,
        Err(rejected) => return rejected.into(),
    };
    Outcome::Answer(match request {
        PubSubRequest::Topics => response::topics(pubsub.topics()),
        PubSubRequest::Peers { topic } if topic.is_empty() => {
            let speaking = context.node.peers_speaking(pubsub.protocols());
            response::topic_peers(&speaking)
        }
        PubSubRequest::Peers { topic } => response::topic_peers(&pubsub.peers(&topic)),
        PubSubRequest::Publish { topic, data } => match pubsub.publish(&topic, data).await {
            Ok(()) => response::ok(),
            Err(error) => response::error(response::publish_error(&error)),
        },
        PubSubRequest::Subscribe { topic } => match pubsub.subscribe(topic, account).await {
            Ok(subscription) => return Outcome::Feed(response::ok(), subscription),
            Err(error) => response::error(response::subscribe_error(&error)),
        },
    })
}

/// A client that gets the messages of a topic until it closes.
#[derive(Debug)]
pub(super) struct Feed {
    socket: Arc<Socket>,
    subscription: Subscription,
    /// What the client sends. It is read and ignored.
    reader: FrameReader,
    output: Output,
    account: Arc<Account>,
    closing: CancellationToken,
}

impl Feed {
    pub(super) fn new(client: Client, subscription: Subscription, context: &Context) -> Self {
        let Client {
            socket,
            reader,
            output,
            account,
        } = client;
        let socket = Arc::new(socket);
        let watched = Arc::downgrade(&socket);
        // Clients close and ask for the topics in the same moment.
        subscription.set_probe(move || watched.upgrade().is_none_or(|socket| socket.finished()));
        Self {
            socket,
            subscription,
            reader,
            output,
            account,
            closing: context.closing.clone(),
        }
    }

    /// Runs until the client closes or half-closes, sends what is no request, or the daemon
    /// ends.
    ///
    /// # Errors
    /// If the client can no longer be written to.
    pub(super) async fn run(self) -> io::Result<()> {
        let Self {
            socket,
            mut subscription,
            mut reader,
            output,
            account,
            closing,
        } = self;
        let client = Subscriber {
            socket: &socket,
            account: &account,
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => Ok(()),
            ended = watch(&socket, &mut reader) => ended,
            ended = client.feed(&mut subscription, output) => ended,
        }
    }
}

/// Ends when the client does. Requests are read and ignored, as in Go.
async fn watch(mut socket: &Socket, reader: &mut FrameReader) -> io::Result<()> {
    loop {
        match reader.next(&mut socket).await {
            Ok(Some(request)) => drop(pb::Request::decode(request).map_err(io::Error::other)?),
            Ok(None) => return Ok(()),
            Err(ReadError::OverBudget(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Who gets the messages.
struct Subscriber<'a> {
    socket: &'a Socket,
    account: &'a Arc<Account>,
}

impl Subscriber<'_> {
    async fn feed(&self, subscription: &mut Subscription, mut output: Output) -> io::Result<()> {
        loop {
            self.write(output.bytes()).await?;
            output.clear();
            let mut next = Some(subscription.next().await);
            while let Some(message) = next.take() {
                if output.put_payload(message.body()).is_err() {
                    // Without a copy of its own.
                    self.write(output.bytes()).await?;
                    output.clear();
                    let mut length = unsigned_varint::encode::usize_buffer();
                    let length = unsigned_varint::encode::usize(message.body().len(), &mut length);
                    self.write(length).await?;
                    self.write(message.body()).await?;
                }
                if output.len() < MAX_BATCH {
                    next = subscription.try_next();
                }
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writing = pin!(self.socket.write_whole(bytes));
        match writing.as_mut().now_or_never() {
            Some(written) => written,
            None => blocked::charged(self.account, self.socket.send_buffer(), writing).await,
        }
    }
}
