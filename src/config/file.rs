//! Finds the text of the JSON config (COMPATIBILITY.md 2).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::ConfigError;
use crate::{fixed_limits::fixed_limit, settings::Given};

/// Largest config, in bytes: a guard against `-f /dev/zero`, far above any real one.
const MAX_SIZE: u64 = 1 << 20;
fixed_limit!("JSON configuration", bytes MAX_SIZE);

/// Reads the config that the flags name: stdin wins over a file, neither means no settings.
pub(super) fn load(flags: &Given, notices: &mut Vec<String>) -> Result<Given, ConfigError> {
    let text = if flags.stdin == Some(true) {
        read(io::stdin().lock(), Path::new("/dev/stdin"))?
    } else if let Some(path) = flags
        .file
        .as_deref()
        .filter(|path| !path.as_os_str().is_empty())
    {
        let file = File::open(path).map_err(|source| ConfigError::File {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        read(file, path)?
    } else {
        return Ok(Given::default());
    };
    parse(&text, notices)
}

fn read(source: impl Read, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut text = Vec::new();
    source
        .take(MAX_SIZE + 1)
        .read_to_end(&mut text)
        .map_err(|source| ConfigError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
    if text.len() as u64 > MAX_SIZE {
        return Err(ConfigError::FileSize {
            path: path.to_owned(),
            max: MAX_SIZE,
        });
    }
    Ok(text)
}

/// Reads a config; keys without effect earn a notice.
pub(super) fn parse(text: &[u8], notices: &mut Vec<String>) -> Result<Given, ConfigError> {
    let given = Given::from_json(text, notices)?;
    let idle = super::notices::keys_without_effect(&given);
    if !idle.is_empty() {
        let idle = idle.join(", ");
        notices.insert(0, format!("config keys without effect: {idle}"));
    }
    Ok(given)
}
