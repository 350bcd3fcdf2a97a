//! Network namespaces, in which a daemon sees other interfaces and reaches nobody else.

use std::process::Command;

use super::Launch;

/// A launch in a network namespace of its own, after `set_up`, a shell script. None where that is
/// not allowed.
pub fn launch(set_up: &str) -> Option<Launch> {
    launch_of(&["--net"], set_up)
}

/// As [`launch`], in new namespaces of these `kinds`, flags of `unshare`.
pub fn launch_of(kinds: &[&str], set_up: &str) -> Option<Launch> {
    let command = inside_of(kinds, set_up)?;
    let words = command.get_args().map(|word| {
        let word = word.to_str().expect("words of ours");
        format!("'{}'", word.replace('\'', r"'\''"))
    });
    let words: Vec<_> = words.collect();
    let script = format!("exec unshare {} \"$0\" \"$@\"", words.join(" "));
    Some(Launch::new().shell(&script))
}

/// A command that runs `set_up`, a shell script, and then another program, in a network namespace
/// of its own. None where that is not allowed.
pub fn inside(set_up: &str) -> Option<Command> {
    inside_of(&["--net"], set_up)
}

/// As [`inside`], in new namespaces of these `kinds`, flags of `unshare`.
pub fn inside_of(kinds: &[&str], set_up: &str) -> Option<Command> {
    let command = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(kinds).args(flags);
        command.args(["sh", "-e", "-c", &format!("{set_up}\nexec \"$@\""), "sh"]);
        command
    };
    [&[][..], &["--map-root-user"]]
        .into_iter()
        .find(|flags| {
            let tried = command(flags).arg("/bin/true").output();
            tried.is_ok_and(|output| output.status.success())
        })
        .map(command)
}
