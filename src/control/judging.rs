//! Connections that have become the validator of a topic (PROTOCOL.md 3).

use std::{io, sync::Arc};

use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{
    client::Client,
    context::{Context, MAX_BATCH},
    one_way::Listener,
    outcome::Outcome,
    output::Output,
    request::{self, Rejected, Validate},
    response,
    socket::Socket,
};
use crate::{
    memory::Account,
    pubsub::{Ask, Judge},
    wire::{
        frame::{FrameReader, ReadError},
        pb,
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
    match pubsub.judge(request.topic, request.settings, account) {
        Ok(judge) => Outcome::Judge(response::ok(), judge),
        Err(error) => Outcome::Answer(response::error(error.to_string())),
    }
}

/// A client that judges messages until it closes.
#[derive(Debug)]
pub(super) struct Judging {
    socket: Arc<Socket>,
    judge: Judge,
    reader: FrameReader,
    output: Output,
    account: Arc<Account>,
    closing: CancellationToken,
}

impl Judging {
    pub(super) fn new(client: Client, judge: Judge, context: &Context) -> Self {
        let Client {
            socket,
            reader,
            output,
            account,
        } = client;
        let socket = Arc::new(socket);
        let watched = Arc::downgrade(&socket);
        judge.set_probe(move || watched.upgrade().is_none_or(|socket| socket.finished()));
        Self {
            socket,
            judge,
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
            judge,
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
            ended = hear(listener, &mut reader, &judge) => ended,
            ended = ask(listener, &judge, output) => ended,
            () = judge.run() => Ok(()),
        }
    }
}

/// Takes the client's verdicts. Other requests are read and ignored.
async fn hear(listener: Listener<'_>, reader: &mut FrameReader, judge: &Judge) -> io::Result<()> {
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
        let Ok(_parts) = account.charge(request::parts::cost(&frame)) else {
            continue;
        };
        let request = pb::Request::decode(frame).map_err(io::Error::other)?;
        for (id, verdict) in request::verdicts(&request) {
            judge.rule(id, verdict);
        }
    }
}

async fn ask(listener: Listener<'_>, judge: &Judge, mut output: Output) -> io::Result<()> {
    loop {
        listener.write(output.bytes()).await?;
        output.clear();
        let mut next = Some(judge.next().await);
        while let Some(ask) = next.take() {
            put(listener, judge, &mut output, &ask).await?;
            if output.len() < MAX_BATCH {
                next = judge.try_next();
            }
        }
    }
}

async fn put(
    listener: Listener<'_>,
    judge: &Judge,
    output: &mut Output,
    ask: &Ask,
) -> io::Result<()> {
    let question = response::to_judge(ask);
    if output.put(&question).is_err() {
        listener.write(output.bytes()).await?;
        output.clear();
        if output.put(&question).is_err() {
            // There is no room for it, even alone.
            judge.give_up(ask.id);
        }
    }
    Ok(())
}
