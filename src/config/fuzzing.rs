//! Fuzz target: command line and configuration file.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::{file, settle};
use crate::cli::{self, Command};

/// Words, one a line, then an empty line and the text of a configuration file.
pub(crate) fn launch(data: &[u8]) {
    let split = data.windows(2).position(|pair| pair == b"\n\n");
    let (words, text) = match split {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &b"{}"[..]),
    };
    let words = words.split(|byte| *byte == b'\n');
    let words = words.map(|word| OsString::from_vec(word.to_vec()));
    let args = match cli::parse(std::iter::once("rp2pd".into()).chain(words)) {
        Ok(Command::Daemon(args)) => args,
        Ok(_) => return,
        Err(stop) => {
            return assert!(
                !stop.text.is_empty() || stop.code == 0,
                "an exit has a text"
            );
        }
    };
    let mut notes = Vec::new();
    let config = file::parse(text, &mut notes).and_then(|file| settle(&args, &file, notes));
    if let Err(error) = config {
        assert!(!error.to_string().is_empty(), "a refusal has a reason");
    }
}
