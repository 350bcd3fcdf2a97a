//! What messages hold. The tables are made from `proto/p2pd.proto` by `build/schema.rs`.

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) repeated: bool,
    pub(super) kind: Kind,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Signed,
    Unsigned,
    Bool,
    Enum(&'static [(&'static str, i32)]),
    Bytes(Form),
    Message(&'static Message),
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In base64.
    Data,
    /// As they are, where that is UTF-8.
    Text,
    /// A peer id in base58.
    Peer,
    /// A multiaddr.
    Address,
    /// A content id.
    Cid,
    /// A document of its own.
    Json,
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));
