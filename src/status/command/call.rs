//! `rp2pd call`: one request, by its name and with its parameters as JSON (PROTOCOL.md 8).

use std::{io, time::Duration};

use bytes::Bytes;
use prost::Message as _;

use super::{ANSWER, CommandError};
use crate::{
    client::{Client, ClientError},
    wire::{
        json::{self, Frames},
        maddr::ControlAddr,
        pb,
    },
};

/// Between two looks at a daemon that tells nothing: a dial may take as long as its caller allows.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Sends a request to the daemon, and tells its answer, and what follows that, one document each.
/// Whether the answer is OK. Ends once nobody takes the documents.
///
/// # Errors
/// [`CommandError::Call`] if it is no request; the others if there is no answer.
pub fn call(
    daemon: &ControlAddr,
    verb: &str,
    part: &str,
    mut tell: impl FnMut(String) -> io::Result<()>,
) -> Result<bool, CommandError> {
    let request = json::request(verb, part.as_bytes(), usize::MAX)?;
    if request.follows == Frames::Other {
        return Err(CommandError::Stream);
    }
    let failed = |source| ClientError::Io {
        addr: daemon.clone(),
        source,
    };
    let mut client = Client::connect(daemon, ANSWER)?;
    client.send(&request.bytes, ANSWER).map_err(failed)?;
    let mut next = || -> io::Result<Bytes> {
        loop {
            match client.next_frame(PATIENCE) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                other => return other,
            }
        }
    };
    let first = next().map_err(failed)?;
    let taken = tell(json::response(&first)?).is_ok();
    let answer = pb::Response::decode(first).map_err(io::Error::other);
    let answer = answer.map_err(failed)?;
    if answer.r#type() == pb::response::Type::Error {
        return Ok(false);
    }
    if !taken {
        return Ok(true);
    }
    let is = |kind: i32, wanted: pb::dht_response::Type| kind == i32::from(wanted);
    let write = match request.follows {
        Frames::None | Frames::Other => return Ok(true),
        Frames::Results => match &answer.dht {
            Some(part) if is(part.r#type, pb::dht_response::Type::Begin) => json::result,
            _ => return Ok(true),
        },
        Frames::Messages => json::message,
        Frames::Responses => json::response,
    };
    loop {
        let frame = next().map_err(failed)?;
        if tell(write(&frame)?).is_err() {
            return Ok(true);
        }
        if request.follows == Frames::Results {
            let result = pb::DhtResponse::decode(frame).map_err(io::Error::other);
            if is(result.map_err(failed)?.r#type, pb::dht_response::Type::End) {
                return Ok(true);
            }
        }
    }
}
