use libp2p::tcp::tokio::TcpStream;
use tokio::net::TcpListener;

use super::*;

/// The example of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn request(first: &str, headers: &[&str]) -> Vec<u8> {
    format!("{first}\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes()
}

const HEADERS: [&str; 5] = [
    "Host: x",
    "upgrade: WebSocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[test]
fn the_key_is_hashed_as_the_specification_has_it() {
    assert_eq!(accepted(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for path in ["/", "/any", "*", "a:b:c", "//["] {
        let answer = answer(&request(&format!("GET {path} HTTP/1.1"), &HEADERS)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.ends_with("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"));
    }
}

#[test]
fn a_request_that_is_none_is_refused() {
    for first in ["POST / HTTP/1.1", "GET / HTTP/1.0", "GET /", "\0"] {
        assert!(answer(&request(first, &HEADERS)).is_err(), "{first}");
    }
    for missing in 1..HEADERS.len() {
        let mut headers = HEADERS.to_vec();
        headers.remove(missing);
        let refused = answer(&request("GET / HTTP/1.1", &headers));
        assert!(refused.is_err(), "{missing}");
    }
    for other in [
        "Sec-WebSocket-Key: short",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let headers = [&HEADERS[..], &[other]].concat();
        assert!(answer(&request("GET / HTTP/1.1", &headers)).is_err());
    }
    let many = vec!["X: y"; MAX_HEADERS];
    let headers = [&HEADERS[..], &many].concat();
    assert!(answer(&request("GET / HTTP/1.1", &headers)).is_err());
}

#[test]
fn an_answer_is_for_the_key_that_was_sent() {
    let told = |status: &str, accept: &str| {
        let headers = format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{accept}");
        check(
            format!("HTTP/1.1 {status}\r\n{headers}\r\n\r\n").as_bytes(),
            KEY,
        )
    };
    let right = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    assert!(told("101 Switching Protocols", right).is_ok());
    assert!(told("101 Switching Protocols", "Sec-WebSocket-Accept: x").is_err());
    assert!(told("101 Switching Protocols", "X: y").is_err());
    let moved = told("301 Moved", right).unwrap_err();
    assert!(moved.to_string().ends_with("status 301"), "{moved}");
}

/// A connection whose other end has sent `bytes` in pieces of that size.
async fn sent(bytes: Vec<u8>, piece: usize) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        // Whoever has heard enough closes.
        let _ = bytes
            .chunks(piece)
            .try_for_each(|piece| socket.write_all(piece));
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    TcpStream(listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_head_ends_where_it_ends_however_it_comes() {
    let whole = [request("GET / HTTP/1.1", &HEADERS), b"rest".to_vec()].concat();
    for piece in [1, 7, whole.len()] {
        let mut io = sent(whole.clone(), piece).await;
        let (head, mut early) = read_head(&mut io).await.unwrap().clone();
        assert!(head.ends_with(b"\r\n\r\n"), "{head:?}");
        let mut rest = vec![0; 4 - early.len()];
        io.read_exact(&mut rest).await.unwrap();
        rest.splice(..0, early.split_off(0));
        assert_eq!(rest, b"rest");
    }
}

#[tokio::test]
async fn a_head_without_an_end_is_given_up() {
    let mut io = sent(vec![b'x'; 1 << 20], 4096).await;
    let error = read_head(&mut io).await.unwrap_err();
    assert!(
        error.to_string().contains("more than 8192 bytes"),
        "{error}"
    );
}
