//! Settings that are addresses.

use std::ffi::OsStr;

use libp2p::Multiaddr;

use super::{Value, ValueError};
use crate::settings::json::{Found, JsonError, mismatch};
use crate::wire::maddr::{ControlAddr, MaddrError, parse_multiaddr};

/// The text of an address, and the path of the JSON key that it stands at, if it does.
///
/// Addresses are parsed when all settings are known: a bad one is no syntax error of the command
/// line, and one that another setting displaces does no harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddrText {
    text: String,
    key: Option<String>,
}

/// A list of addresses, separated by commas in a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddrList(Vec<AddrText>);

/// An address that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddrError {
    /// In a flag, or as a default.
    #[error(transparent)]
    Typed(#[from] MaddrError),
    /// In the config file.
    #[error("config key {key}: {error}")]
    InFile {
        /// Path of the key.
        key: String,
        /// What is wrong with its value.
        #[source]
        error: MaddrError,
    },
}

impl From<&str> for AddrText {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            key: None,
        }
    }
}

impl AddrText {
    /// Reads it as the address of a control socket.
    ///
    /// # Errors
    /// [`AddrError`]
    pub fn control(&self) -> Result<ControlAddr, AddrError> {
        ControlAddr::parse(&self.text).map_err(|error| self.error(error))
    }

    fn multiaddr(&self) -> Result<Multiaddr, AddrError> {
        parse_multiaddr(&self.text).map_err(|error| self.error(error))
    }

    fn error(&self, error: MaddrError) -> AddrError {
        match &self.key {
            None => AddrError::Typed(error),
            Some(key) => AddrError::InFile {
                key: key.clone(),
                error,
            },
        }
    }
}

impl AddrList {
    /// Reads every address.
    ///
    /// # Errors
    /// [`AddrError`] of the first that is none.
    pub fn multiaddrs(&self) -> Result<Vec<Multiaddr>, AddrError> {
        self.0.iter().map(AddrText::multiaddr).collect()
    }
}

impl Value for AddrText {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        text.to_str().map(Self::from).ok_or(ValueError::Encoding)
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let text = found.expect(found.value.as_str(), "multiaddr")?;
        Ok(Self {
            text: text.to_owned(),
            key: Some(found.path.clone()),
        })
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

impl Value for AddrList {
    const KIND: &'static str = "string";

    fn read(text: &OsStr) -> Result<Self, ValueError> {
        let text = text.to_str().ok_or(ValueError::Encoding)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(text.split(',').map(AddrText::from).collect()))
    }

    fn from_json(found: &Found, _: &mut Vec<String>) -> Result<Self, JsonError> {
        let list = found.expect(found.value.as_array(), "array of multiaddrs")?;
        let items = list.iter().enumerate().map(|(index, value)| {
            let key = format!("{}[{index}]", found.path);
            match value.as_str() {
                Some(text) => Ok(AddrText {
                    text: text.to_owned(),
                    key: Some(key),
                }),
                None => Err(mismatch(&key, value, "multiaddr")),
            }
        });
        items.collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let texts: Vec<&str> = self.0.iter().map(|addr| addr.text.as_str()).collect();
        texts.join(",")
    }

    fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}
