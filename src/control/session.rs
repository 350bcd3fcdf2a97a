//! One client connection: requests in order, then at most one stream or the persistent mode.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::OwnedSemaphorePermit,
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    arrivals::{Attention, Watched},
    client::Client,
    clients::Use,
    context::{Context, FRAME_TIMEOUT, MAX_BATCH},
    dht::{Asker, Served},
    events::EventFeed,
    execute::execute,
    guard::{AccessDenied, is_http},
    judging::Judging,
    mode::Mode,
    outcome::Outcome,
    output::Output,
    persistent::{Connections, Persistent},
    pipe::Pipe,
    pubsub::Feed,
    request::{self, DhtRequest, Rejected, Request},
    response,
    socket::Socket,
    tunnels::Kept,
};
use crate::{
    faults,
    limit_hits::Limit,
    memory::Account,
    metrics,
    streams::RequestOrigin,
    wire::{
        frame::{FrameError, FrameReader, ReadError},
        parts, pb,
    },
};

/// Largest request that has room whatever the client holds, in bytes. There are as many of them as
/// clients.
const SMALL_REQUEST: usize = 512;

/// A client that leaves sooner after a request for a connection or a stream has not waited for the
/// answer at all: it may be content with the connection. Otherwise the dial ends with it.
const HASTE: Duration = Duration::from_secs(1);

/// Time for a client to take the answers that it has waiting when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// Requests that were sent at once and are served before others get their turns.
const BURST: usize = 16;

/// A client that sends requests.
#[derive(Debug)]
pub(super) struct Session {
    socket: Socket,
    reader: FrameReader,
    output: Output,
    /// What is held because of the client is charged here.
    account: Arc<Account>,
    context: Arc<Context>,
    persistent: Arc<Connections>,
    /// The place among the clients that send requests.
    permit: OwnedSemaphorePermit,
    attention: Attention,
    /// What lasts as long as the connection, whatever that becomes.
    kept: Arc<Mutex<Vec<Kept>>>,
}

/// Why there is no further request.
enum End {
    /// The client has closed, or the daemon ends.
    Closed,
    /// The bytes cannot be a frame.
    Malformed(String),
    /// There was no room for it; further ones may follow.
    OverBudget,
}

impl Session {
    pub(super) fn new(
        socket: Socket,
        context: Arc<Context>,
        persistent: Arc<Connections>,
        permit: OwnedSemaphorePermit,
        attention: Attention,
    ) -> Self {
        let account = context.ledger.client();
        let reader = FrameReader::new(context.max_frame, BytesMut::new())
            .timed(FRAME_TIMEOUT)
            .charged(account.empty_charge())
            .always(SMALL_REQUEST);
        Self {
            socket,
            reader,
            output: Output::narrow(&account),
            account,
            context,
            persistent,
            permit,
            attention,
            kept: Arc::default(),
        }
    }

    /// Serves the client until it closes, its stream ends, or it sends what is no request.
    ///
    /// # Errors
    /// If the client can no longer be written to.
    pub(super) fn run(self) -> impl Future<Output = io::Result<()>> {
        let clients = self.context.clients.clone();
        let kept = self.kept.clone();
        // Boxed before the task begins, so that a pipe does not carry the far larger state of the
        // requests along.
        let requests = Box::pin(self.requests());
        async move {
            let _kept = kept;
            let asking = clients.enter(Use::Requests);
            let pipe = match requests.await?.pipe() {
                Ok(pipe) => pipe,
                Err(mode) => {
                    drop(asking);
                    return Box::pin(mode.run(&clients)).await;
                }
            };
            drop(asking);
            let _present = clients.enter(Use::Stream);
            pipe.await;
            Ok(())
        }
    }

