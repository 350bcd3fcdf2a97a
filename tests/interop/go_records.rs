//! Records that Go's own libraries make and judge, judged here.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use multibase::Base;
use rp2pd::dht::Validator;

use super::install;
use super::program::run;
use super::suite::trial;

const SUITE: &str = "go_records";
const RUN: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    vec![trial(
        SUITE,
        "fresh_and_spoilt_records_are_judged_alike",
        judge,
    )]
}

fn judge() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = dir.path().join("records");
    let program = install::GO.as_ref()?.join("records");
    run(Command::new(program).arg(&file), RUN)?;
    let written = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let validator = Validator::default();
    let base64 = |text: &str| Base::Base64.decode(text).map_err(|error| error.to_string());
    let (mut valid, mut invalid, mut selected) = (0, 0, 0);
    for line in written.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, key, values, verdict] = columns[..] else {
            return Err(format!("not four columns: {line}"));
        };
        let verdict = verdict.trim_matches('"');
        let key = base64(key)?;
        let values: Vec<Vec<u8>> = values.split(',').map(base64).collect::<Result<_, _>>()?;
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        if kind == "select" {
            let best = validator.select(&key, &values);
            if best.as_ref().map(ToString::to_string).as_deref() != Ok(verdict) {
                return Err(format!("{best:?} is best: {line}"));
            }
            selected += 1;
            continue;
        }
        match (validator.validate(&key, values[0]), verdict == "ok") {
            (Ok(()), true) => valid += 1,
            (Err(_), false) => invalid += 1,
            (told, _) => return Err(format!("{told:?}: {line}")),
        }
    }
    // Of each of the four types of keys.
    if valid < 8 || invalid < 200 || selected != 20 {
        return Err(format!(
            "{valid} valid, {invalid} invalid, {selected} selected"
        ));
    }
    Ok(())
}
