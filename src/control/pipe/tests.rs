//! Pipes over a socket pair and a stream in memory, driven by sequences of operations.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    rc::Rc,
    task::Waker,
    time::Instant,
};

use proptest::prelude::*;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use super::*;

/// Bytes that the stream takes before its remote reads.
const WINDOW: usize = 4096;

/// What both ends of a stream see.
#[derive(Debug, Default)]
struct Shared {
    /// On their way to the remote.
    up: VecDeque<u8>,
    up_closed: bool,
    /// On their way to the pipe.
    down: VecDeque<u8>,
    down_closed: bool,
    /// The remote has reset the stream.
    failed: bool,
    /// The pipe has let go of the stream.
    dropped: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The pipe's end of a stream.
struct Memory(Rc<RefCell<Shared>>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.0.borrow_mut().dropped = true;
    }
}

impl Stream for Memory {
    fn blocked(&mut self, _: usize) {}
}

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        if shared.failed {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if shared.down.is_empty() && !shared.down_closed {
            return shared.wait(cx);
        }
        Poll::Ready(shared.down.read(buffer))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        if shared.failed {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        assert!(!shared.up_closed, "a write after the end");
        let n = bytes.len().min(WINDOW - shared.up.len());
        if n == 0 {
            return shared.wait(cx);
        }
        shared.up.extend(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().up_closed = true;
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, Clone)]
enum Step {
    ClientWrites(usize),
    ClientReads(usize),
    ClientFinishes,
    RemoteWrites(usize),
    RemoteReads(usize),
    RemoteFinishes,
    RemoteResets,
    /// The pipe has its turn.
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![1..40_usize, 1..20_000_usize];
    prop_oneof![
        4 => bytes().prop_map(Step::ClientWrites),
        4 => bytes().prop_map(Step::ClientReads),
        1 => Just(Step::ClientFinishes),
        4 => bytes().prop_map(Step::RemoteWrites),
        4 => bytes().prop_map(Step::RemoteReads),
        1 => Just(Step::RemoteFinishes),
        1 => Just(Step::RemoteResets),
        6 => Just(Step::Turn),
    ]
}

/// One pipe, both of its ends, and what each end has sent and got.
struct Scene {
    client: UnixStream,
    shared: Rc<RefCell<Shared>>,
    client_sent: Vec<u8>,
    client_got: Vec<u8>,
    client_ended: bool,
    client_finished: bool,
    remote_sent: Vec<u8>,
    remote_got: Vec<u8>,
    next: u8,
}

impl Scene {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| {
                self.next = self.next.wrapping_mul(5).wrapping_add(1);
                self.next
            })
            .collect()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::ClientWrites(count) if !self.client_finished => {
                let bytes = self.bytes(count);
                if let Ok(n) = self.client.write(&bytes) {
                    self.client_sent.extend(&bytes[..n]);
                }
            }
            Step::ClientReads(count) => {
                let mut bytes = vec![0; count];
                match self.client.read(&mut bytes) {
                    Ok(0) => self.client_ended = true,
                    Ok(n) => self.client_got.extend(&bytes[..n]),
                    // Bytes of the client were not read before a reset closed the socket.
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                        assert!(self.shared.borrow().failed, "{error}");
                        self.client_ended = true;
                    }
                    Err(_) => {}
                }
            }
            Step::ClientFinishes => {
                let _ = self.client.shutdown(std::net::Shutdown::Write);
                self.client_finished = true;
            }
            Step::RemoteWrites(count) => {
                let bytes = self.bytes(count);
                let mut shared = self.shared.borrow_mut();
                if !shared.down_closed && !shared.failed {
                    self.remote_sent.extend(&bytes);
                    shared.down.extend(bytes);
                    shared.wake();
                }
            }
            Step::RemoteReads(count) => {
                let mut shared = self.shared.borrow_mut();
                let count = count.min(shared.up.len());
                self.remote_got.extend(shared.up.drain(..count));
                shared.wake();
            }
            Step::RemoteFinishes => {
                let mut shared = self.shared.borrow_mut();
                shared.down_closed = true;
                shared.wake();
            }
            Step::RemoteResets => {
                let mut shared = self.shared.borrow_mut();
                shared.failed = true;
                shared.down.clear();
                shared.wake();
            }
            Step::ClientWrites(_) | Step::Turn => {}
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test)
}

fn scene(drain: &Drain) -> (Scene, tokio::task::JoinHandle<End>) {
    let (client, socket) = UnixStream::pair().expect("a pair");
    for end in [&client, &socket] {
        end.set_nonblocking(true).expect("not blocking");
    }
    let socket = tokio::net::UnixStream::from_std(socket).expect("a socket");
    let shared = Rc::new(RefCell::new(Shared::default()));
    let pipe = Pipe::new(
        Socket::Unix(socket),
        Memory(shared.clone()),
        Bytes::new(),
        Bytes::new(),
        drain.clone(),
    );
    let scene = Scene {
        client,
        shared,
        client_sent: Vec::new(),
        client_got: Vec::new(),
        client_ended: false,
        client_finished: false,
        remote_sent: Vec::new(),
        remote_got: Vec::new(),
        next: 1,
    };
    (scene, tokio::task::spawn_local(pipe))
}

