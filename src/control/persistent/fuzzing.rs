//! Fuzz target: the operations on a persistent connection, and what a peer answers.

use bytes::Bytes;

use super::request::{self, Message};
use crate::fuzz_input::Input;

/// A sequence of frames, as the client sends them, and the same bytes as a peer's.
pub(crate) fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    while !input.is_empty() {
        let payload = Bytes::copy_from_slice(input.chunk());
        let parsed = request::parse(&payload);
        let call = request::call(payload.clone());
        match parsed {
            Ok((id, Message::Call { data, .. })) => {
                assert_eq!(call, Some((id, data)), "a client's call is a peer's");
            }
            Ok((_, Message::Answer(answer))) => {
                assert!(
                    request::answered(payload).is_ok_and(|answered| answered == Some(answer)),
                    "a client's answer is a peer's"
                );
            }
            Ok(_) => assert_eq!(call, None, "only a call is a call"),
            Err(rejected) => assert!(!rejected.reason.is_empty(), "a refusal has a reason"),
        }
    }
}
