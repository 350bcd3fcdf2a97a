//! Frames that wait to be written to a client, charged to it.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use prost::Message;
use tokio::io::AsyncWriteExt as _;

use super::{blocked, socket::Socket};
use crate::{
    memory::{Account, Charge, OverBudget},
    wire::frame,
};

/// The longest length of a frame, in bytes.
const MAX_LENGTH: usize = 10;

/// Frames that a client has not read yet. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct Output {
    bytes: BytesMut,
    /// For the memory behind `bytes`.
    charge: Charge,
    account: Arc<Account>,
}

impl Output {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        Self {
            bytes: BytesMut::new(),
            charge: account.empty_charge(),
            account: account.clone(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// The bytes, and what they are charged by.
    pub(super) fn into_parts(self) -> (BytesMut, Charge) {
        (self.bytes, self.charge)
    }

    /// Appends `message` as a frame.
    ///
    /// # Errors
    /// If there is no room for it. Nothing is appended then.
    pub(super) fn put(&mut self, message: &impl Message) -> Result<(), OverBudget> {
        self.reserve(message.encoded_len() + MAX_LENGTH, Charge::resize)?;
        self.append(message);
        Ok(())
    }

    /// Appends `message`, for which there is room always: one that is short and the last one for
    /// now.
    pub(super) fn put_always(&mut self, message: &impl Message) {
        // Without room it is not charged.
        let _ = self.reserve(message.encoded_len() + MAX_LENGTH, Charge::resize);
        self.append(message);
    }

    fn append(&mut self, message: &impl Message) {
        // A buffer that can grow has room.
        let _ = message.encode_length_delimited(&mut self.bytes);
    }

    /// Appends `payload`, which can also be written without a copy, as a frame.
    ///
    /// # Errors
    /// As [`Output::put`].
    pub(super) fn put_payload(&mut self, payload: &[u8]) -> Result<(), OverBudget> {
        self.reserve(payload.len() + MAX_LENGTH, Charge::resize_dispensable)?;
        frame::put(payload, &mut self.bytes);
        Ok(())
    }

    fn reserve(
        &mut self,
        more: usize,
        resize: fn(&mut Charge, usize) -> Result<(), OverBudget>,
    ) -> Result<(), OverBudget> {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            // Doubled, so that many small answers are not copied as often.
            let wanted = needed.max(2 * self.bytes.len());
            resize(&mut self.charge, wanted)?;
            let mut grown = BytesMut::with_capacity(wanted);
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        Ok(())
    }

    /// Everything is written.
    pub(super) fn clear(&mut self) {
        self.bytes = BytesMut::new();
        self.charge.shrink(0);
    }

    /// Writes what one call takes; how many bytes that was.
    ///
    /// # Errors
    /// I/O; see [`blocked::charged`].
    ///
    /// # Cancel safety
    /// What is not written stays.
    pub(super) async fn write_some(&mut self, socket: &mut Socket) -> io::Result<usize> {
        let written = match socket.write_buf(&mut self.bytes).now_or_never() {
            Some(written) => written?,
            None => {
                let buffer = socket.send_buffer();
                let writing = socket.write_buf(&mut self.bytes);
                blocked::charged(&self.account, buffer, writing).await?
            }
        };
        if self.bytes.is_empty() {
            self.clear();
        }
        Ok(written)
    }

    /// Writes everything.
    ///
    /// # Errors
    /// As [`Output::write_some`].
    ///
    /// # Cancel safety
    /// What is not written stays.
    pub(super) async fn write(&mut self, socket: &mut Socket) -> io::Result<()> {
        while !self.is_empty() {
            if self.write_some(socket).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::response, memory::Ledger};

    #[test]
    fn what_waits_is_charged_and_what_has_no_room_is_not_appended() {
        let account = Ledger::new(128 << 20).client();
        let mut output = Output::new(&account);
        let answer = response::error("x".repeat(1000));
        for _ in 0..50 {
            output.put(&answer).expect("room");
            assert!(account.used() as usize >= output.len());
        }
        let held = account.limit() - account.used();
        let _held = account.charge(usize::try_from(held).expect("small"));
        while output.put(&answer).is_ok() {
            assert!(output.len() < 1 << 20, "there is always room");
        }
        let whole = output.len();
        output.put_always(&response::ok());
        assert_eq!(output.len(), whole + 3);
        output.clear();
        assert_eq!(account.used(), held);
    }
}
