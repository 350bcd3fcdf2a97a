use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, join};
use libp2p::tcp::tokio::TcpStream;
use tokio::{net::TcpListener, time::sleep};

use super::*;

/// A connection between two sockets of this machine.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dialed = tokio::net::TcpStream::connect(address).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    (TcpStream(dialed), TcpStream(accepted))
}

/// One websocket, and a socket whose bytes it takes for those of a client.
async fn server() -> (Websocket<TcpStream>, TcpStream) {
    let (client, server) = pair().await;
    (Websocket::new(server, Bytes::new(), End::Server), client)
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        middle @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn bytes_come_out_as_they_went_in_whoever_masks() {
    let (client, server) = pair().await;
    let mut client = Websocket::new(client, Bytes::new(), End::Client);
    let mut server = Websocket::new(server, Bytes::new(), End::Server);
    let sent: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    for (from, to) in [(&mut client, &mut server)] {
        let write = async {
            for piece in sent.chunks(70_000) {
                from.write_all(piece).await.unwrap();
            }
            from.flush().await.unwrap();
        };
        let mut got = vec![0; sent.len()];
        let read = to.read_exact(&mut got);
        join!(write, async { read.await.unwrap() });
        assert!(got == sent);
    }
    let answer = async {
        server.write_all(&sent).await.unwrap();
        server.close().await.unwrap();
    };
    let mut got = Vec::new();
    let read = client.read_to_end(&mut got);
    join!(answer, async { read.await.unwrap() });
    assert!(got == sent, "{} bytes before the end", got.len());
    // What is closed takes nothing more, and closing it again is no fault.
    assert!(server.write_all(b"x").await.is_err());
    server.close().await.unwrap();
}

#[tokio::test]
async fn messages_may_come_in_parts_with_others_between() {
    let (mut websocket, mut client) = server().await;
    let parts = [
        frame(0x02, b"to"),
        frame(0x89, b"ping"),
        frame(0x80, b"gether"),
        frame(0x82, b""),
        frame(0x8a, b""),
        frame(0x81, b"text"),
    ];
    client.write_all(&parts.concat()).await.unwrap();
    let mut got = [0; 12];
    websocket.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"togethertext");
    websocket.flush().await.unwrap();
    let mut pong = [0; 6];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x04ping");
}

#[tokio::test]
async fn a_message_has_a_largest_size_whole_or_in_parts() {
    for messages in [
        frame(0x82, &vec![7; MAX_MESSAGE + 1]),
        [frame(0x02, &vec![7; MAX_MESSAGE]), frame(0x80, &[7; 1])].concat(),
        // No part is finished that would be too much.
        [
            frame(0x02, &vec![7; MAX_MESSAGE - 1]),
            frame(0x80, &vec![7; MAX_MESSAGE])[..MAX_MESSAGE].to_vec(),
        ]
        .concat(),
    ] {
        let (mut websocket, mut client) = server().await;
        let mut got = Vec::new();
        // What is refused is not read to its end.
        let write = async { client.write_all(&messages).await.is_ok() };
        let read = async {
            let error = websocket.read_to_end(&mut got).await.unwrap_err();
            drop(websocket);
            error
        };
        let (_, error) = join!(write, read);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(got.is_empty());
    }
}

#[tokio::test]
async fn pings_whose_answers_nobody_reads_are_not_read_for_ever() {
    /// More than the buffers of both sockets.
    const ENOUGH: usize = 64 << 20;
    let (mut websocket, mut client) = server().await;
    let pings = frame(0x89, &[7; 100]).repeat(512);
    let mut sent = 0;
    let mut idle = 0;
    // Both are polled until neither gets further.
    while idle < 100 && sent < ENOUGH {
        let read = websocket.read(&mut [0; 16]).now_or_never();
        assert!(read.is_none(), "{read:?}");
        match client.write(&pings[sent % pings.len()..]).now_or_never() {
            Some(written) => {
                sent += written.unwrap();
                idle = 0;
            }
            None => {
                idle += 1;
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!(sent > 0 && sent < ENOUGH, "{sent} bytes of pings were read");
}

#[tokio::test]
async fn what_came_behind_the_handshake_is_read_first() {
    let (mut client, server) = pair().await;
    let early = Bytes::from(frame(0x82, b"early"));
    let mut websocket = Websocket::new(server, early, End::Server);
    client.write_all(&frame(0x82, b" late")).await.unwrap();
    let mut got = [0; 10];
    websocket.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"early late");
}
