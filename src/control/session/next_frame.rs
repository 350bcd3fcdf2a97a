//! Requests as they arrive.

use std::io;

use bytes::Bytes;

use super::{
    super::{
        arrivals::Watched,
        guard::{AccessDenied, is_http},
        response,
    },
    Session,
};
use crate::{
    limit_hits::Limit,
    wire::frame::{FrameError, ReadError},
};

/// Why there is no further request.
pub(super) enum End {
    /// The client has closed, or the daemon ends.
    Closed,
    /// The bytes cannot be a frame.
    Malformed(String),
    /// There was no room for it; further ones may follow.
    OverBudget,
}

impl Session {
    /// The next request, if that is no `first` one in HTTP. Answers go out before there is
    /// anything to wait for.
    pub(super) async fn next_frame(&mut self, first: bool) -> io::Result<Result<Bytes, End>> {
        loop {
            if first && is_http(self.reader.received()) {
                Limit::Http.hit();
                return Ok(Err(End::Malformed(response::denied(&AccessDenied::Http))));
            }
            match self.reader.take() {
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    if matches!(error, FrameError::TooLarge { .. }) {
                        Limit::FrameSize.hit();
                    }
                    return Ok(Err(End::Malformed(error.to_string())));
                }
            }
            self.flush().await?;
            let mut source = Watched {
                socket: &self.socket,
                attention: &mut self.attention,
            };
            let filled = tokio::select! {
                biased;
                filled = self.reader.fill(&mut source) => filled,
                () = self.context.closing.cancelled() => Err(ReadError::Closed),
            };
            match filled {
                Ok(()) => {}
                Err(ReadError::Closed | ReadError::Cut) => return Ok(Err(End::Closed)),
                Err(error @ ReadError::TimedOut) => {
                    Limit::FrameTime.hit();
                    return Ok(Err(End::Malformed(error.to_string())));
                }
                Err(ReadError::OverBudget(_)) => return Ok(Err(End::OverBudget)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
