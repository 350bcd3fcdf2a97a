//! The allocator. The C library's keeps what a peak has taken; this one has threads that give back
//! what is free.

use tikv_jemalloc_ctl::{Access as _, AsName as _};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// How long a page stays once it is free, in milliseconds. After jemalloc's own ten seconds, load
/// that comes and goes has taken half as much again as is in use.
const STAY: isize = 1000;

/// Sets [`STAY`]. Where jemalloc refuses, its own time holds.
pub(crate) fn configure() {
    // For arenas to come, and for those that are here already.
    for key in ["arenas.dirty_decay_ms\0", "arena.4096.dirty_decay_ms\0"] {
        let _ = key.name().write(STAY);
    }
}
