//! One client connection: requests in order, then at most one stream or the persistent mode.

mod answers;
mod next_frame;
mod next_mode;

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{sync::OwnedSemaphorePermit, task::yield_now};

use super::{
    arrivals::Attention,
    clients::Use,
    context::{Context, FRAME_TIMEOUT, MAX_BATCH},
    dht::{Asker, Served},
    execute::execute,
    mode::Mode,
    outcome::{Last, Outcome},
    output::Output,
    persistent::Connections,
    request::{self, DhtRequest, Rejected, Request},
    response,
    socket::Socket,
    tunnels::Kept,
};
use crate::{
    faults,
    fixed_limits::fixed_limit,
    memory::Account,
    metrics,
    streams::RequestOrigin,
    wire::{frame::FrameReader, parts},
};
use next_frame::End;

/// Largest request that has room whatever the client holds, in bytes. There are as many of them as
/// clients.
const SMALL_REQUEST: usize = 512;
fixed_limit!("request that is read whatever its client holds", bytes SMALL_REQUEST);

/// A client that leaves sooner after a request for a connection or a stream has not waited for the
/// answer at all: it may be content with the connection. Otherwise the dial ends with it.
const HASTE: Duration = Duration::from_secs(1);

/// Requests that were sent at once and are served before others get their turns.
const BURST: usize = 16;
fixed_limit!("requests of one client served in one turn", BURST);

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
    /// Where the client is, if the socket does not tell.
    origin: Option<RequestOrigin>,
    /// What lasts as long as the connection, whatever that becomes.
    kept: Arc<Mutex<Vec<Kept>>>,
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
            origin: None,
            kept: Arc::default(),
        }
    }

    /// Of a client that was let in, at `origin`, and does not itself hold the other end of the socket.
    pub(super) fn of(mut self, origin: RequestOrigin) -> Self {
        self.origin = Some(origin);
        self
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
        let admitted = match self.origin {
            Some(origin) => Ok(origin),
            None => self.context.guard.admit(&self.socket),
        };
        let origin = match admitted {
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
            self.take_turns(&mut served).await;
            let frame = self.next_frame(first).await?;
            first = false;
            let frame = match frame {
                Ok(frame) => frame,
                Err(End::OverBudget) => {
                    self.answer(&response::over_budget()).await?;
                    continue;
                }
                Err(End::Closed) => {
                    self.flush().await?;
                    self.leave().await;
                    return Ok(Mode::Closed);
                }
                Err(End::Malformed(reason)) => {
                    self.refuse(&response::error(reason)).await?;
                    return Ok(Mode::Closed);
                }
            };
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
                Outcome::Answered => {}
                // Large, and what most clients never come to.
                Outcome::Last(last) => return Box::pin(self.end(last)).await,
            }
        }
    }

    /// Lets others have their turns after [`BURST`] requests that were sent at once; `served` of
    /// them were.
    async fn take_turns(&self, served: &mut usize) {
        *served = match self.reader.has_next() {
            true => *served + 1,
            false => 0,
        };
        if *served > BURST {
            *served = 0;
            yield_now().await;
        }
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
            // What comes after it waits for it, and is about to be served only then.
            self.attention.forget(&self.socket);
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
                    () = self.socket.gone(HASTE), if dials => Last::Abandoned.into(),
                }
            }
            Request::Dht(request) => self.query(request).await?,
            Request::Upgrade => Last::Upgrade.into(),
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
            Served::Abandoned => Last::Abandoned.into(),
        })
    }
}
