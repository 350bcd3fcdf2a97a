//! Completions in the shells themselves. A shell that is not installed is told by name; with `CI`
//! in the environment its test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rp2pd;

/// The script for a shell, in a file; the shell, if it is installed.
fn script(shell: &str, name: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let found = Command::new(shell)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no {shell}");
        eprintln!("skipped: no {shell}");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let run = rp2pd(["completions", shell]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    fs::write(&path, run.stdout).unwrap();
    fs::write(dir.path().join("some.key"), "").unwrap();
    Some((dir, path))
}

/// What a shell prints.
fn printed(command: &mut Command, dir: &Path) -> String {
    let output = command
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// What a shell offers, a line each with a description after a tab, sorted.
fn offered(command: &mut Command, dir: &Path) -> Vec<String> {
    let text = printed(command, dir);
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| line.split('\t').next().unwrap().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    lines.sort();
    lines
}

/// What is typed, and what must be offered for it and nothing else.
type Case = (&'static str, &'static [&'static str]);

#[test]
fn bash_completes_flags_and_their_values() {
    let Some((dir, script)) = script("bash", "rp2pd.bash") else {
        return;
    };
    // The words as bash cuts them, which is at "=" too.
    let cases: [Case; 13] = [
        ("-mux", &["-muxer"]),
        ("--mux", &["-muxer"]),
        ("-quie", &["-quiet"]),
        ("-muxer = ", &["mplex", "yamux"]),
        ("-muxer = y", &["yamux"]),
        ("-muxer m", &["mplex"]),
        ("-dht = t", &["true"]),
        ("-id = some", &["some.key"]),
        ("-id some", &["some.key"]),
        ("-q keyg", &["keygen"]),
        ("-listen /unix/x completions f", &["fish"]),
        ("keygen -t = r", &["rsa"]),
        ("keygen -mux", &[]),
    ];
    let program = r#"source "$0"; words=($1); [[ $1 == *' ' ]] && words+=("");
        COMP_WORDS=(rp2pd "${words[@]}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));
        $(complete -p rp2pd | sed 's/.*-F \([^ ]*\).*/\1/'); printf '%s\n' "${COMPREPLY[@]}""#;
    for (typed, expected) in cases {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", program]).arg(&script).arg(typed);
        // An empty last word after "=" is how bash has it.
        assert_eq!(offered(&mut bash, dir.path()), expected, "{typed}");
    }
}

#[test]
fn fish_completes_flags_and_their_values() {
    let Some((dir, script)) = script("fish", "rp2pd.fish") else {
        return;
    };
    let cases: [Case; 9] = [
        ("-mux", &["-muxer"]),
        ("-quie", &["-quiet"]),
        ("-muxer=", &["-muxer=mplex", "-muxer=yamux"]),
        ("-muxer m", &["mplex"]),
        ("-dht=t", &["-dht=true"]),
        ("-id some", &["some.key"]),
        ("keyg", &["keygen"]),
        ("completions f", &["fish"]),
        ("keygen -t r", &["rsa"]),
    ];
    for (typed, expected) in cases {
        let mut fish = Command::new("fish");
        fish.args([
            "--no-config",
            "-c",
            "source $argv[1]; complete -C \"rp2pd $argv[2]\"",
        ])
        .arg(&script)
        .arg(typed)
        .env("HOME", dir.path());
        assert_eq!(offered(&mut fish, dir.path()), expected, "{typed}");
    }
}

/// zsh completes at a terminal alone, so one is made. What is offered there is printed in angle
/// brackets.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -D -u'
zpty -w shell 'source '$1'; compadd() {
    typeset -a found
    local one
    builtin compadd -A found "$@"
    for one in $found; do print -r -- "<$IPREFIX$one>"; done
    builtin compadd "$@"
}'
zpty -w shell 'print READY'
while zpty -r shell line; do [[ $line == *READY* && $line != *print* ]] && break; done
zpty -w -n shell "rp2pd $2"$'\t'
# Not before it is done: until zsh edits its line, the terminal itself obeys what deletes one.
zpty -r -m shell line '*>*' && print -r -- $line
zpty -w -n shell $'\x15'"print DONE"$'\n'
while zpty -r shell line; do
    print -r -- $line
    [[ $line == *DONE* && $line != *print* ]] && break
done
zpty -d shell
"#;

#[test]
fn zsh_completes_flags_and_their_values() {
    let Some((dir, script)) = script("zsh", "_rp2pd") else {
        return;
    };
    let cases: [Case; 7] = [
        ("-mux", &["-muxer"]),
        ("-muxer=", &["-muxer=mplex", "-muxer=yamux"]),
        ("-muxer ", &["mplex", "yamux"]),
        ("-dht=", &["-dht=false", "-dht=true"]),
        ("completions f", &["fish"]),
        ("keyg", &["keygen"]),
        ("keygen -t ", &["ecdsa", "ed25519", "rsa", "secp256k1"]),
    ];
    for (typed, expected) in cases {
        let mut zsh = Command::new("timeout");
        zsh.args(["60", "zsh", "-f", "-c", ZSH, "zsh"])
            .arg(&script)
            .arg(typed)
            .env("HOME", dir.path())
            .env("TERM", "dumb");
        // Where zsh does not edit its line yet, the terminal echoes the tab that was typed, and
        // what is offered first follows it on the same line.
        let shown = printed(&mut zsh, dir.path());
        let mut found: Vec<_> = shown
            .split('<')
            .skip(1)
            .filter_map(|rest| rest.split_once('>'))
            .map(|(word, _)| word)
            .collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, expected, "{typed}: {shown}");
    }
}
