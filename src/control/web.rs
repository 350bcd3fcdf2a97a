//! Control over HTTP: requests as JSON, and the frames of the control socket over a WebSocket
//! (PROTOCOL.md 8).
//!
//! Everything that is asked here goes through a session like any other: each request, and each
//! WebSocket, has one end of a pair of sockets, and a session the other. Nothing is served before the
//! gate has let it in, and whoever it does not let in learns nothing.

mod call;
mod gate;
mod token;
mod websocket;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, header::HeaderValue,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::accepted,
    arrivals::Attention,
    context::{Context, FRAME_TIMEOUT},
    guard::AccessDenied,
    persistent::Connections,
    session::Session,
    socket::Socket,
};
use crate::{
    descriptors::{Descriptors, RESERVE},
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    streams::RequestOrigin,
};
use gate::{Gate, Passed};
pub use token::TokenError;

/// Connections that have not shown a token yet (SECURITY.md 3); a further one ends the oldest.
const MAX_STRANGERS: usize = 64;
fixed_limit!(
    "connections of control over http without a token",
    MAX_STRANGERS
);

/// Time to show one (SECURITY.md 3).
const TOKEN_TIME: Duration = Duration::from_secs(10);
fixed_limit!("time to show a token over http", time TOKEN_TIME);

/// Time to take the last answer when the daemon ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Silence after which a client is asked whether it is there, time between two such questions, and how many
/// it may leave without an answer.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);

/// Bytes of the head of a request (SECURITY.md 3).
const MAX_HEAD: usize = 16 * 1024;
fixed_limit!("head of a request of control over http", bytes MAX_HEAD);

/// Bytes that are charged for a connection: the buffers of both its ends.
const CONNECTION: usize = 96 * 1024;
fixed_limit!("memory charged for a connection of control over http", bytes CONNECTION);

/// Path of a WebSocket; the others are names of requests.
const SOCKET_PATH: &str = "socket";

/// What all paths begin with.
const ROOT: &str = "/v1/";

/// What is sent back.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the operator says of control over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub address: SocketAddr,
    /// The file of the token; it is made if it is missing.
    pub token: PathBuf,
    /// Pages from which browsers may ask, such as `https://example.com`.
    pub origins: Vec<String>,
}

/// Why there is no control over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The address.
    #[error("-controlHttp={address}: {}", crate::wording::system_error(.source))]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A bound address.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    gate: Gate,
    address: SocketAddr,
}

impl Web {
    /// Reads or makes the token, and binds the address. Blocks.
    ///
    /// # Errors
    /// [`WebError`]
    pub fn bind(settings: &Settings) -> Result<Self, WebError> {
        let address = settings.address;
        let failed = |source| WebError::Bind { address, source };
        let token = token::load_or_make(&settings.token)?;
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let loopback = address.ip().to_canonical().is_loopback();
        let gate = Gate::new(token, settings.origins.clone(), loopback);
        Ok(Self {
            listener,
            gate,
            address,
        })
    }

    /// The bound address, with the true port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether clients on other machines can connect.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        !self.address.ip().to_canonical().is_loopback()
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// If the socket cannot be used with the runtime.
    pub async fn run(
        self,
        context: Arc<Context>,
        persistent: Arc<Connections>,
        tasks: TaskTracker,
        descriptors: Descriptors,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let server = Arc::new(Server {
            gate: self.gate,
            context,
            persistent,
            tasks: tasks.clone(),
            descriptors,
        });
        let accept = async {
            let mut strangers: VecDeque<Stranger> = VecDeque::new();
            loop {
                let socket = accepted(|cx| listener.poll_accept(cx)).await.0;
                if !server.descriptors.can_spare(RESERVE) {
                    Limit::Descriptors.hit();
                    continue;
                }
                strangers.retain(Stranger::is_one);
                if strangers.len() >= MAX_STRANGERS
                    && let Some(oldest) = strangers.pop_front()
                {
                    Limit::WebStrangers.hit();
                    oldest.cut.cancel();
                }
                let stranger = Stranger::default();
                strangers.push_back(stranger.clone());
                tasks.spawn(server.clone().serve(socket, stranger));
            }
        };
        stop.run_until_cancelled(accept).await;
        Ok(())
    }
}

/// A connection, and how far it has come.
#[derive(Debug, Clone, Default)]
struct Stranger {
    /// Ends it.
    cut: CancellationToken,
    /// It has shown a token.
    known: CancellationToken,
    /// Its answer is whole.
    answered: CancellationToken,
}

