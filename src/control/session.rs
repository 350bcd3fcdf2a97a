//! One client connection: requests in order, then at most one stream or the persistent mode.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use super::{
    arrivals::{Arrivals, Serving},
    dht::{Asker, Served},
    guard::{AccessDenied, Guard, is_http},
    persistent::{Connections, Persistent},
    pipe::Pipe,
    pubsub::{self, Feed},
    request::{self, DhtRequest, Rejected, Request},
    response,
    socket::Socket,
};
use crate::{
    dht::Dht,
    faults,
    limit_hits::Limit,
    memory::Ledger,
    node::{Node, OpenedStream},
    pubsub::{PubSub, Subscription},
    streams::{Listening, RequestOrigin, Target},
    wire::{
        frame::{self, FrameError},
        pb,
    },
};

/// How long a frame may take to arrive once it has begun (SECURITY.md 3). Between frames a
/// client may be silent for ever.
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for a client to take the answers that it has waiting when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// Answers collected while further requests are waiting.
pub(super) const MAX_BATCH: usize = 64 * 1024;

/// What every session works with.
#[derive(Debug)]
pub struct Context {
    /// The libp2p host.
    pub node: Node,
    /// The DHT, unless it is off.
    pub dht: Option<Dht>,
    /// Pubsub, unless it is off.
    pub pubsub: Option<PubSub>,
    /// Who may use the control socket, and how far requests reach.
    pub guard: Arc<Guard>,
    /// The persistent connections.
    pub persistent: Arc<Connections>,
    /// Largest frame accepted from a client, or from a peer that makes or answers a call, in
    /// bytes of payload.
    pub max_frame: usize,
    /// Bytes of calls that one persistent connection may have waiting.
    pub max_unsent: usize,
    /// What clients make the daemon hold is charged here.
    pub ledger: Arc<Ledger>,
    /// Control requests that are not served yet.
    pub arrivals: Arc<Arrivals>,
    /// Runs the calls.
    pub tasks: TaskTracker,
    /// Ends sessions that wait for a request.
    pub closing: CancellationToken,
    /// The turn among the clients that leave.
    pub leaving: Semaphore,
}

/// A client that sends requests.
#[derive(Debug)]
pub(super) struct Session {
    socket: Socket,
    input: BytesMut,
    output: BytesMut,
    context: Arc<Context>,
    /// The place among the clients that send requests.
    permit: OwnedSemaphorePermit,
    /// Held while what was read may hold a registration.
    serving: Option<Serving>,
}

/// What the connection is used for after the requests.
enum Mode {
    Closed,
    Pipe(Pipe),
    Feed(Box<Feed>),
    Persistent(Persistent),
}

/// What a request leads to.
pub(super) enum Outcome {
    Answer(pb::Response),
    /// The connection carries this stream from now on.
    Stream(pb::Response, Box<OpenedStream>),
    /// The connection carries these messages from now on.
    Feed(pb::Response, Subscription),
    /// The connection is to be a persistent one.
    Upgrade,
    Close(pb::Response),
    /// All answers are out.
    Answered,
    /// Nobody waits for an answer.
    Abandoned,
}

/// Why there is no further request.
enum End {
    /// The client has closed, or the daemon ends.
    Closed,
    /// The bytes cannot be a frame.
    Malformed(String),
}

