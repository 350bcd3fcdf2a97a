//! Connections that have become the validator of a topic or of a namespace (PROTOCOL.md 3, 6).

use std::{io, sync::Arc};

use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    context::{Context, MAX_BATCH},
    one_way::Listener,
    outcome::{Last, Outcome},
    output::Output,
    request::{self, Rejected, Validate, ValidateRecords},
    response,
    socket::Socket,
};
use crate::{
    dht::{ClientValidator, Question},
    memory::Account,
    pubsub::{Ask, TopicValidator},
    wire::{
        frame::{FrameReader, ReadError},
        parts, pb,
    },
};

/// Answers PUBSUB_VALIDATE; pubsub that is off answers before it looks at it.
pub(super) fn serve(
    context: &Context,
    account: &Arc<Account>,
    request: Result<Validate, Rejected>,
) -> Outcome {
    let Some(pubsub) = &context.pubsub else {
        return Outcome::Answer(response::no_pubsub());
    };
    let request = match request {
        Ok(request) => request,
        Err(rejected) => return rejected.into(),
    };
    match pubsub.validate_by(request.topic, request.settings, account) {
        Ok(validator) => Last::ValidateMessages(response::ok(), validator).into(),
        Err(error) => Outcome::Answer(response::error(error.to_string())),
    }
}

/// Answers DHT_VALIDATOR; a DHT that is off answers before it looks at it.
pub(super) fn serve_records(
    context: &Context,
    account: &Arc<Account>,
    request: Result<ValidateRecords, Rejected>,
) -> Outcome {
    let Some(dht) = &context.dht else {
        return Outcome::Answer(response::no_dht());
    };
    let request = match request {
        Ok(request) => request,
        Err(rejected) => return rejected.into(),
    };
    match dht.validate_by(&request.namespace, request.deadline, account) {
        Ok(validator) => Last::ValidateRecords(response::ok(), validator).into(),
        Err(error) => Outcome::Answer(response::error(error.to_string())),
    }
}

/// Questions to a client, and its verdicts.
pub(super) trait Questions {
    type Question;

    /// `is_gone` tells whether the client has gone.
    fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static);

    /// The next question, if it is there already.
    fn try_next(&self) -> Option<Self::Question>;

    /// The next question. Loses nothing when dropped.
    fn next(&self) -> impl Future<Output = Self::Question> + Send;

    fn encode(question: &Self::Question) -> pb::Response;

    /// There is no room to ask it.
    fn give_up(&self, question: &Self::Question);

    /// Takes the verdicts of a request.
    fn hear(&self, request: &pb::Request);

    /// Does what the verdicts lead to. Runs until dropped.
    fn run(&self) -> impl Future<Output = ()> + Send;
}

impl Questions for TopicValidator {
    type Question = Ask;

    fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        Self::set_probe(self, is_gone);
    }

    fn try_next(&self) -> Option<Ask> {
        Self::try_next(self)
    }

    fn next(&self) -> impl Future<Output = Ask> + Send {
        Self::next(self)
    }

    fn encode(ask: &Ask) -> pb::Response {
        response::to_topic_validator(ask)
    }

    fn give_up(&self, ask: &Ask) {
        Self::give_up(self, ask.id);
    }

    fn hear(&self, request: &pb::Request) {
        for (id, verdict) in request::verdicts(request) {
            self.rule(id, verdict);
        }
    }

    fn run(&self) -> impl Future<Output = ()> + Send {
        Self::run(self)
    }
}

impl Questions for ClientValidator {
    type Question = Question;

    fn set_probe(&self, is_gone: impl Fn() -> bool + Send + Sync + 'static) {
        Self::set_probe(self, is_gone);
    }

    fn try_next(&self) -> Option<Question> {
        Self::try_next(self)
    }

    fn next(&self) -> impl Future<Output = Question> + Send {
        Self::next(self)
    }

    fn encode(question: &Question) -> pb::Response {
        response::to_record_validator(question)
    }

    fn give_up(&self, question: &Question) {
        Self::give_up(self, question.id);
    }

    fn hear(&self, request: &pb::Request) {
        for (id, verdict) in request::record_verdicts(request) {
            self.rule(id, verdict);
        }
    }

    /// Whoever asked goes on by itself.
    fn run(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// A client that validates messages or records until it closes.
#[derive(Debug)]
pub(super) struct ValidatorSession<Q> {
    socket: Arc<Socket>,
    validator: Q,
    reader: FrameReader,
    output: Output,
    account: Arc<Account>,
    closing: CancellationToken,
}

impl<Q: Questions> ValidatorSession<Q> {
    pub(super) fn new(client: Client, validator: Q, context: &Context) -> Self {
        let Client {
            socket,
            reader,
            output,
            account,
        } = client;
        let socket = Arc::new(socket);
        let watched = Arc::downgrade(&socket);
        validator.set_probe(move || watched.upgrade().is_none_or(|socket| socket.finished()));
        Self {
            socket,
            validator,
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
            validator,
            mut reader,
            output,
            account,
            closing,
        } = self;
        let listener = Listener {
            socket: &socket,
            account: &account,
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => Ok(()),
            ended = hear(listener, &mut reader, &validator) => ended,
            ended = ask(listener, &validator, output) => ended,
            () = validator.run() => Ok(()),
        }
    }
}

/// Takes the client's verdicts. Other requests are read and ignored.
async fn hear(
    listener: Listener<'_>,
    reader: &mut FrameReader,
    validator: &impl Questions,
) -> io::Result<()> {
    let Listener {
        mut socket,
        account,
    } = listener;
    loop {
        let frame = match reader.next(&mut socket).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(ReadError::OverBudget(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let Ok(_parts) = account.charge(parts::cost(&frame)) else {
            continue;
        };
        let request = pb::Request::decode(frame).map_err(io::Error::other)?;
        validator.hear(&request);
    }
}

async fn ask<Q: Questions>(
    listener: Listener<'_>,
    validator: &Q,
    mut output: Output,
) -> io::Result<()> {
    loop {
        listener.write(output.bytes()).await?;
        output.clear();
        let mut next = Some(validator.next().await);
        while let Some(ask) = next.take() {
            put(listener, validator, &mut output, &ask).await?;
            if output.len() < MAX_BATCH {
                next = validator.try_next();
            }
        }
    }
}

async fn put<Q: Questions>(
    listener: Listener<'_>,
    validator: &Q,
    output: &mut Output,
    ask: &Q::Question,
) -> io::Result<()> {
    let question = Q::encode(ask);
    if output.put(&question).is_err() {
        listener.write(output.bytes()).await?;
        output.clear();
        if output.put(&question).is_err() {
            // There is no room for it, even alone.
            validator.give_up(ask);
        }
    }
    Ok(())
}
