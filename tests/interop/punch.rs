//! Hole punching with Go's fork at either end, in namespaces.

use std::fmt::Write as _;
use std::time::Duration;

use libtest_mimic::Trial;

use super::install;
use super::suite::trial;
use crate::support::lab::{Lab, Nat};
use crate::support::punch::{Carrier, End, Scene};

const SUITE: &str = "punch";

/// Time from CONNECT to a direct connection.
const SOON: Duration = Duration::from_secs(2);

/// Time after which a pair counts as relayed in the table.
const RELAYED: Duration = Duration::from_secs(8);

/// A fork's node, or one of rp2pd.
fn end(fork: bool, nat: Nat) -> Result<End, String> {
    let mut end = End::own(nat);
    if fork {
        end.fork = Some(install::HIVEMIND_P2PD.as_ref()?.join("p2pd"));
    }
    Ok(end)
}

const PAIRS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn name(fork: bool) -> &'static str {
    if fork { "fork" } else { "rp2pd" }
}

pub fn trials() -> Vec<Trial> {
    use Nat::{Address, Full, Port, Symmetric};
    let mut trials = Vec::new();
    for (a, b) in PAIRS {
        let pair = format!("{}_calls_{}", name(a), name(b));
        for (carrier, over) in [(Carrier::Tcp, "tcp"), (Carrier::Quic, "quic")] {
            let cells = [(Full, Full), (Address, Address), (Port, Port)];
            trials.push(trial(SUITE, &format!("{pair}_over_{over}"), move || {
                cells
                    .iter()
                    .try_for_each(|(at, bt)| soon((a, *at), (b, *bt), carrier))
            }));
        }
    }
    // Go does not speak hole punching behind a symmetric NAT.
    for (a, b) in [
        ((false, Symmetric), (false, Full)),
        ((false, Full), (false, Symmetric)),
        ((false, Symmetric), (true, Full)),
        ((true, Full), (false, Symmetric)),
    ] {
        let side = |(fork, nat): (bool, Nat)| format!("{}_{}", name(fork), nat.name());
        let case = format!("{}_calls_{}", side(a), side(b));
        trials.push(trial(SUITE, &case, move || soon(a, b, Carrier::Tcp)));
    }
    // Ten minutes: asked for by name alone (CONTRIBUTING.md).
    let matrix = trial(SUITE, "matrix", matrix);
    trials.push(matrix.with_ignored_flag(true));
    trials
}

/// They have a direct connection within two seconds. The emulated NATs, and a busy machine, lose one
/// now and then: one of two tries does.
fn soon(a: (bool, Nat), b: (bool, Nat), carrier: Carrier) -> Result<(), String> {
    let Some(lab) = Lab::new() else { return Ok(()) };
    let mut said = String::new();
    for _ in 0..2 {
        let scene = Scene::new(&lab, [end(a.0, a.1)?, end(b.0, b.1)?], carrier)?;
        if let Some(time) = scene.call(SOON)? {
            eprintln!("{a:?} and {b:?} over {carrier:?}: {time:?}");
            return scene.assert_direct();
        }
        said = format!("{}\n{}", scene.a.stderr(), scene.b.stderr());
    }
    Err(format!(
        "{a:?} and {b:?} over {carrier:?} stay relayed: {said}"
    ))
}

/// Writes a table of seconds for each pair of daemons and each pair of NATs.
fn matrix() -> Result<(), String> {
    let Some(lab) = Lab::new() else { return Ok(()) };
    let carrier = match std::env::var("RP2PD_TEST_CARRIER").as_deref() {
        Ok("quic") => Carrier::Quic,
        _ => Carrier::Tcp,
    };
    for (a, b) in PAIRS {
        let mut table = format!("{:>5} \\ {:5}", name(a), name(b));
        for nat in Nat::ALL {
            let _ = write!(table, "{:>9}", nat.name());
        }
        println!("{table}");
        for at in Nat::ALL {
            let mut row = format!("{:>13}", at.name());
            for bt in Nat::ALL {
                let scene = Scene::new(&lab, [end(a, at)?, end(b, bt)?], carrier)?;
                let cell = match scene.call(RELAYED)? {
                    Some(time) => format!("{:.2}", time.as_secs_f64()),
                    None => "relayed".to_owned(),
                };
                let _ = write!(row, "{cell:>9}");
            }
            println!("{row}");
        }
    }
    Ok(())
}
