//! A soak: streams, pubsub and calls at a moderate rate, and memory and descriptors that stay level.
//! `RP2PD_TEST_SOAK_SECONDS` is how long; without it the trial is ignored. The whole is 2700.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::setting;
use crate::support::persistent::Outcome;
use crate::support::{Daemon, Handler, payload};

/// The trial's name.
pub const NAME: &str = "soak::memory_and_descriptors_stay_level";

/// Most that memory may grow once the daemon is warm, in MiB a minute.
const SLOPE: f64 = 0.3;

/// Between two looks.
const SAMPLE: Duration = Duration::from_secs(5);

/// How long it is to be, in seconds.
pub fn length() -> Option<u64> {
    setting("RP2PD_TEST_SOAK_SECONDS")
}

/// Runs `step` so many times a second until `stop`; how many times.
fn paced(per_second: u32, stop: &AtomicBool, mut step: impl FnMut(u64)) -> u64 {
    let _ends = Ends(stop);
    let pace = Duration::from_secs(1) / per_second;
    let mut next = Instant::now();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        // The pace of the load; nothing waits for it.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now().max(next) + pace;
        step(done);
        done += 1;
    }
    done
}

/// Ends the load when it is dropped, also by a panic, so that a failure does not become a hang.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Growth per minute by least squares, in the unit of the samples.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, value) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let above: f64 = samples.iter().map(|(t, v)| (t - time) * (v - value)).sum();
    let below: f64 = samples.iter().map(|(t, _)| (t - time).powi(2)).sum();
    above / below * 60.0
}

pub fn memory_and_descriptors_stay_level() {
    let seconds = length().unwrap_or(2700);
    let flags = [
        "-hostAddrs=/ip4/127.0.0.1/tcp/0",
        "-dhtServer",
        "-pubsub",
        "-stayAlive",
    ];
    let (near, far) = (Daemon::spawn(&flags), Daemon::spawn(&flags));
    near.connect_to(&far);
    let handler = Handler::unix();
    handler
        .register(&mut far.client(), &["/soak/echo"], None)
        .expect("a handler");
    let mut callee = far.persistent();
    callee.add("soak", true).expect("a handler of calls");
    drop(callee.serve(|call| Ok(call.data.clone())));
    let mut subscription = far.subscribe("soak");
    let stop = AtomicBool::new(false);
    let heard = AtomicU64::new(0);
    std::thread::spawn(move || {
        while let Ok((_, mut pipe)) = handler.accept(Duration::from_secs(60)) {
            let mut bytes = [0; 1024];
            let _ = std::io::Read::read_exact(&mut pipe, &mut bytes)
                .and_then(|()| std::io::Write::write_all(&mut pipe, &bytes));
        }
    });
    std::thread::scope(|scope| {
        let streams = scope.spawn(|| {
            let mut client = near.client();
            paced(30, &stop, |number| {
                let sent = payload(1024, number);
                let (_, pipe) = near
                    .client()
                    .open_stream(far.peer_id(), &["/soak/echo"])
                    .expect("STREAM_OPEN");
                assert_eq!(pipe.echo(&sent), sent);
                let _ = client.identify();
            })
        });
        let calls = scope.spawn(|| {
            let mut caller = near.persistent();
            paced(30, &stop, |number| {
                let sent = payload(300, number);
                let outcome = caller.call(far.peer_id(), "soak", &sent);
                assert!(matches!(outcome, Outcome::Answer(Ok(got)) if got == sent));
            })
        });
        let published = scope.spawn(|| {
            let mut client = near.client();
            paced(17, &stop, |number| {
                client
                    .publish("soak", &payload(1024, number))
                    .expect("PUBLISH");
            })
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if subscription.within(Duration::from_secs(2)).is_ok() {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let ends = Ends(&stop);
        let samples = watch([&near, &far], Duration::from_secs(seconds), &stop);
        drop(ends);
        let published = published.join().expect("PUBLISH goes on");
        println!(
            "soak of {seconds} s: {} streams, {} calls, {published} messages, {} heard",
            streams.join().expect("streams go on"),
            calls.join().expect("calls go on"),
            heard.load(Ordering::Relaxed)
        );
        assert!(
            heard.load(Ordering::Relaxed) + 5 >= published,
            "messages are lost"
        );
        for (name, samples) in ["near", "far"].iter().zip(samples) {
            judge(name, &samples);
        }
    });
}

/// Time in seconds, memory in MiB, descriptors.
type Samples = Vec<(f64, f64, f64)>;

/// Looks at the daemons for so long, or until the load has ended.
fn watch(daemons: [&Daemon; 2], length: Duration, stop: &AtomicBool) -> [Samples; 2] {
    let start = Instant::now();
    let mut samples: [Samples; 2] = Default::default();
    while start.elapsed() < length && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(SAMPLE.min(length));
        for (daemon, samples) in daemons.iter().zip(&mut samples) {
            let memory = daemon.rss_kib() as f64 / 1024.0;
            samples.push((start.elapsed().as_secs_f64(), memory, daemon.fds() as f64));
        }
    }
    samples
}

/// The first two ninths, ten minutes of 45, are for the daemon to become warm.
fn judge(name: &str, samples: &Samples) {
    let warm = &samples[samples.len() * 2 / 9..];
    let memory: Vec<_> = warm
        .iter()
        .map(|(time, memory, _)| (*time, *memory))
        .collect();
    let fds: Vec<_> = warm.iter().map(|(time, _, fds)| (*time, *fds)).collect();
    let (memory_slope, fds_slope) = (slope(&memory), slope(&fds));
    let first = warm.first().expect("samples");
    let last = warm.last().expect("samples");
    println!(
        "{name}: RSS {:.1} to {:.1} MiB, {memory_slope:.3} MiB/min; descriptors {} to {}, {fds_slope:.3}/min",
        first.1, last.1, first.2, last.2
    );
    assert!(memory_slope < SLOPE, "{name}: memory grows");
    // A stream may be open at the moment of a look; over the whole there are no more of them.
    assert!(fds_slope.abs() < 0.5, "{name}: descriptors do not stay");
}
