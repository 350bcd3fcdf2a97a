//! The page: one file without outside parts, drawn from `/status.json` by its own script.

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response,
    header::{self, HeaderValue},
};
use sha2::{Digest as _, Sha256};

/// The page itself.
const PAGE: &str = include_str!("page.html");

/// What the browser may do with it: run this script and this style, ask this address. Nothing that
/// a peer says can be a script, whatever the page does with it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of what the one element `name` of the page holds.
fn hash(name: &str) -> String {
    let held = PAGE
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")))
        .map_or("", |(held, _)| held);
    let digest = Sha256::digest(held.as_bytes());
    format!("sha256-{}", multibase::Base::Base64Pad.encode(digest))
}

/// Answers with the page.
pub(super) fn page() -> Response<Full<Bytes>> {
    let mut response = super::typed(
        "text/html; charset=utf-8",
        Bytes::from_static(PAGE.as_bytes()),
    );
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_one_style_and_nothing_from_outside() {
        for name in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{name}>")).count(), 1);
            assert_eq!(PAGE.matches(&format!("<{name}")).count(), 1);
        }
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        // Texts of peers go through textContent alone.
        for unsafe_sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!PAGE.contains(unsafe_sink), "{unsafe_sink}");
        }
        assert!(POLICY.contains("script-src 'sha256-"));
    }
}
