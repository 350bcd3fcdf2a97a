//! Fuzz targets: what clients send.

use bytes::{Bytes, BytesMut};

use prost::Message as _;

use super::request;
use crate::{
    fuzz_input::Input,
    wire::{frame, pb},
};

pub(crate) use super::persistent::fuzzing::operations;

/// Bytes of a reason as text: what is not UTF-8 takes three for one.
const MAX_REASON: usize = 3 * 256;

/// Small, so that inputs reach it.
const MAX_FRAME: usize = 1 << 10;

/// The frames in `bytes`, and whether something followed them that is none.
fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let before = buffer.len();
            match frame::take(&mut buffer, MAX_FRAME) {
                Ok(Some(payload)) => {
                    assert!(payload.len() <= MAX_FRAME && payload.len() < before);
                    frames.push(payload);
                }
                Ok(None) => {
                    assert_eq!(buffer.len(), before, "an incomplete frame is left alone");
                    break;
                }
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// The bytes of a control connection. However they are cut on their way, the same frames arrive,
/// and each is a request or refused.
pub(crate) fn requests(data: &[u8]) {
    let mut input = Input::new(data);
    let step = usize::from(input.byte()) + 1;
    let stream = input.rest();
    let whole = frames(std::iter::once(stream));
    assert_eq!(whole, frames(stream.chunks(step)), "the cuts do not matter");
    let mut again = BytesMut::new();
    for payload in &whole.0 {
        frame::put(payload, &mut again);
    }
    assert!(stream.starts_with(&again), "frames are read as written");
    for payload in whole.0 {
        check(payload);
    }
    check(Bytes::copy_from_slice(stream));
}

fn check(payload: Bytes) {
    if let Ok(request) = pb::Request::decode(payload.clone()) {
        // What a validator says.
        let _ = request::verdicts(&request).last();
        for (_, verdict) in request::record_verdicts(&request) {
            let reason = verdict.reason.map_or(0, |reason| reason.len());
            assert!(reason <= MAX_REASON, "a reason is cut");
        }
    }
    match request::parse(payload) {
        Ok(request) => drop(format!("{request:?}")),
        Err(rejected) => assert!(!rejected.reason.is_empty(), "a refusal has a reason"),
    }
}
