//! Streams that carry messages.

use std::{io, sync::Arc};

use futures::AsyncWriteExt as _;
use prost::{DecodeError, Message as _};
use tokio::sync::Semaphore;

use super::{decode::decode, pb::Message};
use crate::{
    fixed_limits::fixed_limit,
    memory::{Account, Charge, OverBudget},
    streams::{MessageError, MessageReader, UserStream},
};

/// Largest message, in bytes (go-libp2p's limit).
const MAX_MESSAGE: usize = 4 << 20;
fixed_limit!("DHT: message", bytes MAX_MESSAGE);

/// Messages above 64 KiB read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 16;
fixed_limit!("DHT: messages above 64 KiB being read", MAX_LARGE);

static LARGE_PERMITS: Semaphore = Semaphore::const_new(MAX_LARGE);

/// Why a message was not sent or received.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ChannelError {
    /// It could not be sent.
    #[error("failed to send a message")]
    Send(#[source] io::Error),
    /// Nothing more can be read.
    #[error(transparent)]
    Receive(#[from] MessageError),
    /// It is none of this protocol.
    #[error("malformed message")]
    Malformed(#[source] DecodeError),
}

impl ChannelError {
    /// Whether it is because of a limit of this daemon, and no fault of the peer.
    pub(in super::super) fn is_own_limit(&self) -> bool {
        matches!(self, Self::Receive(error) if error.is_own_limit())
    }

    /// Whether no honest peer sends such bytes.
    pub(in super::super) fn is_malformed(&self) -> bool {
        match self {
            Self::Send(_) => false,
            Self::Receive(error) => error.is_malformed(),
            Self::Malformed(_) => true,
        }
    }

    /// Whether the stream ended or failed, whatever was on it.
    pub(in super::super) fn is_lost(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Receive(error) => error.is_lost(),
            Self::Malformed(_) => false,
        }
    }
}

/// A stream that carries messages.
#[derive(Debug)]
pub(in super::super) struct Channel {
    stream: UserStream,
    account: Arc<Account>,
    reader: MessageReader,
}

impl Channel {
    /// A stream with the peer whose account this is.
    pub(in super::super) fn new(stream: UserStream, account: &Arc<Account>) -> Self {
        let charge = account.empty_charge();
        Self {
            stream,
            account: account.clone(),
            reader: MessageReader::new(MAX_MESSAGE, charge, &LARGE_PERMITS),
        }
    }

    /// Sends an encoded message.
    ///
    /// # Errors
    /// [`ChannelError::Send`].
    pub(in super::super) async fn send(&mut self, frame: &[u8]) -> Result<(), ChannelError> {
        let send = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        send.await.map_err(ChannelError::Send)
    }

    /// The next message, with `max_providers` providers at most; `None` once the remote has
    /// finished. It is charged until [`Channel::release`] or the next call.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub(in super::super) async fn receive(
        &mut self,
        max_providers: usize,
    ) -> Result<Option<Message>, ChannelError> {
        let Some(payload) = self.reader.next(&mut self.stream).await? else {
            return Ok(None);
        };
        let message = decode(payload, max_providers).map_err(ChannelError::Malformed)?;
        Ok(Some(message))
    }

    /// Whether the message at hand is a large one that waits until others have been read.
    pub(in super::super) fn waits_for_others(&self) -> bool {
        self.reader.waits_for_others()
    }

    /// The message received last is no longer held.
    pub(in super::super) fn release(&mut self) {
        self.reader.release();
    }

    /// The message received last is held by somebody else, for whom it is charged.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(in super::super) fn release_held(&mut self, held: &Message) -> Result<Charge, OverBudget> {
        self.release();
        self.account.charge(held.encoded_len())
    }

    /// Finishes the sending side.
    pub(in super::super) async fn close(mut self) {
        // The remote may have gone before.
        let _ = self.stream.close().await;
    }
}