impl Stranger {
    fn is_one(&self) -> bool {
        !self.cut.is_cancelled() && !self.known.is_cancelled()
    }

    /// Whoever shows no token in time, or does not take the answer.
    async fn late(&self) {
        if timeout(TOKEN_TIME, self.known.cancelled()).await.is_ok() {
            self.answered.cancelled().await;
            sleep(FRAME_TIMEOUT).await;
        }
    }
}

/// What answers.
#[derive(Debug)]
struct Server {
    gate: Gate,
    context: Arc<Context>,
    persistent: Arc<Connections>,
    tasks: TaskTracker,
    descriptors: Descriptors,
}

impl Server {
    async fn serve(self: Arc<Self>, socket: TcpStream, stranger: Stranger) {
        let ended = stranger.cut.clone().drop_guard();
        let (Ok(client), Ok(own)) = (socket.peer_addr(), socket.local_addr()) else {
            return;
        };
        // Answers are small, and wait for nothing.
        let _ = socket.set_nodelay(true);
        let (silence, interval, unanswered) = KEEPALIVE;
        let keepalive = TcpKeepalive::new().with_time(silence);
        let keepalive = keepalive.with_interval(interval).with_retries(unanswered);
        // Without it a client whose machine has gone stays.
        let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
        let admitted = self.context.guard.admit_address(client, own);
        let origin = match admitted {
            Ok(origin) => origin,
            Err(denied) => return refused(&denied),
        };
        let answer = |request: Request<Incoming>| {
            let (server, stranger) = (self.clone(), stranger.clone());
            async move { Ok::<_, Infallible>(server.answer(request, origin, &stranger).await) }
        };
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), service_fn(answer))
            .with_upgrades();
        let connection = tokio::select! {
            ended = connection => ended,
            () = stranger.late() => {
                Limit::WebTime.hit();
                return;
            }
            () = stranger.cut.cancelled() => return,
            () = self.ending() => return,
        };
        if let Err(error) = connection {
            tracing::debug!(%error, "control over http: connection failed");
        }
        drop(ended);
    }

    /// The daemon ends, and whoever reads has had a moment for what it said last.
    async fn ending(&self) {
        self.context.closing.cancelled().await;
        sleep(LAST_WORDS).await;
    }

    async fn answer(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        origin: RequestOrigin,
        stranger: &Stranger,
    ) -> Response<Body> {
        let passed = match self.gate.pass(&request) {
            Ok(passed) => passed,
            Err(status) => return empty(status),
        };
        // What a browser asks before it asks.
        if request.method() == Method::OPTIONS {
            return preflight(&passed);
        }
        stranger.known.cancel();
        let path = request.uri().path().strip_prefix(ROOT).map(str::to_owned);
        let mut answer = match (request.method(), path.as_deref()) {
            (&Method::GET, Some(SOCKET_PATH)) => self.upgrade(&mut request, origin, &passed),
            (&Method::POST, Some(verb)) => self.call(verb, request, origin, stranger).await,
            (_, Some(_)) => empty(StatusCode::METHOD_NOT_ALLOWED),
            (_, None) => empty(StatusCode::NOT_FOUND),
        };
        passed.allow(answer.headers_mut());
        answer
    }

    /// One end of a pair; a session has the other, and serves a client at `origin`. None if there are
    /// as many clients as may be.
    fn session(&self, origin: RequestOrigin) -> Option<Socket> {
        let Ok(permit) = self.context.places.clone().try_acquire_owned() else {
            Limit::Clients.hit();
            return None;
        };
        let (ours, theirs) = UnixStream::pair().ok()?;
        let attention = Attention::new(self.context.arrivals.serve());
        let (context, persistent) = (self.context.clone(), self.persistent.clone());
        let session = Session::new(Socket::Unix(theirs), context, persistent, permit, attention);
        let session = session.of(origin);
        self.tasks.spawn(session.run().map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "client connection ended");
            }
        }));
        Some(Socket::Unix(ours))
    }
}

fn refused(denied: &AccessDenied) {
    tracing::debug!(%denied, "control over http: a client was turned away");
}

fn empty(status: StatusCode) -> Response<Body> {
    with(status, "text/plain", Full::new(Bytes::new()).boxed_unsync())
}

fn with(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn preflight(passed: &Passed) -> Response<Body> {
    let mut answer = empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    passed.allow(headers);
    answer
}
