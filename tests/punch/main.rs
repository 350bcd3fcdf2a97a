//! Hole punching between daemons behind NATs (COMPATIBILITY.md 4.31). In namespaces, skipped by name
//! where there are none.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod metrics;
mod nats;

use support::lab::{Lab, Nat};
use support::punch::{Carrier, End, Scene};
