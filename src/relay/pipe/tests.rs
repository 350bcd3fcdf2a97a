use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;
use crate::memory::Ledger;

/// A stream in memory.
struct Memory(DuplexStream);

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(tokio::io::AsyncRead::poll_read(
            Pin::new(&mut self.0),
            cx,
            &mut buffer
        ))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

impl End for Memory {
    fn blocked(&mut self, _: usize) {}

    fn is_lost(&self) -> bool {
        false
    }
}

/// A circuit whose streams hold 64 KiB, and its two ends.
fn circuit(data: u64, time: Duration) -> (CircuitPipe<Memory, Memory>, Memory, Memory) {
    let (source, here) = duplex(64 << 10);
    let (destination, there) = duplex(64 << 10);
    let limits = CircuitLimits {
        data,
        time,
        buffer: 16 << 20,
    };
    let account = Ledger::new(0).client();
    let (here, there) = ((Memory(here), &account), (Memory(there), &account));
    let pipe = CircuitPipe::new(here, there, &limits, Arc::default());
    (pipe, Memory(source), Memory(destination))
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_of_its_own() {
    let (pipe, mut source, mut destination) = circuit(0, Duration::ZERO);
    let talk = async {
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        let send = async {
            source.write_all(&sent).await?;
            source.close().await
        };
        let mut got = Vec::new();
        let (sending, receiving) = futures::join!(send, destination.read_to_end(&mut got));
        sending.expect("sent");
        receiving.expect("received");
        assert!(got == sent);
        // The other direction lives on.
        destination.write_all(b"answer").await.expect("sent");
        destination.close().await.expect("closed");
        let mut answer = Vec::new();
        source.read_to_end(&mut answer).await.expect("received");
        assert_eq!(answer, b"answer");
    };
    let (result, ()) = futures::join!(pipe, talk);
    assert!(result.is_ok());
}

#[tokio::test]
async fn each_direction_has_its_bytes() {
    let (pipe, mut source, mut destination) = circuit(1000, Duration::ZERO);
    let talk = async {
        destination.write_all(&[1; 1000]).await.expect("sent");
        source.write_all(&[2; 1001]).await.expect("sent");
        let mut got = Vec::new();
        destination.read_to_end(&mut got).await.expect("received");
        assert_eq!(got, [2; 1000]);
        let mut back = Vec::new();
        source.read_to_end(&mut back).await.expect("received");
        assert_eq!(back, [1; 1000]);
    };
    let (result, ()) = futures::join!(pipe, talk);
    assert!(result.is_ok());
}

#[tokio::test]
async fn an_exhausted_circuit_waits_for_the_other_direction_only_so_long() {
    let (mut pipe, mut source, _destination) = circuit(10, Duration::from_secs(3600));
    source.write_all(&[2; 11]).await.expect("sent");
    let deadline = |pipe: &CircuitPipe<_, _>| pipe.deadline.as_ref().map(|end| end.deadline());
    assert!(deadline(&pipe) > Some(Instant::now() + 2 * LAST_WORDS));
    assert!(futures::poll!(&mut pipe).is_pending());
    assert!(deadline(&pipe) <= Some(Instant::now() + LAST_WORDS));
}

#[tokio::test]
async fn a_circuit_has_its_time_also_while_it_is_used() {
    const TIME: Duration = Duration::from_millis(300);
    let (pipe, mut source, mut destination) = circuit(0, TIME);
    let begun = Instant::now();
    let talk = async {
        let mut byte = [0];
        while source.write_all(&[1]).await.is_ok()
            && destination.read_exact(&mut byte).await.is_ok()
        {
            tokio::time::sleep(TIME / 20).await;
        }
    };
    let pipe = async {
        let result = pipe.await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= TIME);
    };
    futures::join!(pipe, talk);
}

#[tokio::test]
async fn an_end_that_does_not_read_holds_one_chunk_and_stops_the_sender() {
    let (mut pipe, mut source, _destination) = circuit(0, Duration::ZERO);
    let mut taken = 0;
    loop {
        let polled = futures::poll!(&mut pipe);
        assert!(polled.is_pending());
        match futures::poll!(source.write(&[1; 4096])) {
            Poll::Ready(n) => taken += n.expect("written"),
            Poll::Pending => break,
        }
    }
    let pending = pipe.there.pending.len();
    assert!((1..=MAX_CHUNK).contains(&pending), "{pending}");
    assert_eq!(pipe.there.charge.bytes(), pending as u64);
    // What two streams and one chunk hold.
    assert!(taken <= (128 << 10) + MAX_CHUNK, "{taken}");
    assert!(taken >= 128 << 10, "{taken}");
}

#[tokio::test]
async fn a_cut_circuit_ends_at_once() {
    let (mut pipe, _source, _destination) = circuit(0, Duration::ZERO);
    let meter = pipe.meter.clone();
    assert!(futures::poll!(&mut pipe).is_pending());
    let cut = async {
        tokio::task::yield_now().await;
        meter.cut();
    };
    let (result, ()) = futures::join!(&mut pipe, cut);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_circuit_whose_ends_have_no_memory_left_ends() {
    let (mut pipe, mut source, _destination) = circuit(0, Duration::ZERO);
    let account = Ledger::new(32 << 10).client();
    pipe.there.charge = account.empty_charge();
    let error = loop {
        if let Poll::Ready(result) = futures::poll!(&mut pipe) {
            break result.unwrap_err();
        }
        let polled = futures::poll!(source.write(&[1; 4096]));
        assert!(polled.is_ready(), "nothing more is taken");
    };
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
}

#[test]
fn limits_are_told_as_in_go() {
    let told = |data, time| {
        let limits = CircuitLimits {
            data,
            time,
            buffer: 1,
        };
        let limit = limits.message();
        (limit.duration, limit.data)
    };
    assert_eq!(
        told(131_072, Duration::from_secs(120)),
        (Some(120), Some(131_072))
    );
    assert_eq!(told(0, Duration::ZERO), (Some(0), Some(0)));
    assert_eq!(told(1, Duration::from_millis(1)), (Some(1), Some(1)));
}
