//! PUBSUB requests, and connections that have become subscriptions (COMPATIBILITY.md 4.24).

use std::{io, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    context::{Context, MAX_BATCH},
    one_way::{Listener, tell},
    outcome::{Last, Outcome},
    output::Output,
    request::{PubSubRequest, Rejected},
    response,
    socket::Socket,
};
use crate::{memory::Account, pubsub::Subscription, wire::frame::FrameReader};

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
        PubSubRequest::Topics => response::topics(&pubsub.topics()),
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
            Ok(subscription) => return Last::Feed(response::ok(), subscription).into(),
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
        let client = Listener {
            socket: &socket,
            account: &account,
        };
        let telling = feed(client, &mut subscription, output);
        tell(&socket, &mut reader, &closing, telling).await
    }
}

async fn feed(
    client: Listener<'_>,
    subscription: &mut Subscription,
    mut output: Output,
) -> io::Result<()> {
    loop {
        client.write(output.bytes()).await?;
        output.clear();
        let mut next = Some(subscription.next().await);
        while let Some(message) = next.take() {
            if output.put_payload(message.body()).is_err() {
                // Without a copy of its own.
                client.write(output.bytes()).await?;
                output.clear();
                let mut length = unsigned_varint::encode::usize_buffer();
                let length = unsigned_varint::encode::usize(message.body().len(), &mut length);
                client.write(length).await?;
                client.write(message.body()).await?;
            }
            if output.len() < MAX_BATCH {
                next = subscription.try_next();
            }
        }
    }
}
