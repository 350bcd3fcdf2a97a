//! Requests as JSON: one POST each, answered by one document, or by one a line where more follows.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Body as _, Frame, Incoming},
};
use prost::Message as _;
use tokio::time::timeout;

use super::{Body, Server, Stranger, empty, with};
use crate::{
    control::{context::FRAME_TIMEOUT, response, socket::Socket},
    memory::{Account, Charge},
    streams::RequestOrigin,
    wire::{
        frame::{self, FrameReader},
        json::{self, Frames},
        pb,
    },
};

const ONE: &str = "application/json";

const LINES: &str = "application/x-ndjson";

/// Bytes of an answer: a status names 4096 peers at most.
const MAX_ANSWER: usize = 256 << 20;

/// Bytes of memory that a byte of an answer may need as text.
const TEXT: usize = 8;

impl Server {
    /// Answers a request that is named by its path.
    pub(super) async fn call(
        &self,
        verb: &str,
        request: Request<Incoming>,
        origin: RequestOrigin,
        stranger: &Stranger,
    ) -> Response<Body> {
        let account = self.context.ledger.client();
        let answered = |response| {
            stranger.answered.cancel();
            response
        };
        // Base64 needs four thirds.
        let max = self.context.max_frame.saturating_mul(2);
        let Some(len) = request.body().size_hint().exact() else {
            return answered(empty(StatusCode::LENGTH_REQUIRED));
        };
        let Ok(len) = usize::try_from(len) else {
            return answered(empty(StatusCode::PAYLOAD_TOO_LARGE));
        };
        if len > max {
            return answered(empty(StatusCode::PAYLOAD_TOO_LARGE));
        }
        // As it comes, as the message and as its frame.
        let Ok(_charge) = account.charge(super::CONNECTION + 3 * len) else {
            return answered(said(&response::over_budget()));
        };
        let body = Limited::new(request.into_body(), max).collect();
        let Ok(Ok(body)) = timeout(FRAME_TIMEOUT, body).await else {
            return answered(empty(StatusCode::REQUEST_TIMEOUT));
        };
        let wanted = match json::request(verb, &body.to_bytes()) {
            Ok(wanted) if wanted.follows == Frames::Other => {
                let text = "this request needs a WebSocket";
                return answered(said(&response::error(text)));
            }
            Ok(wanted) => wanted,
            Err(error) => return answered(said(&response::error(error.to_string()))),
        };
        let Some(session) = self.session(origin) else {
            return answered(empty(StatusCode::SERVICE_UNAVAILABLE));
        };
        let asked = Asked::new(session, &account);
        let answer = asked.ask(wanted).await;
        match answer {
            Some(Answer::Whole(answer)) => answered(answer),
            Some(Answer::Begun(answer)) => answer,
            None => answered(empty(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }
}

enum Answer {
    Whole(Response<Body>),
    /// More follows, for as long as somebody reads.
    Begun(Response<Body>),
}

/// A session that has one request.
struct Asked {
    session: Socket,
    reader: FrameReader,
    account: Arc<Account>,
}

impl Asked {
    fn new(session: Socket, account: &Arc<Account>) -> Self {
        let reader = FrameReader::new(MAX_ANSWER, BytesMut::new());
        Self {
            session,
            reader: reader.charged(account.empty_charge()),
            account: account.clone(),
        }
    }

    async fn ask(mut self, wanted: json::Request) -> Option<Answer> {
        let mut request = BytesMut::new();
        frame::put(&wanted.bytes, &mut request);
        drop(wanted.bytes);
        let session = &self.session;
        let mut source = session;
        // A session that answers before it has read all is heard.
        let (_, first) = tokio::join!(session.write_whole(&request), self.reader.next(&mut source));
        let first = first.ok()??;
        let answer = pb::Response::decode(first.clone()).ok()?;
        let status = status(&answer);
        let begins = match wanted.follows {
            Frames::None | Frames::Other => false,
            Frames::Responses | Frames::Messages => true,
            Frames::Results => answer
                .dht
                .as_ref()
                .is_some_and(|part| part.r#type == i32::from(pb::dht_response::Type::Begin)),
        };
        if status != StatusCode::OK || !begins {
            let (text, _charge) = self.line(json::response, &first)?;
            let body = Full::new(Bytes::from(text)).boxed_unsync();
            return Some(Answer::Whole(with(status, ONE, body)));
        }
        let lines = Lines {
            asked: self,
            follows: wanted.follows,
            first: Some(first),
            ended: false,
        };
        let lines = stream::unfold(lines, async |mut lines| {
            let line = lines.next().await?;
            Some((Ok(Frame::data(line)), lines))
        });
        let body = StreamBody::new(lines).boxed_unsync();
        Some(Answer::Begun(with(status, LINES, body)))
    }

    /// A document and the end of its line, if there is room for it.
    fn line(
        &self,
        write: fn(&[u8]) -> Result<String, json::JsonError>,
        bytes: &[u8],
    ) -> Option<(String, Charge)> {
        let charge = self.account.charge(TEXT * bytes.len()).ok()?;
        let mut text = write(bytes).ok()?;
        text.push('\n');
        Some((text, charge))
    }
}

/// What follows an answer.
struct Lines {
    asked: Asked,
    follows: Frames,
    first: Option<Bytes>,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let (frame, write): (Bytes, fn(&[u8]) -> _) = match self.first.take() {
            Some(first) => (first, json::response),
            None => {
                let mut source = &self.asked.session;
                let frame = self.asked.reader.next(&mut source).await.ok()??;
                match self.follows {
                    Frames::Messages => (frame, json::message),
                    Frames::Results => {
                        let end = i32::from(pb::dht_response::Type::End);
                        let result = pb::DhtResponse::decode(frame.clone()).ok()?;
                        self.ended = result.r#type == end;
                        (frame, json::result)
                    }
                    Frames::Responses | Frames::None | Frames::Other => (frame, json::response),
                }
            }
        };
        let (line, _charge) = self.asked.line(write, &frame)?;
        Some(line.into())
    }
}

fn status(answer: &pb::Response) -> StatusCode {
    match answer.r#type() {
        pb::response::Type::Ok => StatusCode::OK,
        pb::response::Type::Error => StatusCode::BAD_REQUEST,
    }
}

/// An answer that no session has given.
fn said(answer: &pb::Response) -> Response<Body> {
    let text = json::response(&answer.encode_to_vec()).unwrap_or_default();
    let body = Full::new(Bytes::from(text + "\n")).boxed_unsync();
    with(status(answer), ONE, body)
}
