//! PUBSUB requests, and connections that have become subscriptions (COMPATIBILITY.md 4.24).

use std::{io, sync::Arc};

use bytes::BytesMut;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{
    context::{Context, MAX_BATCH},
    outcome::Outcome,
    request::{PubSubRequest, Rejected},
    response,
    socket::Socket,
};
use crate::{
    pubsub::Subscription,
    wire::{
        frame::{self, FrameReader},
        pb,
    },
};

/// Answers a request; pubsub that is off answers before it looks at it.
pub(super) async fn serve(context: &Context, request: Result<PubSubRequest, Rejected>) -> Outcome {
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
        PubSubRequest::Subscribe { topic } => match pubsub.subscribe(topic).await {
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
    output: BytesMut,
    closing: CancellationToken,
}

impl Feed {
    /// `reader` has what the client sent already, `preface` is what it gets first.
    pub(super) fn new(
        socket: Socket,
        reader: FrameReader,
        preface: BytesMut,
        subscription: Subscription,
        context: &Context,
    ) -> Self {
        let socket = Arc::new(socket);
        let watched = Arc::downgrade(&socket);
        // Clients close and ask for the topics in the same moment.
        subscription.set_probe(move || watched.upgrade().is_none_or(|socket| socket.finished()));
        Self {
            socket,
            subscription,
            reader,
            output: preface,
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
            closing,
        } = self;
        tokio::select! {
            biased;
            () = closing.cancelled() => Ok(()),
            ended = watch(&socket, &mut reader) => ended,
            ended = feed(&socket, &mut subscription, output) => ended,
        }
    }
}

/// Ends when the client does. Requests are read and ignored, as in Go.
async fn watch(mut socket: &Socket, reader: &mut FrameReader) -> io::Result<()> {
    while let Some(request) = reader.next(&mut socket).await? {
        pb::Request::decode(request).map_err(io::Error::other)?;
    }
    Ok(())
}

async fn feed(
    socket: &Socket,
    subscription: &mut Subscription,
    mut output: BytesMut,
) -> io::Result<()> {
    loop {
        socket.write_whole(&output).await?;
        output.clear();
        if output.capacity() > MAX_BATCH {
            output = BytesMut::new();
        }
        let mut next = Some(subscription.next().await);
        while let Some(message) = next.take() {
            frame::put(message.body(), &mut output);
            if output.len() < MAX_BATCH {
                next = subscription.try_next();
            }
        }
    }
}
