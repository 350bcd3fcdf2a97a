//! The group of the control socket, by number or name.

use super::ConfigError;
use crate::accounts;

/// The number of a group given by number or name.
pub(super) fn lookup(group: &str) -> Result<u32, ConfigError> {
    group
        .parse()
        .ok()
        .or_else(|| accounts::group_id(group))
        .ok_or_else(|| ConfigError::UnknownGroup(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::lookup;

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(lookup("4711").unwrap(), 4711);
        assert_eq!(lookup("root").unwrap(), 0);
        let error = lookup("no such group").unwrap_err().to_string();
        assert_eq!(error, r#"listenGroup: unknown group "no such group""#);
        assert!(lookup("-1").is_err());
    }
}
