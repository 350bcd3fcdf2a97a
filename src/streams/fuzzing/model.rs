//! What a listener of multistream-select answers, told over the whole of what the dialer sends.

use super::{LIBRARY, MAX_NAME, USER};

const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";

/// Proposals after which the listener gives up.
const MAX_PROPOSALS: usize = 128;

/// How the negotiation ended, and for the library what it reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    User,
    Library(Vec<u8>),
    Failed,
}

/// The next message without its newline, and what follows it.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = unsigned_varint::decode::usize(bytes).ok()?;
    if length > MAX_NAME + 1 || rest.len() < length {
        return None;
    }
    let (message, rest) = rest.split_at(length);
    Some((message.strip_suffix(b"\n")?, rest))
}

/// What is to become of a stream on which `sent` is sent, and the answers it may get.
pub(super) fn expected(sent: &[u8]) -> (Outcome, Vec<Vec<u8>>) {
    let Some((b"/multistream/1.0.0", mut rest)) = message(sent) else {
        return (Outcome::Failed, vec![Vec::new()]);
    };
    let mut answer = HEADER.to_vec();
    // The header goes out alone if no proposal arrived with the dialer's, else with the answer.
    let early = vec![Vec::new(), HEADER.to_vec()];
    for number in 0..MAX_PROPOSALS {
        let Some((name, behind)) = message(rest) else {
            let answers = if number == 0 { early } else { vec![answer] };
            return (Outcome::Failed, answers);
        };
        if name == USER.as_bytes() {
            answer.extend_from_slice(&rest[..rest.len() - behind.len()]);
            answer.extend_from_slice(behind);
            return (Outcome::User, vec![answer]);
        }
        if name == LIBRARY.as_bytes() {
            let read = [HEADER, rest].concat();
            let answers = if number == 0 { early } else { vec![answer] };
            return (Outcome::Library(read), answers);
        }
        answer.extend_from_slice(b"\x03na\n");
        rest = behind;
    }
    (Outcome::Failed, vec![answer])
}
