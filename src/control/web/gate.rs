//! Who may ask over HTTP. A page of a stranger that has its own name lead here (DNS rebinding), or that
//! asks from another site, is told by its headers; everybody else by the token.

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{self, HeaderValue},
};
use subtle::ConstantTimeEq as _;

use crate::{host_header::is_own, limit_hits::Limit};

/// The subprotocol by which a browser, which can set no other header, shows the token of a WebSocket.
const TOKEN_PROTOCOL: &str = "rp2pd.token.";

/// The subprotocol of the frames.
const PROTOCOL: &str = "rp2pd.v1";

/// What lets in.
pub(super) struct Gate {
    token: String,
    origins: Vec<String>,
    loopback: bool,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Passed {
    /// The page that it came from, which may read the answer.
    origin: Option<HeaderValue>,
    /// It has offered the subprotocol of the frames.
    pub(super) protocol: Option<&'static str>,
}

impl Passed {
    /// Lets the page read the answer.
    pub(super) fn allow(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
    }
}

impl Gate {
    pub(super) fn new(token: String, origins: Vec<String>, loopback: bool) -> Self {
        Self {
            token,
            origins,
            loopback,
        }
    }

    /// Lets a request in, or says with which status it is refused, and nothing more.
    pub(super) fn pass<B>(&self, request: &Request<B>) -> Result<Passed, StatusCode> {
        let headers = request.headers();
        let one = |name| {
            let mut all = headers.get_all(name).iter();
            let first = all.next();
            match all.next() {
                Some(_) => Err(StatusCode::FORBIDDEN),
                None => Ok(first),
            }
        };
        let host = one(header::HOST)?;
        // The target of a request may name a host as well, which then counts.
        let in_target = request.uri().authority().is_some();
        if in_target || !is_own(host.map(HeaderValue::as_bytes), self.loopback) {
            Limit::WebSites.hit();
            return Err(StatusCode::FORBIDDEN);
        }
        let origin = one(header::ORIGIN)?;
        let listed = |origin: &HeaderValue| {
            let mut origins = self.origins.iter();
            origins.any(|listed| listed.as_bytes() == origin.as_bytes())
        };
        if origin.is_some_and(|origin| !listed(origin)) {
            Limit::WebSites.hit();
            return Err(StatusCode::FORBIDDEN);
        }
        let origin = origin.cloned();
        // It cannot have a token, and does nothing.
        if request.method() == Method::OPTIONS && origin.is_some() {
            let protocol = None;
            return Ok(Passed { origin, protocol });
        }
        let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let offered = offered.iter().filter_map(|value| value.to_str().ok());
        let offered = offered.flat_map(|value| value.split(',').map(str::trim));
        let mut protocol = None;
        let mut shown = one(header::AUTHORIZATION)?
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        for name in offered {
            if name == PROTOCOL {
                protocol = Some(PROTOCOL);
            }
            shown = shown.or(name.strip_prefix(TOKEN_PROTOCOL));
        }
        let shown = shown.unwrap_or_default();
        if bool::from(shown.as_bytes().ct_eq(self.token.as_bytes())) {
            return Ok(Passed { origin, protocol });
        }
        Limit::WebTokens.hit();
        Err(StatusCode::UNAUTHORIZED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn pass(headers: &[(&str, &str)]) -> Result<Passed, StatusCode> {
        let gate = Gate::new(TOKEN.into(), vec!["https://page.example".into()], true);
        let mut request = Request::builder().uri("/v1/identify");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.pass(&request.body(()).expect("a request"))
    }

    #[test]
    fn only_the_token_from_an_own_name_and_a_listed_page_passes() {
        let bearer = format!("Bearer {TOKEN}");
        let token = ("authorization", &bearer[..]);
        let host = ("host", "127.0.0.1:1");
        assert!(pass(&[host, token]).is_ok());
        assert!(pass(&[host, token, ("origin", "https://page.example")]).is_ok());
        let offered = format!("rp2pd.v1, rp2pd.token.{TOKEN}");
        let passed = pass(&[host, ("sec-websocket-protocol", &offered)]).expect("passed");
        assert_eq!(passed.protocol, Some("rp2pd.v1"));
        let forbidden = Some(StatusCode::FORBIDDEN);
        for headers in [
            &[token][..],
            &[("host", "evil.example"), token],
            &[("host", "localhost.evil.example"), token],
            &[host, host, token],
            &[host, token, ("origin", "https://evil.example")],
            &[host, token, ("origin", "null")],
            &[host, token, ("origin", "https://page.example.evil")],
            &[
                host,
                token,
                ("origin", "https://page.example"),
                ("origin", "x"),
            ],
        ] {
            assert_eq!(pass(headers).err(), forbidden, "{headers:?}");
        }
        let shorter = format!("Bearer {}", &TOKEN[1..]);
        let longer = format!("Bearer {TOKEN}0");
        for headers in [
            &[host][..],
            &[host, ("authorization", TOKEN)],
            &[host, ("authorization", "Bearer ")],
            &[host, ("authorization", &shorter)],
            &[host, ("authorization", &longer)],
            &[host, ("sec-websocket-protocol", "rp2pd.v1")],
        ] {
            assert_eq!(
                pass(headers).err(),
                Some(StatusCode::UNAUTHORIZED),
                "{headers:?}"
            );
        }
    }
}
