//! Frames that wait to be written to a client, charged to it.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use prost::Message;
use tokio::io::AsyncWriteExt as _;

use super::{
    blocked,
    socket::{NARROW, Socket},
};
use crate::{
    memory::{Account, Charge, OverBudget},
    wire::frame,
};

/// The longest length of a frame, in bytes.
const MAX_LENGTH: usize = 10;

/// What the kernel is taken to need for a write beside its bytes.
const OVERHEAD: usize = 1024;

/// Frames that a client has not read yet. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct Output {
    bytes: BytesMut,
    /// For the memory behind `bytes`.
    charge: Charge,
    account: Arc<Account>,
    kernel: Kernel,
}

/// How much the kernel takes of the answers of a client that sends requests.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    /// It may have taken so much already. As long as that is little its buffer is left as it is:
    /// most clients get one answer.
    Unset(usize),
    /// Its buffer is small, and had so many bytes before.
    Narrow(usize),
    /// It takes what it likes.
    Wide,
}

impl Output {
    /// Of a client of whose answers the kernel takes no more than [`NARROW`] says.
    pub(super) fn narrow(account: &Arc<Account>) -> Self {
        Self {
            bytes: BytesMut::new(),
            charge: account.empty_charge(),
            account: account.clone(),
            kernel: Kernel::Unset(0),
        }
    }

    /// From now on the kernel takes as much as it likes.
    pub(super) fn widen(&mut self, socket: &Socket) {
        if let Kernel::Narrow(before) = self.kernel {
            socket.widen(before);
        }
        self.kernel = Kernel::Wide;
    }

    /// From now on the kernel takes little, however little it has taken so far.
    pub(super) fn confine(&mut self, socket: &Socket) {
        if let Kernel::Unset(_) = self.kernel {
            self.kernel = Kernel::Narrow(socket.narrow());
        }
    }

    /// Before a write: makes sure that the kernel does not take too much.
    fn limit(&mut self, socket: &Socket) {
        if let Kernel::Unset(taken) = self.kernel {
            let taken = taken + self.bytes.len() + OVERHEAD;
            self.kernel = match taken <= NARROW {
                true => Kernel::Unset(taken),
                false => Kernel::Narrow(socket.narrow()),
            };
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
        self.limit(socket);
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
        let mut output = Output::narrow(&account);
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
