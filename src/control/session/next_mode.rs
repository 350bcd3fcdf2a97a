//! What becomes of a client connection after its last request.

use std::{io, sync::Arc};

use super::{
    super::{
        client::Client, context::Context, events::EventFeed, mode::Mode, outcome::Last,
        persistent::Persistent, pipe::Pipe, pubsub::Feed, response, validators::ValidatorSession,
    },
    Session,
};
use crate::{node::OpenedStream, wire::pb};

impl Session {
    /// Answers the last request and turns into what it has led to.
    pub(super) async fn end(mut self, last: Last) -> io::Result<Mode> {
        Ok(match last {
            Last::Stream(answer, opened) => Mode::Pipe(self.pipe(&answer, *opened)),
            Last::Feed(answer, subscription) => {
                self.output.widen(&self.socket);
                let (client, context) = self.told(&answer);
                Mode::Feed(Box::new(Feed::new(client, subscription, &context)))
            }
            Last::Events(answer, follower) => {
                // Few events wait in the kernel: who does not read is told how many it missed.
                self.output.confine(&self.socket);
                let (client, context) = self.told(&answer);
                Mode::Events(Box::new(EventFeed::new(client, follower, &context)))
            }
            Last::ValidateMessages(answer, validator) => {
                self.output.widen(&self.socket);
                let (client, context) = self.told(&answer);
                Mode::ValidateMessages(Box::new(ValidatorSession::new(client, validator, &context)))
            }
            Last::ValidateRecords(answer, validator) => {
                self.output.widen(&self.socket);
                let (client, context) = self.told(&answer);
                Mode::ValidateRecords(Box::new(ValidatorSession::new(client, validator, &context)))
            }
            Last::Upgrade => self.upgrade(),
            Last::Close(answer) => {
                self.refuse(&answer).await?;
                Mode::Closed
            }
            Last::Abandoned => Mode::Closed,
        })
    }

    /// The stream that was opened, on the client's connection.
    fn pipe(mut self, answer: &pb::Response, opened: OpenedStream) -> Pipe {
        self.output.put_always(answer);
        self.attention.forget(&self.socket);
        self.output.widen(&self.socket);
        let preface = self.output.into_bytes();
        let early = self.reader.into_received().freeze();
        let drain = self.context.drain.clone();
        Pipe::new(self.socket, opened.stream, early, preface, drain)
    }

    /// The client, with `answer` as the last one to a request. What it sends from now on counts as
    /// none any more, and its place among those that send them is given back.
    fn told(mut self, answer: &pb::Response) -> (Client, Arc<Context>) {
        self.output.put_always(answer);
        self.attention.forget(&self.socket);
        let client = Client {
            socket: self.socket,
            reader: self.reader,
            output: self.output,
            account: self.account,
        };
        (client, self.context)
    }

    /// A daemon that is about to end closes without an answer, because Hivemind's client takes
    /// any answer for a success.
    fn upgrade(mut self) -> Mode {
        self.attention.forget(&self.socket);
        self.output.widen(&self.socket);
        self.output.put_always(&response::ok());
        let Self {
            socket,
            reader,
            output,
            account,
            context,
            persistent,
            permit,
            attention: _,
            kept: _,
            origin: _,
        } = self;
        let client = Client {
            socket,
            reader,
            output,
            account,
        };
        let entered = Persistent::enter(client, context, persistent, permit);
        entered.map_or(Mode::Closed, Mode::Persistent)
    }
}
