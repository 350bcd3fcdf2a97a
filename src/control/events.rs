//! Connections that have become a stream of events (PROTOCOL.md 2).

use std::{io, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    context::Context,
    one_way::{Listener, tell},
    outcome::{Last, Outcome},
    output::Output,
    response,
    socket::Socket,
};
use crate::{
    events::{Event, Followed, Follower, Kind, Kinds},
    memory::{Account, OverBudget},
    wire::frame::FrameReader,
};

/// Bytes of events that are written at once. Most of what a client may have without room in the
/// memory is its own, whatever others hold: there may be thousands that do not read.
const BATCH: usize = 1024;

/// Answers EVENTS.
pub(super) async fn serve(
    context: &Context,
    account: &Arc<Account>,
    kinds: Kinds,
    present: bool,
) -> Outcome {
    let followed = context.node.follow(kinds, present.then_some(account));
    let mut follower = match followed.await {
        Ok(follower) => follower,
        Err(error) => return Outcome::Answer(response::error(error.to_string())),
    };
    let topics = context.pubsub.as_ref().filter(|_| present);
    if let Some(topics) = topics.filter(|_| kinds.contains(Kind::TopicJoined))
        && add_topics(&mut follower, topics.topics(), account).is_err()
    {
        return Outcome::Answer(response::over_budget());
    }
    Last::Events(response::ok(), follower).into()
}

fn add_topics(
    follower: &mut Follower,
    topics: Vec<Arc<[u8]>>,
    account: &Arc<Account>,
) -> Result<(), OverBudget> {
    for topic in topics {
        let event = Event::TopicJoined { peer: None, topic };
        follower.charged(account.charge(event.size())?);
        follower.begin_with([event]);
    }
    Ok(())
}

/// A client that is told what happens until it closes.
#[derive(Debug)]
pub(super) struct EventFeed {
    socket: Socket,
    follower: Follower,
    /// What the client sends. It is read and ignored.
    reader: FrameReader,
    output: Output,
    account: Arc<Account>,
    closing: CancellationToken,
}

impl EventFeed {
    pub(super) fn new(client: Client, follower: Follower, context: &Context) -> Self {
        let Client {
            socket,
            reader,
            output,
            account,
        } = client;
        Self {
            socket,
            follower,
            reader,
            output,
            account,
            closing: context.closing.clone(),
        }
    }

    /// Runs until the client closes or half-closes, sends what is no request, or the daemon ends.
    ///
    /// # Errors
    /// If the client can no longer be written to.
    pub(super) async fn run(self) -> io::Result<()> {
        let Self {
            socket,
            mut follower,
            mut reader,
            output,
            account,
            closing,
        } = self;
        let listener = Listener {
            socket: &socket,
            account: &account,
        };
        let telling = feed(listener, &mut follower, output);
        tell(&socket, &mut reader, &closing, telling).await
    }
}

async fn feed(
    listener: Listener<'_>,
    follower: &mut Follower,
    mut output: Output,
) -> io::Result<()> {
    loop {
        listener.write(output.bytes()).await?;
        output.clear();
        let mut next = Some(follower.next().await);
        while let Some(followed) = next.take() {
            let answer = response::followed(&followed);
            if output.put(&answer).is_err() {
                listener.write(output.bytes()).await?;
                output.clear();
                if output.put(&answer).is_err() {
                    // There is no room for it, even alone.
                    output.put_always(&response::followed(&lost(&followed)));
                }
            }
            if output.len() < BATCH {
                next = follower.try_next();
            }
        }
    }
}

/// What stands in the place of an event for which there is no room.
fn lost(followed: &Followed) -> Followed {
    let (count, time) = match followed {
        Followed::Present(entry) => (1, entry.time),
        Followed::Event(entry) => (1, entry.time),
        Followed::Missed { count, time } => (*count, *time),
    };
    Followed::Missed { count, time }
}
