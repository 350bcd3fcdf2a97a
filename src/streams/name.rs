//! Names of user protocols.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The name of a user protocol. Any bytes are one, as in Go, whose strings need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolName(Arc<[u8]>);

impl ProtocolName {
    /// The bytes that travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, if it is UTF-8.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&[u8]> for ProtocolName {
    fn from(name: &[u8]) -> Self {
        Self(name.into())
    }
}

impl From<&str> for ProtocolName {
    fn from(name: &str) -> Self {
        name.as_bytes().into()
    }
}

impl Borrow<[u8]> for ProtocolName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for ProtocolName {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<ProtocolName> for String {
    fn eq(&self, other: &ProtocolName) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// What is not UTF-8 shows as U+FFFD: texts with names in them go to clients that read them as UTF-8.
impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
