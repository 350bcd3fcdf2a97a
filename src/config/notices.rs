//! What the operator should know about a configuration that is accepted.

use super::{Config, Muxer};
use crate::cli::Args;
use crate::settings::{Effect, Given, SETTINGS, Setting};
use crate::wire::maddr::ControlAddr;
use crate::wording::quote;

/// Notices on `config`, which came of `args`; values that are defaults cause none.
pub(super) fn of(args: &Args, config: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    if let Some(word) = args.positional.first() {
        let word = quote(&word.to_string_lossy());
        notices.push(format!(
            "flags end at {word}: it and what follows is ignored"
        ));
    }
    let idle = without_effect(&args.given, config);
    if !idle.is_empty() {
        notices.push(format!("without effect: {}", idle.join(", ")));
    }
    if let Some(name) = &args.given.muxer
        && config.muxer == Muxer::Yamux
        && name != "yamux"
    {
        notices.push(format!("unknown muxer {}: yamux is used", quote(name)));
    }
    if config.host_addrs.is_empty() && !config.no_listen {
        notices.push("no -hostAddrs: the host listens on nothing".into());
    }
    if config.plaintext {
        notices.push("plaintext connections are allowed: nothing protects them".into());
    }
    notices
}

/// Keys of the file that exist for old clients alone and were set to something.
pub(super) fn keys_without_effect(file: &Given) -> Vec<&'static str> {
    let old = changed(Effect::Old, file);
    old.map(|setting| setting.json.split('|').next().unwrap_or_default())
        .collect()
}

fn changed(effect: Effect, given: &Given) -> impl Iterator<Item = &'static Setting> {
    let wanted = SETTINGS
        .iter()
        .filter(move |setting| setting.effect == effect);
    wanted.filter(|setting| (setting.is_changed)(given))
}

/// The flag that changes a setting; a switch that is on by default can only be switched off.
fn typed(setting: &Setting) -> String {
    let flag = &setting.flag;
    match (flag.is_bool(), (flag.default)().as_str()) {
        (true, "true") => format!("-{}=false", flag.name),
        _ => format!("-{}", flag.name),
    }
}

/// What is accepted for old clients only, or needs another flag.
fn without_effect(flags: &Given, config: &Config) -> Vec<String> {
    let mut names: Vec<_> = changed(Effect::Old, flags).map(typed).collect();
    let needs_another = [
        (
            "-controlAllow",
            matches!(config.listen, ControlAddr::Unix(_)) && !config.control.allow.is_empty(),
        ),
        (
            "-controlUids",
            matches!(config.listen, ControlAddr::Tcp { .. }) && !config.control.uids.is_empty(),
        ),
        (
            "-createIdentity",
            config.create_identity && config.identity_file.is_none(),
        ),
        (
            "-datastore",
            config.dht.is_none() && config.datastore.is_some(),
        ),
        (
            "-dhtNamespace",
            config.dht.is_none() && !config.dht_namespaces.is_empty(),
        ),
    ];
    let idle = needs_another.iter().filter(|(_, idle)| *idle);
    names.extend(idle.map(|(name, _)| (*name).to_owned()));
    names.sort();
    names
}