    async fn requests(mut self) -> io::Result<Mode> {
        let origin = match self.context.guard.admit(&self.socket) {
            Ok(origin) => origin,
            Err(denied) => {
                self.refuse(&response::error(response::denied(&denied)))
                    .await?;
                return Ok(Mode::Closed);
            }
        };
        let mut first = true;
        let mut served = 0;
        loop {
            served = if self.reader.has_next() {
                served + 1
            } else {
                0
            };
            if served > BURST {
                served = 0;
                yield_now().await;
            }
            let frame = match self.next_frame(first).await? {
                Ok(frame) => frame,
                Err(End::Closed) => {
                    self.flush().await?;
                    self.leave().await;
                    return Ok(Mode::Closed);
                }
                Err(End::Malformed(reason)) => {
                    self.refuse(&response::error(reason)).await?;
                    return Ok(Mode::Closed);
                }
                Err(End::OverBudget) => {
                    first = false;
                    self.answer(&response::over_budget()).await?;
                    continue;
                }
            };
            first = false;
            // A daemon that is about to end finishes no request: a dial may take as long as the
            // client allows.
            let closing = self.context.closing.clone();
            let handling = closing.run_until_cancelled(self.handle(origin, frame));
            let Some(outcome) = handling.await else {
                self.flush().await?;
                return Ok(Mode::Closed);
            };
            match outcome? {
                Outcome::Answer(answer) => self.answer(&answer).await?,
                Outcome::Holding(answer, kept) => {
                    self.kept.lock().push(kept);
                    self.answer(&answer).await?;
                }
                Outcome::Stream(answer, opened) => {
                    self.output.put_always(&answer);
                    self.attention.forget(&self.socket);
                    self.output.widen(&self.socket);
                    let preface = self.output.into_bytes();
                    let early = self.reader.into_received().freeze();
                    let drain = self.context.drain.clone();
                    let pipe = Pipe::new(self.socket, opened.stream, early, preface, drain);
                    return Ok(Mode::Pipe(pipe));
                }
                Outcome::Feed(answer, subscription) => {
                    self.output.widen(&self.socket);
                    let (client, context) = self.told(&answer);
                    let feed = Feed::new(client, subscription, &context);
                    return Ok(Mode::Feed(Box::new(feed)));
                }
                Outcome::Events(answer, follower) => {
                    // Few events wait in the kernel: who does not read is told how many it missed.
                    self.output.confine(&self.socket);
                    let (client, context) = self.told(&answer);
                    let feed = EventFeed::new(client, follower, &context);
                    return Ok(Mode::Events(Box::new(feed)));
                }
                Outcome::Judge(answer, judge) => {
                    self.output.widen(&self.socket);
                    let (client, context) = self.told(&answer);
                    let judging = Judging::new(client, judge, &context);
                    return Ok(Mode::Judging(Box::new(judging)));
                }
                Outcome::ValidateRecords(answer, validator) => {
                    self.output.widen(&self.socket);
                    let (client, context) = self.told(&answer);
                    let judging = Judging::new(client, validator, &context);
                    return Ok(Mode::Validating(Box::new(judging)));
                }
                Outcome::Upgrade => return Ok(self.upgrade()),
                Outcome::Close(answer) => {
                    self.refuse(&answer).await?;
                    return Ok(Mode::Closed);
                }
                Outcome::Answered => {}
                Outcome::Abandoned => return Ok(Mode::Closed),
            }
        }
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

    /// Closes, which takes the kernel longer than a request. Clients that leave by the thousand
    /// do so one after another, and requests of others are served in between.
    async fn leave(mut self) {
        self.attention.forget(&self.socket);
        let _turn = self.context.leaving.acquire().await;
        drop(self.socket);
    }

    /// The next request, if that is no `first` one in HTTP. Answers go out before there is
    /// anything to wait for.
    async fn next_frame(&mut self, first: bool) -> io::Result<Result<Bytes, End>> {
        loop {
            if first && is_http(self.reader.received()) {
                Limit::Http.hit();
                return Ok(Err(End::Malformed(response::denied(&AccessDenied::Http))));
            }
            match self.reader.take() {
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    if matches!(error, FrameError::TooLarge { .. }) {
                        Limit::FrameSize.hit();
                    }
                    return Ok(Err(End::Malformed(error.to_string())));
                }
            }
            if let Some(flushed) = self.flush().now_or_never() {
                flushed?;
            } else {
                self.attention.wait(&self.socket);
                self.flush().await?;
            }
            let mut source = Watched {
                socket: &self.socket,
                attention: &mut self.attention,
            };
            let filled = tokio::select! {
                biased;
                filled = self.reader.fill(&mut source) => filled,
                () = self.context.closing.cancelled() => Err(ReadError::Closed),
            };
            match filled {
                Ok(()) => {}
                Err(ReadError::Closed | ReadError::Cut) => return Ok(Err(End::Closed)),
                Err(error @ ReadError::TimedOut) => {
                    Limit::FrameTime.hit();
                    return Ok(Err(End::Malformed(error.to_string())));
                }
                Err(ReadError::OverBudget(_)) => return Ok(Err(End::OverBudget)),
                Err(error) => return Err(error.into()),
            }
        }
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

    /// Queues an answer. Where there is no room for it, what was queued before is written first;
    /// an answer for which there is none then is an ERROR instead.
    async fn answer(&mut self, answer: &pb::Response) -> io::Result<()> {
        if self.output.put(answer).is_err() {
            self.flush().await?;
            if self.output.put(answer).is_err() {
                self.output.put_always(&response::over_budget());
            }
        }
        Ok(())
    }

    /// Writes all answers.
    ///
    /// # Cancel safety
    /// What is not written yet stays.
    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let closing = &self.context.closing;
        // A client that does not read holds up the end for a moment only.
        let overdue = async {
            closing.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            biased;
            written = self.output.write(&mut self.socket) => written,
            () = overdue => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Answers for the last time. What the client still sends is read for a moment: closing
    /// a socket with unread bytes would destroy the answer.
    async fn refuse(mut self, answer: &pb::Response) -> io::Result<()> {
        self.attention.forget(&self.socket);
        self.output.put_always(answer);
        self.flush().await?;
        self.socket.shutdown().await?;
        let drain = async {
            let mut rest = [0; 4096];
            let mut budget = 2 * self.context.max_frame;
            while let Ok(n @ 1..) = self.socket.read(&mut rest).await {
                budget = budget.saturating_sub(n);
                if budget == 0 {
                    break;
                }
            }
        };
        let drain = timeout(Duration::from_secs(1), drain);
        let _ = self.context.closing.run_until_cancelled(drain).await;
        Ok(())
    }

    async fn handle(&mut self, origin: RequestOrigin, frame: Bytes) -> io::Result<Outcome> {
        let Ok(_parts) = self.account.charge(parts::cost(&frame)) else {
            return Ok(Outcome::Answer(response::over_budget()));
        };
        let request = match request::parse(frame) {
            Ok(request) => request,
            Err(rejected) => {
                drop(metrics::Serving::begin("malformed"));
                return Ok(rejected.into());
            }
        };
        let mut counted = metrics::Serving::begin(request.verb());
        // Earlier answers must not wait for a slow request.
        let waits = matches!(&request, Request::Host(request) if request.waits());
        let flushes = waits || self.output.len() > MAX_BATCH;
        let registers = matches!(&request, Request::Host(request) if request.registers());
        if !registers && (flushes || matches!(request, Request::Dht(_))) {
            // What comes after it waits for it.
            self.attention.release();
        }
        if flushes {
            self.flush().await?;
        }
        faults::point("session");
        let outcome = match request {
            Request::Host(request) => {
                let dials = request.dials();
                let executed = execute(&self.context, &self.account, origin, request);
                tokio::select! {
                    biased;
                    outcome = executed => outcome,
                    () = self.socket.gone(HASTE), if dials => Outcome::Abandoned,
                }
            }
            Request::Dht(request) => self.query(request).await?,
            Request::Upgrade => Outcome::Upgrade,
        };
        if outcome.is_success() {
            counted.succeed();
        }
        Ok(outcome)
    }

    async fn query(&mut self, request: Result<DhtRequest, Rejected>) -> io::Result<Outcome> {
        let Some(dht) = &self.context.dht else {
            return Ok(Outcome::Answer(response::no_dht()));
        };
        let request = match request {
            Ok(request) => request,
            Err(rejected) => return Ok(rejected.into()),
        };
        let dht = dht.clone();
        self.flush().await?;
        let asker = Asker {
            socket: &mut self.socket,
            output: &mut self.output,
            closing: &self.context.closing,
        };
        let mut counted = metrics::DhtQuery::begin(request.query.verb());
        Ok(match Box::pin(asker.serve(&dht, request)).await? {
            Served::Answer(answer) => {
                counted.end(answer.error.is_none());
                Outcome::Answer(*answer)
            }
            Served::Streamed => {
                counted.end(true);
                Outcome::Answered
            }
            Served::Abandoned => Outcome::Abandoned,
        })
    }
}
