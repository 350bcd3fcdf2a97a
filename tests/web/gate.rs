//! Who is let in.

use std::os::unix::fs::PermissionsExt as _;

use super::support::Launch;
use super::*;

#[test]
fn only_the_token_lets_in_and_nothing_else_is_told() {
    let web = Web::new(&["-controlOrigins=https://page.example"]);
    let (at, token) = (web.at, &web.token);
    let good = format!("Host: {at}\r\nAuthorization: Bearer {token}\r\n");
    let wrong = "0".repeat(token.len());
    for (headers, status) in [
        (good.clone(), 200),
        (format!("{good}Origin: https://page.example\r\n"), 200),
        // Rebinding: the page of a stranger has its own name lead here.
        (good.replace(&at.to_string(), "evil.example"), 403),
        (
            good.replace(&at.to_string(), &format!("evil.example:{}", at.port())),
            403,
        ),
        (format!("Authorization: Bearer {token}\r\n"), 403),
        // Other sites.
        (format!("{good}Origin: https://evil.example\r\n"), 403),
        (format!("{good}Origin: http://page.example\r\n"), 403),
        (format!("{good}Origin: null\r\n"), 403),
        (good.replace(token, &wrong), 401),
        (good.replace(token, &token[1..]), 401),
        (format!("Host: {at}\r\n"), 401),
        (format!("Host: {at}\r\nCookie: token={token}\r\n"), 401),
    ] {
        for path in ["identify", "nothing", "socket"] {
            let request = format!("POST /v1/{path} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n");
            let (got, head, body) = web.raw(&request);
            if status == 200 {
                assert_eq!(got == 200, path == "identify", "{head} {body}");
                continue;
            }
            assert_eq!((got, body.as_str()), (status, ""), "{headers} {head}");
            assert!(!head.contains("access-control"), "{head}");
        }
    }
    let (_, head, _) = web.post("identify", "", "Origin: https://page.example\r\n");
    assert!(
        head.contains("access-control-allow-origin: https://page.example"),
        "{head}"
    );
    // The target of a request names a host as well.
    let request = web.request("identify", "", "");
    let absolute = request.replacen("/v1/", "http://evil.example/v1/", 1);
    assert_eq!(web.raw(&absolute).0, 403);
}

#[test]
fn a_browser_asks_before_it_asks() {
    let web = Web::new(&["-controlOrigins=https://page.example,http://127.0.0.1:3000"]);
    let ask = |origin: &str| {
        web.raw(&format!(
            "OPTIONS /v1/identify HTTP/1.1\r\nHost: {}\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\r\n",
            web.at
        ))
    };
    for origin in ["https://page.example", "http://127.0.0.1:3000"] {
        let (status, head, _) = ask(origin);
        assert_eq!(status, 204, "{head}");
        assert!(
            head.contains(&format!("access-control-allow-origin: {origin}")),
            "{head}"
        );
        assert!(
            head.contains("access-control-allow-headers: authorization, content-type"),
            "{head}"
        );
    }
    let (status, head, _) = ask("https://evil.example");
    assert!(status == 403 && !head.contains("access-control"), "{head}");
}

#[test]
fn networks_of_control_allow_hold_here_too() {
    let web = Web::new(&["-controlAllow=192.0.2.0/24"]);
    // Loopback always may.
    assert_eq!(web.call("identify", "")["type"], "OK");
}

#[test]
fn what_cannot_be_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "0".repeat(64)).expect("written");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, mode).expect("set");
    let token = format!("-controlToken={}", path.display());
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address");
    let taken = format!("-controlHttp={taken}");
    let good = format!("-controlToken={}", folder.path().join("made").display());
    for (flags, reason) in [
        (
            vec!["-controlHttp=127.0.0.1:0"],
            "controlHttp needs controlToken",
        ),
        (
            vec!["-controlHttp=nothing", &token],
            "controlHttp: \"nothing\" is no address",
        ),
        (
            vec!["-controlHttp=127.0.0.1:0", &token],
            "others can read or write it",
        ),
        (vec![&taken, &good], "address already in use"),
        (
            vec![
                "-controlHttp=127.0.0.1:0",
                &token,
                "-controlOrigins=page.example",
            ],
            "controlOrigins: \"page.example\" is no origin",
        ),
    ] {
        let failed = Launch::new().args(&flags).try_spawn().expect_err("refused");
        let failed = failed.replace("Address already", "address already");
        assert!(
            failed.contains(reason) || failed.contains(&reason.replace('"', "\\\"")),
            "{flags:?}: {failed}"
        );
    }
}