impl Session {
    pub(super) fn new(socket: Socket, context: Arc<Context>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            permit,
            serving: None,
            socket,
            input: BytesMut::new(),
            output: BytesMut::new(),
            context,
        }
    }

    /// Serves the client until it closes, its stream ends, or it sends what is no request.
    ///
    /// # Errors
    /// If the client can no longer be written to.
    pub(super) async fn run(self) -> io::Result<()> {
        // Boxed, so that a pipe does not carry the far larger state of the requests along.
        match Box::pin(self.requests()).await? {
            Mode::Closed => {}
            Mode::Pipe(pipe) => pipe.await,
            Mode::Feed(feed) => feed.run().await?,
            Mode::Persistent(persistent) => Box::pin(persistent.run()).await?,
        }
        Ok(())
    }

    async fn requests(mut self) -> io::Result<Mode> {
        let origin = match self.context.guard.admit(&self.socket) {
            Ok(origin) => origin,
            Err(refused) => {
                self.refuse(&response::error(response::refused(&refused)))
                    .await?;
                return Ok(Mode::Closed);
            }
        };
        let token = self.context.closing.clone();
        let mut closing = pin!(token.cancelled());
        let mut first = true;
        loop {
            let frame = match self.next_frame(first, closing.as_mut()).await? {
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
            };
            first = false;
            // A daemon that is about to end finishes no request: a dial may take as long as the
            // client allows.
            let handling = token.run_until_cancelled(self.handle(origin, frame));
            let Some(outcome) = handling.await else {
                self.flush().await?;
                return Ok(Mode::Closed);
            };
            match outcome? {
                Outcome::Answer(answer) => self.answer(&answer),
                Outcome::Stream(answer, opened) => {
                    self.answer(&answer);
                    self.context.arrivals.forget(&self.socket);
                    let preface = self.output.freeze();
                    let early = self.input.freeze();
                    let pipe = Pipe::new(self.socket, opened.stream, early, preface);
                    return Ok(Mode::Pipe(pipe));
                }
                Outcome::Feed(answer, subscription) => {
                    self.answer(&answer);
                    self.context.arrivals.forget(&self.socket);
                    let (socket, context) = (self.socket, &self.context);
                    let feed = Feed::new(socket, self.input, self.output, subscription, context);
                    return Ok(Mode::Feed(Box::new(feed)));
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

    /// Closes, which takes the kernel longer than a request: those who leave by the thousand do
    /// so one after another, and whoever asks meanwhile goes in between.
    async fn leave(self) {
        self.context.arrivals.forget(&self.socket);
        let _turn = self.context.leaving.acquire().await;
        drop(self.socket);
    }

    /// The next request, if that is no `first` one in HTTP. Answers go out before there is
    /// anything to wait for.
    async fn next_frame(
        &mut self,
        first: bool,
        mut closing: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> io::Result<Result<Bytes, End>> {
        let mut deadline = None;
        loop {
            if first && is_http(&self.input) {
                Limit::Http.hit();
                return Ok(Err(End::Malformed(response::refused(&AccessDenied::Http))));
            }
            match frame::take(&mut self.input, self.context.max_frame) {
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    if matches!(error, FrameError::TooLarge { .. }) {
                        Limit::FrameSize.hit();
                    }
                    return Ok(Err(End::Malformed(error.to_string())));
                }
            }
            self.serving = None;
            self.flush().await?;
            let begun = !self.input.is_empty();
            if !begun {
                // A silent client costs no buffer.
                self.input = BytesMut::new();
            }
            self.input.reserve(1024);
            let read = async {
                tokio::select! {
                    biased;
                    read = read(&self.socket, &mut self.input, &self.context.arrivals) => read,
                    () = closing.as_mut() => Ok((0, None)),
                }
            };
            let read = if begun {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + FRAME_TIMEOUT);
                match timeout_at(deadline, read).await {
                    Ok(read) => read?,
                    Err(_) => {
                        Limit::FrameTime.hit();
                        return Ok(Err(End::Malformed("timeout while reading a frame".into())));
                    }
                }
            } else {
                read.await?
            };
            let (read, serving) = read;
            self.serving = serving;
            if read == 0 {
                return Ok(Err(End::Closed));
            }
        }
    }

    /// A daemon that is about to end closes without a word: Hivemind's client takes any
    /// answer for a success.
    fn upgrade(mut self) -> Mode {
        self.context.arrivals.forget(&self.socket);
        self.answer(&response::ok());
        let Self {
            socket,
            input,
            output,
            context,
            permit,
            serving: _,
        } = self;
        let entered = Persistent::enter(socket, input, output, context, permit);
        entered.map_or(Mode::Closed, Mode::Persistent)
    }

    fn answer(&mut self, answer: &pb::Response) {
        self.output.extend_from_slice(&frame::encode(answer));
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
        let writing = self.socket.write_all_buf(&mut self.output);
        // A client that does not read holds up the end for a moment only.
        let overdue = async {
            closing.cancelled().await;
            sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            biased;
            written = writing => written,
            () = overdue => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Answers for the last time. What the client still sends is read for a moment: closing
    /// a socket with unread bytes would destroy the answer.
    async fn refuse(mut self, answer: &pb::Response) -> io::Result<()> {
        self.serving = None;
        self.context.arrivals.forget(&self.socket);
        self.answer(answer);
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
        let request = match request::parse(frame) {
            Ok(request) => request,
            Err(rejected) => return Ok(reject(rejected)),
        };
        let waits = matches!(
            request,
            Request::Connect { .. }
                | Request::OpenStream { .. }
                | Request::Disconnect { .. }
                | Request::PubSub(_)
                | Request::Trim
        );
        if !matches!(
            request,
            Request::SetHandler { .. } | Request::RemoveHandler { .. }
        ) {
            // What comes after it waits for it.
            self.serving = None;
        }
        // Earlier answers must not wait for a slow request.
        if waits || self.output.len() > MAX_BATCH {
            self.flush().await?;
        }
        self.execute(origin, request).await
    }

    async fn ask_dht(&mut self, request: Result<DhtRequest, Rejected>) -> io::Result<Outcome> {
        let Some(dht) = &self.context.dht else {
            return Ok(Outcome::Answer(response::error("DHT not enabled")));
        };
        let request = match request {
            Ok(request) => request,
            Err(rejected) => return Ok(reject(rejected)),
        };
        let dht = dht.clone();
        self.flush().await?;
        let asker = Asker {
            socket: &mut self.socket,
            output: &mut self.output,
            closing: &self.context.closing,
        };
        Ok(match Box::pin(asker.serve(&dht, request)).await? {
            Served::Answer(answer) => Outcome::Answer(*answer),
            Served::Streamed => Outcome::Answered,
            Served::Abandoned => Outcome::Abandoned,
        })
    }

    async fn execute(&mut self, origin: RequestOrigin, request: Request) -> io::Result<Outcome> {
        faults::point("session");
        let node = &self.context.node;
        let registry = &node.streams().registry;
        Ok(Outcome::Answer(match request {
            Request::Identify => response::identify(node.peer_id(), &node.addresses()),
            Request::ListPeers => response::peers(node.peers()),
            Request::PubSub(request) => return Ok(pubsub::serve(&self.context, request).await),
            Request::Connect {
                peer,
                addresses,
                timeout,
            } => match node
                .connect(peer, addresses, Instant::now() + timeout)
                .await
            {
                Ok(()) => response::ok(),
                Err(error) => response::error(response::dial_error(&error)),
            },
            Request::Disconnect { peer } => {
                node.disconnect(peer).await;
                response::ok()
            }
            Request::Tag { peer, tag, weight } => match node.tag(peer, &tag, weight) {
                Ok(()) => response::ok(),
                Err(error) => response::error(response::tag_error(error)),
            },
            Request::Untag { peer, tag } => {
                node.untag(&peer, &tag);
                response::ok()
            }
            Request::Trim => {
                node.trim().await;
                response::ok()
            }
            Request::OpenStream {
                peer,
                protocols,
                timeout,
            } => match node
                .open_stream(peer, &protocols, Instant::now() + timeout)
                .await
            {
                Ok(opened) => {
                    return Ok(Outcome::Stream(
                        response::stream(peer, &opened),
                        Box::new(opened),
                    ));
                }
                Err(error) => response::error(response::stream_error(&error, &protocols)),
            },
            Request::SetHandler {
                addr,
                protocols,
                policy,
            } => match self.context.guard.register(origin, &addr) {
                Err(refused) => response::error(response::refused(&refused)),
                Ok(()) => {
                    let target = Target::Socket(Listening { addr, origin });
                    match registry.register(&target, &protocols, policy) {
                        Ok(()) => response::ok(),
                        Err(error) => response::error(response::registry_error(&error)),
                    }
                }
            },
            Request::RemoveHandler { addr, protocols } => {
                match registry.unregister(&Listening { addr, origin }, &protocols) {
                    Ok(()) => response::ok(),
                    Err(error) => response::error(response::registry_error(&error)),
                }
            }
            Request::PeerProtocols { peer } => match node.peer_protocols(&peer) {
                Some(protocols) => response::peer_protocols(&protocols),
                None => response::error(format!("peer {peer} not found")),
            },
            Request::PeerInfo { peer } => match node.peer_addresses(&peer) {
                Some(addresses) => response::known_peer(peer, &addresses),
                None => response::error(format!("peer {peer} not found")),
            },
            Request::Upgrade => return Ok(Outcome::Upgrade),
            Request::Dht(request) => return self.ask_dht(request).await,
        }))
    }
}

pub(super) fn reject(rejected: Rejected) -> Outcome {
    tracing::debug!(reason = rejected.reason, "request rejected");
    let answer = response::error(rejected.reason);
    if rejected.close {
        Outcome::Close(answer)
    } else {
        Outcome::Answer(answer)
    }
}

/// Reads what has arrived. The request counts as being served before it leaves the kernel.
async fn read(
    socket: &Socket,
    input: &mut BytesMut,
    arrivals: &Arc<Arrivals>,
) -> io::Result<(usize, Option<Serving>)> {
    loop {
        socket.readable().await?;
        let serving = arrivals.serve();
        match socket.try_read(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(|read| (read, Some(serving))),
        }
    }
}
