//! HTTP clients, which web pages may bring to a control socket.

/// What an HTTP client sends first; `PRI` is HTTP/2.
const HTTP_METHODS: [&[u8]; 10] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"OPTIONS ",
    b"DELETE ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PRI ",
];

/// Whether `bytes` are the begin of an HTTP request.
pub(in crate::control) fn is_http(bytes: &[u8]) -> bool {
    HTTP_METHODS.iter().any(|method| bytes.starts_with(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_known_by_its_first_word() {
        for begin in [
            "GET / HTTP/1.1",
            "POST /a",
            "OPTIONS * HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            assert!(is_http(begin.as_bytes()), "{begin}");
        }
        for begin in ["", "GE", "GETS", "get / HTTP/1.1", "\u{2}\u{8}\u{0}"] {
            assert!(!is_http(begin.as_bytes()), "{begin}");
        }
    }
}
