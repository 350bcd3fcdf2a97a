//! Names of users and groups, looked up in the files: a static binary has no other way.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest file that is searched, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// The number of the group with this name.
#[must_use]
pub(crate) fn group_id(name: &str) -> Option<u32> {
    find(&read("/etc/group".as_ref())?, |fields| {
        (fields.first()? == &name).then(|| fields.get(2)?.parse().ok())?
    })
}

/// The name of the user with this number.
#[must_use]
pub(crate) fn user_name(uid: u32) -> Option<String> {
    find(&read("/etc/passwd".as_ref())?, |fields| {
        let found: u32 = fields.get(2)?.parse().ok()?;
        (found == uid).then(|| (*fields.first().unwrap_or(&"")).to_owned())
    })
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_SIZE).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Searches lines of fields that are separated by colons.
fn find<T>(text: &[u8], mut wanted: impl FnMut(&[&str]) -> Option<T>) -> Option<T> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<_> = std::str::from_utf8(line).ok()?.split(':').collect();
        wanted(&fields)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_passed_over() {
        let text = b"root:x:0:\nstaff\nbroken:x:none:\n\xff:x:1:\nsidecar:x:4711:a,b\n";
        let id = |name: &str| {
            find(text, |fields| {
                (fields.first()? == &name).then(|| fields.get(2)?.parse::<u32>().ok())?
            })
        };
        assert_eq!(id("sidecar"), Some(4711));
        assert_eq!((id("broken"), id("staff"), id("x")), (None, None, None));
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(user_name(u32::MAX), None);
    }
}