/// Lets the pipe do what it can. The socket's readiness needs a turn of the runtime's own.
async fn turns() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
        sleep(Duration::ZERO).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each end gets a prefix of what the other sent; all of it once both have finished; and an
    /// end is passed on only after everything before it.
    #[test]
    fn bytes_arrive_in_order_and_ends_after_them(steps in prop::collection::vec(step(), 1..60)) {
        run(async {
            let drain = Drain::new(CancellationToken::new());
            let (mut scene, pipe) = scene(&drain);
            for step in &steps {
                scene.apply(step);
                if matches!(step, Step::Turn) {
                    turns().await;
                }
                prop_assert!(scene.client_sent.starts_with(&scene.remote_got));
                prop_assert!(scene.remote_sent.starts_with(&scene.client_got));
                let (up_closed, up_left, failed) = {
                    let shared = scene.shared.borrow();
                    (shared.up_closed, shared.up.len(), shared.failed)
                };
                if up_closed {
                    prop_assert!(scene.client_finished, "an end that the client has not sent");
                    prop_assert_eq!(scene.remote_got.len() + up_left, scene.client_sent.len());
                }
                if scene.client_ended && !failed {
                    prop_assert_eq!(scene.client_got.len(), scene.remote_sent.len());
                }
            }
            // Both ends finish and read: everything is delivered, or the stream has failed.
            scene.apply(&Step::ClientFinishes);
            scene.apply(&Step::RemoteFinishes);
            let deadline = Instant::now() + Duration::from_secs(20);
            while !pipe.is_finished() {
                scene.apply(&Step::ClientReads(1 << 16));
                scene.apply(&Step::RemoteReads(WINDOW));
                turns().await;
                prop_assert!(Instant::now() < deadline, "the pipe does not end");
            }
            scene.apply(&Step::ClientReads(1 << 20));
            scene.apply(&Step::RemoteReads(WINDOW));
            scene.apply(&Step::ClientReads(1));
            prop_assert!(scene.client_ended);
            let shared = scene.shared.borrow();
            prop_assert!(shared.dropped);
            if !shared.failed {
                prop_assert!(shared.up_closed);
                prop_assert_eq!(&scene.remote_got, &scene.client_sent);
                prop_assert_eq!(&scene.client_got, &scene.remote_sent);
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_drain_ends_what_is_quiet_and_waits_for_what_is_not_delivered() {
    run(async {
        let drain = Drain::new(CancellationToken::new());
        let (_quiet, quiet_pipe) = scene(&drain);
        let (mut full, full_pipe) = scene(&drain);
        full.apply(&Step::ClientWrites(3 * WINDOW));
        turns().await;
        assert_eq!(full.shared.borrow().up.len(), WINDOW, "no more fits");
        sleep(2 * QUIET).await;
        assert!(
            !quiet_pipe.is_finished(),
            "nothing ends it before the drain"
        );
        let begun = Instant::now();
        drain.begin();
        quiet_pipe.await.expect("no panic");
        assert!(begun.elapsed() >= QUIET, "{:?}", begun.elapsed());
        sleep(2 * QUIET).await;
        assert!(!full_pipe.is_finished(), "accepted bytes wait");
        assert!(!full.shared.borrow().up_closed);
        while full.remote_got.len() < full.client_sent.len() {
            full.apply(&Step::RemoteReads(WINDOW));
            turns().await;
        }
        full_pipe.await.expect("no panic");
        assert_eq!(full.remote_got, full.client_sent);
        let shared = full.shared.borrow();
        assert!(shared.dropped && !shared.up_closed, "reset, not finished");
    });
}

#[test]
fn a_drain_leaves_alone_what_moves() {
    run(async {
        let drain = Drain::new(CancellationToken::new());
        let (mut scene, pipe) = scene(&drain);
        drain.begin();
        let begun = Instant::now();
        while begun.elapsed() < 4 * QUIET {
            scene.apply(&Step::ClientWrites(1));
            scene.apply(&Step::RemoteReads(1));
            sleep(QUIET / 10).await;
            assert!(!pipe.is_finished(), "after {:?}", begun.elapsed());
        }
        scene.apply(&Step::ClientFinishes);
        scene.apply(&Step::RemoteFinishes);
        pipe.await.expect("no panic");
        scene.apply(&Step::RemoteReads(WINDOW));
        assert_eq!(scene.remote_got, scene.client_sent);
        assert!(scene.shared.borrow().up_closed);
    });
}
