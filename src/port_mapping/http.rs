//! Just enough HTTP for a router: one request on one connection, an answer of bounded length.

use std::{io, net::SocketAddrV4, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::fixed_limits::fixed_limit;

/// Longest answer, in bytes (SECURITY.md 3): device descriptions have some KiB.
const MAX_ANSWER: usize = 128 << 10;
fixed_limit!("port mapping: answer of a router", bytes MAX_ANSWER);

/// Time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a router has answered. The text may hold the marks of a chunked body, which are taken for
/// text between elements.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

/// Sends `head`, lines that end in CR LF, and `body` to `at`.
pub(super) async fn exchange(at: SocketAddrV4, head: &str, body: &str) -> io::Result<Answer> {
    let request = format!(
        "{head}Host: {at}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        while !is_whole(&bytes) {
            if bytes.len() >= MAX_ANSWER {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await? {
                0 => break,
                read => bytes.extend_from_slice(&chunk[..read]),
            }
        }
        Ok(bytes)
    };
    let bytes = timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, text })
}

/// Whether the answer has the length that it announces. Others end with the connection.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = bytes.split_at(end);
    let body = &body[4..];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => body.len() >= length,
        None => head.contains("chunked") && body.ends_with(b"0\r\n\r\n"),
    }
}

/// What stands in the first element called `name`.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_it_says() {
        for whole in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ] {
            for end in 0..whole.len() {
                assert!(!is_whole(&whole.as_bytes()[..end]), "{end}");
            }
            assert!(is_whole(whole.as_bytes()));
        }
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"));
    }

    #[test]
    fn elements_are_found() {
        let text = "<a><b> 1 </b><b>2</b></a>";
        assert_eq!(element(text, "b"), Some("1"));
        assert_eq!(element(text, "c"), None);
        assert_eq!(element("<b>", "b"), None);
    }
}
