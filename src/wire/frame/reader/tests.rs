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
