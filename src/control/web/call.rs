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
use tokio::{task::spawn_blocking, time::timeout};

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

/// Bytes of a body that are read as JSON between two other tasks.
const QUICK: usize = 64 * 1024;

/// Bytes of the text of an error.
const MAX_ERROR: usize = 1024;

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
        let Ok(mut charge) = account.charge(super::CONNECTION + 3 * len) else {
            return answered(said(&response::over_budget(), None));
        };
        let body = Limited::new(request.into_body(), max).collect();
        let Ok(Ok(body)) = timeout(FRAME_TIMEOUT, body).await else {
            return answered(empty(StatusCode::REQUEST_TIMEOUT));
        };
        let read = self.read(verb, body.to_bytes()).await;
        let wanted = match read {
            Ok(wanted) if wanted.follows == Frames::Other => {
                let text = "this request needs a WebSocket";
                return answered(said(&response::error(text), Some(charge)));
            }
            Ok(wanted) => wanted,
            Err(text) => return answered(said(&response::error(text), Some(charge))),
        };
        // Small numbers in JSON are larger as fields of a message.
        if charge
            .resize(super::CONNECTION + 2 * wanted.bytes.capacity())
            .is_err()
        {
            return answered(said(&response::over_budget(), None));
        }
        let Some(session) = self.session(origin) else {
            return answered(empty(StatusCode::SERVICE_UNAVAILABLE));
        };
        let asked = Asked::new(session, &account, charge);
        let answer = asked.ask(wanted).await;
        match answer {
            Some(Answer::Whole(answer)) => answered(answer),
            Some(Answer::Begun(answer)) => answer,
            None => answered(empty(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }

    /// Reads a request, a large one on a thread of its own; or says what is wrong with it.
    async fn read(&self, verb: &str, body: Bytes) -> Result<json::Request, String> {
        let max = self.context.max_frame;
        let read = match body.len() > QUICK {
            true => {
                let verb = verb.to_owned();
                let read = spawn_blocking(move || json::request(&verb, &body, max));
                read.await.map_err(|error| error.to_string())?
            }
            false => json::request(verb, &body, max),
        };
        read.map_err(|error| {
            let mut text = error.to_string();
            let end = (0..=MAX_ERROR).rev().find(|at| text.is_char_boundary(*at));
            if text.len() > MAX_ERROR {
                text.truncate(end.unwrap_or(0));
            }
            text
        })
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
    /// For the request, and for the connection.
    charge: Charge,
}

impl Asked {
    fn new(session: Socket, account: &Arc<Account>, charge: Charge) -> Self {
        let reader = FrameReader::new(MAX_ANSWER, BytesMut::new());
        Self {
            session,
            reader: reader.charged(account.empty_charge()),
            account: account.clone(),
            charge,
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
        drop(request);
        self.charge.shrink(super::CONNECTION);
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
            let (text, mut charge) = self.line(json::response, &first)?;
            charge.merge(self.charge);
            let body = Full::new(held(text, charge)).boxed_unsync();
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
        let mut charge = self.account.charge(TEXT * bytes.len()).ok()?;
        let mut text = write(bytes).ok()?;
        text.push('\n');
        charge.resize(text.capacity()).ok()?;
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
        let (line, charge) = self.asked.line(write, &frame)?;
        Some(held(line, charge))
    }
}

fn status(answer: &pb::Response) -> StatusCode {
    match answer.r#type() {
        pb::response::Type::Ok => StatusCode::OK,
        pb::response::Type::Error => StatusCode::BAD_REQUEST,
    }
}

/// A text, and the charge for as long as it is held.
struct Held(
    String,
    #[expect(dead_code, reason = "it goes with the text")] Option<Charge>,
);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// `text`, charged until all of it is sent.
fn held(text: String, charge: impl Into<Option<Charge>>) -> Bytes {
    Bytes::from_owner(Held(text, charge.into()))
}

/// An answer that no session has given, to a connection that is charged.
fn said(answer: &pb::Response, mut charge: Option<Charge>) -> Response<Body> {
    if let Some(charge) = &mut charge {
        charge.shrink(super::CONNECTION);
    }
    let text = json::response(&answer.encode_to_vec()).unwrap_or_default();
    let body = Full::new(held(text + "\n", charge)).boxed_unsync();
    with(status(answer), ONE, body)
}
