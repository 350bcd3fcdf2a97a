//! Suites of trials, skipped by name where their toolchain is missing.

use libtest_mimic::{Failed, Trial};

/// A toolchain is there, or why not.
pub type Toolchain = Result<(), String>;

/// The trials of one suite, or a single ignored one that says why it is skipped.
/// Where `CI` is set that one is run, and fails.
pub fn suite(name: &str, toolchain: &Toolchain, trials: fn() -> Vec<Trial>) -> Vec<Trial> {
    let Err(reason) = toolchain else {
        return trials();
    };
    let failure = format!("{name} cannot run: {reason}");
    let trial = Trial::test(format!("{name} (skipped: {reason})"), move || {
        Err(Failed::from(failure))
    });
    vec![trial.with_ignored_flag(std::env::var_os("CI").is_none())]
}

/// A trial named `suite::case` that panics or returns a reason to fail.
pub fn trial(
    suite: &str,
    case: &str,
    run: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Trial {
    Trial::test(format!("{suite}::{case}"), move || {
        run().map_err(Failed::from)
    })
}
