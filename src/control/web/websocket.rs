//! The bytes of a control connection in binary messages of a WebSocket. Where one message ends and
//! the next begins is of no account. An empty one ends its sender's side.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use multibase::Base;
use rustix::net::Shutdown;
use sha1::{Digest as _, Sha1};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};

use super::{Body, CONNECTION, Server, empty, gate::Passed};
use crate::{
    control::socket::Socket, fixed_limits::fixed_limit, memory::Charge, streams::RequestOrigin,
    wire::frame::Source,
};

/// Bytes of a message (SECURITY.md 3).
const MAX_MESSAGE: usize = 64 * 1024;
fixed_limit!("message of a WebSocket", bytes MAX_MESSAGE);

/// Bytes that are sent in one message.
const CHUNK: usize = 16 * 1024;

/// Time to say that the connection ends.
const LAST_WORD: Duration = Duration::from_millis(300);

/// What the answer to a handshake is made of (RFC 6455 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

type Sink = futures::stream::SplitSink<Connection, Message>;
type Connection = WebSocketStream<TokioIo<Upgraded>>;

impl Server {
    /// Turns the connection into a WebSocket, which has a session of its own.
    pub(super) fn upgrade(
        self: &Arc<Self>,
        request: &mut Request<Incoming>,
        origin: RequestOrigin,
        passed: &Passed,
    ) -> Response<Body> {
        let Some(accept) = accept(request) else {
            return empty(StatusCode::BAD_REQUEST);
        };
        let account = self.context.ledger.client();
        let Ok(charge) = account.charge(CONNECTION + MAX_MESSAGE) else {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        };
        let Some(session) = self.session(origin) else {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        };
        let upgraded = hyper::upgrade::on(request);
        let closing = self.context.closing.clone();
        self.tasks.spawn(async move {
            match upgraded.await {
                Ok(upgraded) => Box::pin(carry(upgraded, session, closing, charge)).await,
                Err(error) => tracing::debug!(%error, "control over http: no WebSocket"),
            }
        });
        let mut answer = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = passed.protocol {
            let protocol = HeaderValue::from_static(protocol);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        answer
    }
}

/// What answers the handshake, if it is one.
fn accept(request: &Request<Incoming>) -> Option<HeaderValue> {
    let headers = request.headers();
    let has = |name, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        let mut words = value.unwrap_or_default().split(',').map(str::trim);
        words.any(|word| word.eq_ignore_ascii_case(wanted))
    };
    let asked = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(GUID)
        .finalize();
    Base::Base64Pad.encode(digest).parse().ok()
}

/// Carries bytes until the client or the session has ended.
async fn carry(upgraded: Upgraded, session: Socket, closing: CancellationToken, _charge: Charge) {
    let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
    let websocket = ServerBuilder::new().limits(limits);
    let websocket = websocket.serve(TokioIo::new(upgraded));
    let (sink, mut messages) = websocket.split();
    let sink = Mutex::new(sink);
    // A client that does not read holds up the end of the daemon for a moment only.
    let overdue = async {
        closing.cancelled().await;
        session.gone(LAST_WORD).await;
        sleep(LAST_WORD).await;
    };
    let ended = tokio::select! {
        biased;
        () = overdue => return,
        ended = up(&mut messages, &session, &sink) => ended,
        ended = down(&session, &sink) => ended,
    };
    let code = match ended {
        Ok(()) => CloseCode::NORMAL_CLOSURE,
        Err(End::Text) => CloseCode::UNSUPPORTED_DATA,
        // The library has queued what there is to say, if anybody is there.
        Err(End::Gone) => {
            let flush = async { sink.lock().await.flush().await };
            let _ = timeout(LAST_WORD, flush).await;
            return;
        }
    };
    let close = async {
        let mut sink = sink.lock().await;
        let _ = sink.send(Message::close(Some(code), "")).await;
        // The other end closes, which is waited for: what was sent is not lost so.
        while let Some(Ok(_)) = messages.next().await {}
    };
    let _ = timeout(LAST_WORD, close).await;
}

enum End {
    /// The client is gone, or breaks the protocol.
    Gone,
    /// The client sends text.
    Text,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<tokio_websockets::Error> for End {
    fn from(_: tokio_websockets::Error) -> Self {
        Self::Gone
    }
}

/// Messages of the client to the session.
async fn up(
    messages: &mut futures::stream::SplitStream<Connection>,
    session: &Socket,
    sink: &Mutex<Sink>,
) -> Result<(), End> {
    let mut ended = false;
    loop {
        let message = messages.next().await.ok_or(End::Gone)??;
        if message.is_ping() {
            // Its answer is queued; a further one waits until that is out.
            sink.lock().await.flush().await?;
        } else if message.is_text() {
            return Err(End::Text);
        } else if message.is_close() {
            return Err(End::Gone);
        } else if message.is_binary() && !ended {
            let bytes = message.into_payload();
            if bytes.is_empty() {
                ended = true;
                let _ = rustix::net::shutdown(session, Shutdown::Write);
            } else if session.write_whole(&bytes).await.is_err() {
                // The session reads no more. What it still says is for `down` to bring.
                ended = true;
            }
        }
    }
}

/// What the session says to the client.
async fn down(session: &Socket, sink: &Mutex<Sink>) -> Result<(), End> {
    let mut source = session;
    loop {
        let mut buffer = vec![0; CHUNK];
        let n = std::future::poll_fn(|cx| Source::poll_read(&mut source, cx, &mut buffer)).await?;
        buffer.truncate(n);
        let ends = n == 0;
        if !(ends && session.hung_up()) {
            sink.lock()
                .await
                .send(Message::binary(Bytes::from(buffer)))
                .await?;
        }
        if ends {
            session.gone(Duration::ZERO).await;
            return Ok(());
        }
    }
}
