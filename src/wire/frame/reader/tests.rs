use futures::FutureExt as _;
use proptest::prelude::*;
use tokio::{
    io::{AsyncWriteExt as _, duplex},
    time::Instant,
};

use super::*;
use crate::wire::frame::put;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    runtime.block_on(test)
}

/// Gives out `bytes` in pieces of these sizes, each after one poll without any.
struct Pieces {
    bytes: Bytes,
    sizes: std::vec::IntoIter<usize>,
    ready: bool,
}

impl Source for Pieces {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = self.bytes.len();
        let n = self
            .sizes
            .next()
            .unwrap_or(left)
            .min(left)
            .min(buffer.len());
        buffer[..n].copy_from_slice(&self.bytes.split_to(n));
        Poll::Ready(Ok(n))
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
        sizes in prop::collection::vec(1..200_usize, 0..40),
        early in 0..100_usize,
        rest in 0..3_usize,
    ) {
        let mut wire = BytesMut::new();
        for payload in &payloads {
            put(payload, &mut wire);
        }
        // The beginning of another frame.
        wire.extend_from_slice(&[9, 9][..rest.min(2)]);
        let early = wire.split_to(early.min(wire.len()));
        let mut source = Pieces { bytes: wire.freeze(), sizes: sizes.into_iter(), ready: false };
        let mut reader = FrameReader::new(299, early);
        run(async {
            for payload in &payloads {
                let frame = reader.next(&mut source).await.expect("a frame").expect("not the end");
                prop_assert_eq!(&frame[..], &payload[..]);
            }
            match (reader.next(&mut source).await, rest) {
                (Ok(None), 0) => prop_assert_eq!(reader.input.capacity(), 0),
                (Err(ReadError::Cut), 1..) => {}
                (end, _) => prop_assert!(false, "{end:?}"),
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_by_its_length_alone() {
    let mut reader = FrameReader::new(4, BytesMut::from(&[5][..]));
    let refused = run(reader.next(&mut &[][..]));
    assert!(
        matches!(
            refused,
            Err(ReadError::Frame(FrameError::TooLarge { len: 5, max: 4 }))
        ),
        "{refused:?}"
    );
}

#[test]
fn only_a_frame_that_has_begun_is_timed() {
    const TIME: Duration = Duration::from_millis(100);
    run(async {
        let (mut near, mut far) = duplex(64);
        let mut reader = FrameReader::new(9, BytesMut::new()).timed(TIME);
        let silent = tokio::time::timeout(3 * TIME, reader.next(&mut far)).await;
        assert!(silent.is_err(), "silence between frames: {silent:?}");
        near.write_all(&[2, 1]).await.expect("write");
        let begun = Instant::now();
        // Waiting in pieces does not make the time longer.
        let refused = loop {
            match reader.next(&mut far).now_or_never() {
                Some(refused) => break refused,
                None => tokio::time::sleep(TIME / 10).await,
            }
            assert!(begun.elapsed() < 20 * TIME, "never refused");
        };
        assert!(matches!(refused, Err(ReadError::TimedOut)), "{refused:?}");
        assert!(begun.elapsed() >= TIME, "{:?}", begun.elapsed());
    });
}

#[test]
fn what_is_announced_is_known_before_it_arrives() {
    let mut reader = FrameReader::new(1000, BytesMut::from(&[0x80][..]));
    assert_eq!((reader.announced(), reader.has_next()), (0, false));
    run(reader.fill(&mut &[0x04, 7][..])).expect("bytes");
    assert_eq!((reader.announced(), reader.has_next()), (512, false));
    run(reader.fill(&mut &[7; 511][..])).expect("bytes");
    assert!(reader.has_next());
    assert_eq!(
        reader.take().expect("a frame").map(|frame| frame.len()),
        Some(512)
    );
    assert_eq!(reader.into_received().len(), 0);
}

mod charges {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Account, Ledger, Shares};

    const MAX: usize = 4 << 20;

    /// Clients may hold 16 MiB, one of them 12.
    fn ledger() -> Arc<Ledger> {
        Ledger::with_shares(Shares::of(128 << 20, MAX))
    }

    fn reader(account: &Arc<Account>) -> FrameReader {
        FrameReader::new(MAX, BytesMut::new()).charged(account.empty_charge())
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(payload, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_frame_is_charged_from_its_first_byte_until_the_next_is_asked_for() {
        let account = ledger().client();
        let mut reader = reader(&account);
        let sent = frame(&vec![7; 3 << 20]);
        let (half, rest) = sent.split_at(1 << 20);
        run(async {
            let mut source = half;
            while !source.is_empty() {
                reader.fill(&mut source).await.expect("bytes");
                assert!(account.used() as usize >= reader.received().len());
                assert!(
                    account.used() as usize <= sent.len(),
                    "never more than the frame"
                );
            }
            let mut source = rest;
            let taken = reader.next(&mut source).await.expect("a frame");
            assert_eq!(taken.map(|frame| frame.len()), Some(3 << 20));
        });
        assert_eq!(account.used() as usize, sent.len());
        assert!(matches!(reader.take(), Ok(None)));
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn a_frame_without_room_is_refused_and_those_behind_it_are_read() {
        let account = ledger().client();
        let mut held = account.charge(10 << 20).expect("room");
        let mut reader = reader(&account);
        let payload = [&b"name"[..], &vec![7; MAX - 4]].concat();
        let sent = [frame(b"before"), frame(&payload), frame(b"after")].concat();
        run(async {
            let mut source = &sent[..];
            let before = reader.next(&mut source).await.expect("a frame");
            assert_eq!(before.as_deref(), Some(&b"before"[..]));
            let refused = reader.next(&mut source).await;
            assert!(
                matches!(refused, Err(ReadError::OverBudget(_))),
                "{refused:?}"
            );
            assert!(reader.refused_payload().starts_with(b"name"));
            assert_eq!(account.used(), 10 << 20, "nothing of it is held");
            let after = reader.next(&mut source).await.expect("a frame");
            assert_eq!(after.as_deref(), Some(&b"after"[..]));
            assert!(matches!(reader.next(&mut source).await, Ok(None)));
            held.shrink(0);
            let mut source = &frame(&payload)[..];
            let again = reader.next(&mut source).await.expect("a frame");
            assert_eq!(again.map(|frame| frame.len()), Some(MAX));
        });
    }

    #[test]
    fn small_frames_have_room_always_where_that_is_asked_for() {
        let account = ledger().client();
        let _held = account.charge(12 << 20).expect("room");
        let small = frame(&[1; 100]);
        run(async {
            let refused = reader(&account).next(&mut &small[..]).await;
            assert!(
                matches!(refused, Err(ReadError::OverBudget(_))),
                "{refused:?}"
            );
            let mut reader = reader(&account).always(128);
            let sent = [small.clone(), small.clone(), frame(&[2; 200])].concat();
            let mut source = &sent[..];
            for _ in 0..2 {
                let taken = reader.next(&mut source).await.expect("a frame");
                assert_eq!(taken.map(|frame| frame.len()), Some(100));
            }
            let refused = reader.next(&mut source).await;
            assert!(
                matches!(refused, Err(ReadError::OverBudget(_))),
                "{refused:?}"
            );
        });
    }

    proptest! {
        /// Whatever is sent and however it is cut: what is held is charged, and nothing stays.
        #[test]
        fn what_is_held_is_charged(
            payloads in prop::collection::vec(0..20_000_usize, 0..12),
            sizes in prop::collection::vec(1..9000_usize, 0..40),
        ) {
            let account = ledger().client();
            let mut wire = BytesMut::new();
            for payload in &payloads {
                put(&vec![7; *payload], &mut wire);
            }
            let mut source = Pieces { bytes: wire.freeze(), sizes: sizes.into_iter(), ready: false };
            let mut reader = reader(&account);
            run(async {
                for payload in &payloads {
                    let frame = reader.next(&mut source).await.expect("a frame").expect("not the end");
                    prop_assert_eq!(frame.len(), *payload);
                    let held = frame.len() + reader.received().len();
                    prop_assert!(account.used() as usize >= held, "{} {held}", account.used());
                }
                prop_assert!(matches!(reader.next(&mut source).await, Ok(None)));
                Ok(())
            })?;
            prop_assert_eq!(account.used(), 0);
        }
    }
}
