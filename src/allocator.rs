//! The allocator. The C library's keeps what a peak has taken; this one has threads that give back
//! what is free.

use tikv_jemalloc_ctl::{Access as _, AsName as _, arenas};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long a page stays once it is free, in milliseconds. After jemalloc's own ten seconds, load
/// that comes and goes has taken half as much again as is in use.
const STAY: isize = 1000;

/// Sets [`STAY`]. Where jemalloc refuses, its own time holds.
pub(crate) fn configure() {
    // For arenas to come, and for those that are here already. The number that stands for all of
    // them is not for this setting: jemalloc would look behind the end of its table.
    let _ = "arenas.dirty_decay_ms\0".name().write(STAY);
    for arena in 0..arenas::narenas::read().unwrap_or(0) {
        let key = format!("arena.{arena}.dirty_decay_ms\0");
        let _ = key.as_str().name().write(STAY);
    }
}
