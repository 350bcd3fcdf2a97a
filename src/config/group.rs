//! Group names, looked up in the group file: a static binary has no other way.

use std::fs::File;
use std::io::Read;

use super::ConfigError;

/// Largest group file that is searched, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// The number of a group given by number or name.
pub(super) fn lookup(group: &str) -> Result<u32, ConfigError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let mut text = Vec::new();
    File::open("/etc/group")
        .and_then(|file| file.take(MAX_SIZE).read_to_end(&mut text))
        .ok()
        .and_then(|_| find(&text, group))
        .ok_or_else(|| ConfigError::UnknownGroup(group.to_owned()))
}

/// Searches lines of the form `name:password:gid:members`.
fn find(text: &[u8], name: &str) -> Option<u32> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next()? != name.as_bytes() {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::{find, lookup};

    #[test]
    fn groups_are_found_by_name_and_number() {
        let text = b"root:x:0:\nstaff\nbroken:x:none:\n\xff:x:1:\nsidecar:x:4711:a,b\n";
        assert_eq!(find(text, "sidecar"), Some(4711));
        assert_eq!(find(text, "broken"), None);
        assert_eq!(find(text, "staff"), None);
        assert_eq!(find(text, "x"), None);
        assert_eq!(lookup("4711").unwrap(), 4711);
        let error = lookup("no such group").unwrap_err().to_string();
        assert_eq!(error, r#"listenGroup: unknown group "no such group""#);
        assert!(lookup("-1").is_err());
    }
}
