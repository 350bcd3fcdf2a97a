//! The address of `-metricsAddr`: metrics, health, the state as JSON, and a page that shows it.
//!
//! It is for the operator, on loopback unless an address is given. Nothing can be changed here and
//! there is no profiler. A connection carries one request, has [`REQUEST_TIME`] from its first byte
//! to its last, and when there are [`MAX_CONNECTIONS`] the oldest one gives way: whoever does not
//! read, or writes slowly, keeps nobody out.

mod bind;
mod exposition;
mod page;
mod process;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use bind::{BindError, bind};

use crate::{
    descriptors::is_shortage, fixed_limits::fixed_limit, host_header, limit_hits::Limit,
    status::Sources, telemetry::Chain,
};

/// Connections at once (SECURITY.md 3); a further one ends the oldest.
const MAX_CONNECTIONS: usize = 32;
fixed_limit!("metrics: connections", MAX_CONNECTIONS);

/// Time for a request and its answer (SECURITY.md 3).
const REQUEST_TIME: Duration = Duration::from_secs(10);
fixed_limit!("metrics: request and its answer", time REQUEST_TIME);

/// Bytes of a request (SECURITY.md 3).
const MAX_REQUEST: usize = 16 * 1024;
fixed_limit!("metrics: request", bytes MAX_REQUEST);

/// Texts of `/metrics` made at once (SECURITY.md 3). What has begun goes on when its connection
/// gives way, on threads that others need as well.
const MAX_TEXTS: usize = 2;
fixed_limit!("metrics: texts made at once", MAX_TEXTS);

static TEXTS: Semaphore = Semaphore::const_new(MAX_TEXTS);

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time for the task that owns the swarm to answer before the daemon counts as hanging.
const ALIVE: Duration = Duration::from_secs(2);

/// Whether the daemon has done what it does once at the start.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// The network is joined, or there is none to join.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What answers.
#[derive(Debug)]
pub struct Server {
    /// What is known.
    pub sources: Arc<Sources>,
    /// Whether the start is over.
    pub ready: Arc<Readiness>,
    /// Runs the connections.
    pub tasks: TaskTracker,
}

impl Server {
    /// Answers until dropped.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let loopback = listener
            .local_addr()
            .is_ok_and(|address| address.ip().to_canonical().is_loopback());
        let mut open: VecDeque<CancellationToken> = VecDeque::new();
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::debug!(%error, "no connection accepted on the metrics address");
                    // An error that concerns one connection delays no other.
                    match is_shortage(&error) {
                        true => sleep(ACCEPT_PAUSE).await,
                        false => yield_now().await,
                    }
                    continue;
                }
            };
            open.retain(|connection| !connection.is_cancelled());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                Limit::HttpConnections.hit();
                oldest.cancel();
            }
            let done = CancellationToken::new();
            open.push_back(done.clone());
            let server = server.clone();
            let tasks = server.tasks.clone();
            tasks.spawn(async move {
                let ended = done.clone().drop_guard();
                done.run_until_cancelled(server.serve(socket, loopback))
                    .await;
                drop(ended);
            });
        }
    }

    async fn serve(self: Arc<Self>, socket: TcpStream, loopback: bool) {
        let answer = |request: Request<Incoming>| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(&request, loopback).await) }
        };
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_REQUEST)
            .serve_connection(TokioIo::new(socket), service_fn(answer));
        match timeout(REQUEST_TIME, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %Chain(&error), "metrics connection failed"),
            Err(_) => Limit::HttpTime.hit(),
        }
    }

    async fn answer(&self, request: &Request<Incoming>, loopback: bool) -> Response<Full<Bytes>> {
        let host = request.headers().get(header::HOST);
        if !host_header::is_own(host.map(HeaderValue::as_bytes), loopback) {
            // A name that an attacker's name server leads here (DNS rebinding).
            return text(StatusCode::MISDIRECTED_REQUEST, "ask by an ip address\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "nothing can be changed here\n",
            );
        }
        match request.uri().path() {
            "/" => page::page(),
            "/status.json" => typed("application/json", self.sources.json().await),
            "/metrics" => self.metrics().await,
            "/livez" => self.health(true).await,
            "/readyz" => self.health(self.ready.is_set()).await,
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /, /status.json, /metrics, /livez and /readyz\n",
            ),
        }
    }

    async fn health(&self, ready: bool) -> Response<Full<Bytes>> {
        let turn = timeout(ALIVE, self.sources.node.take_turn());
        match (turn.await, ready) {
            (Err(_), _) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the swarm does not answer\n",
            ),
            (_, false) => text(StatusCode::SERVICE_UNAVAILABLE, "joining the network\n"),
            _ => text(StatusCode::OK, "ok\n"),
        }
    }

    /// Reads files of `/proc`, so not on a worker.
    async fn metrics(&self) -> Response<Full<Bytes>> {
        // An error would mean that it is closed, which nobody does.
        let place = TEXTS.acquire().await.ok();
        let (sources, ready) = (self.sources.clone(), self.ready.is_set());
        let told = tokio::task::spawn_blocking(move || {
            let _place = place;
            exposition::text(&sources, ready)
        });
        match told.await {
            Ok(told) => typed(exposition::TYPE, told.into()),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "no metrics\n"),
        }
    }
}

/// What is printed at the start: where the page is.
#[must_use]
pub fn announcement(address: SocketAddr) -> String {
    format!("status page: http://{address}/ (metrics at /metrics, health at /livez and /readyz)")
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = typed(
        "text/plain; charset=utf-8",
        Bytes::from_static(body.as_bytes()),
    );
    *response.status_mut() = status;
    response
}

fn typed(kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
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
