//! Pages that the allocator keeps although nothing uses them.

/// Gives them back to the system. Takes as long as the system needs for that: some milliseconds for
/// tens of MiB.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub(super) fn give_back() {
    use tikv_jemalloc_ctl::{Access as _, AsName as _, arenas};

    for arena in 0..arenas::narenas::read().unwrap_or(0) {
        let key = format!("arena.{arena}.dirty_decay_ms\0");
        let key = key.as_str().name();
        // An arena that nobody uses yet has no time.
        let stay: Result<isize, _> = key.read();
        let Ok(stay @ 1..) = stay else { continue };
        // With no time to stay, all of them go at once.
        let _ = key.write(0_isize);
        let _ = key.write(stay);
    }
}

/// Only jemalloc can.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(super) fn give_back() {}
