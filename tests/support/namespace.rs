//! Network namespaces, in which a daemon sees other interfaces and reaches nobody else.

use std::process::Command;

/// A command that runs `set_up`, a shell script, and then another program, in a network namespace
/// of its own. None where that is not allowed.
pub fn inside(set_up: &str) -> Option<Command> {
    let command = |flags: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(flags);
        command.args(["sh", "-e", "-c", &format!("{set_up}\nexec \"$@\""), "sh"]);
        command
    };
    [&["--net"][..], &["--net", "--map-root-user"]]
        .into_iter()
        .find(|flags| {
            let tried = command(flags).arg("true").output();
            tried.is_ok_and(|output| output.status.success())
        })
        .map(command)
}
