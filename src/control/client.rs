//! A client as its session hands it over.

use std::sync::Arc;

use super::{output::Output, socket::Socket};
use crate::{memory::Account, wire::frame::FrameReader};

/// A client that sent requests.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) socket: Socket,
    /// It has what the client sent already.
    pub(super) reader: FrameReader,
    /// What the client gets first.
    pub(super) output: Output,
    /// What is held because of the client is charged here.
    pub(super) account: Arc<Account>,
}
