//! Websockets that a certificate secures, listened on and dialed.

use std::fs;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::*;
use crate::support::certificate::Files;
use crate::support::{Launch, eventually};
use crate::transports::exercise;

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0/tls/ws";

fn listener(files: &Files) -> Daemon {
    let listen = format!("-hostAddrs={LISTEN}");
    let launch = Launch::new().args([listen]);
    launch.args(files.certificate()).spawn()
}

/// Who trusts the authority, and listens nowhere.
fn dialer(files: &Files) -> Daemon {
    Daemon::spawn(&["-noListenAddrs", &files.roots()])
}

/// The address of `listener` with `host` in the place of the IP address and `secure` for its end.
fn renamed(listener: &Daemon, host: Protocol<'_>, secure: &str) -> Multiaddr {
    let port = listener.addrs()[0].iter().nth(1).expect("a port");
    let address = Multiaddr::from(host.acquire()).with(port);
    format!("{address}{secure}").parse().expect("an address")
}

fn connect(dialer: &Daemon, listener: &Daemon, address: Multiaddr) -> Result<(), String> {
    dialer.client().connect_to(listener.peer_id(), &[address])?;
    dialer.client().disconnect(listener.peer_id());
    Ok(())
}

#[test]
fn streams_in_both_forms_of_the_address() {
    let files = Files::new(&["127.0.0.1"]);
    let [certificate, key] = files.certificate();
    for form in ["/tls/ws", "/wss"] {
        let listen = format!("-hostAddrs=/ip4/127.0.0.1/tcp/0{form}");
        for security in ["-tls=false", "-noise=false"] {
            println!("{form} {security}");
            exercise(&[&listen, &certificate, &key, &files.roots(), security]);
        }
    }
}

#[test]
fn a_certificate_is_for_a_name_and_of_a_known_authority() {
    let files = Files::new(&["localhost"]);
    let (listener, friend) = (listener(&files), dialer(&files));
    let ip = || Protocol::Ip4([127, 0, 0, 1].into());
    for (host, secure) in [
        (Protocol::Dns4("localhost".into()), "/tls/ws"),
        (Protocol::Dns("localhost".into()), "/wss"),
        (ip(), "/tls/sni/localhost/ws"),
    ] {
        let address = renamed(&listener, host, secure);
        connect(&friend, &listener, address.clone())
            .unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    // Each by a daemon that knows no other address.
    for (host, secure) in [(ip(), "/tls/ws"), (ip(), "/tls/sni/other.example/ws")] {
        let address = renamed(&listener, host, secure);
        let refused = connect(&dialer(&files), &listener, address.clone());
        let refused = refused.expect_err("another name");
        assert!(refused.contains("certificate"), "{address}: {refused}");
    }
    let stranger = Daemon::spawn(&["-noListenAddrs"]);
    let address = renamed(&listener, Protocol::Dns4("localhost".into()), "/tls/ws");
    let refused = connect(&stranger, &listener, address).expect_err("an unknown authority");
    assert!(refused.contains("certificate"), "{refused}");
    // A plain websocket to a secure port is none, and the other way round.
    let plain = renamed(&listener, ip(), "/ws");
    assert!(connect(&dialer(&files), &listener, plain).is_err());
    let ws = Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0/ws"]);
    let secure = renamed(&ws, ip(), "/tls/sni/localhost/ws");
    assert!(connect(&dialer(&files), &ws, secure).is_err());
}

#[test]
fn a_certificate_that_changes_is_read_again() {
    let first = Files::new(&["127.0.0.1"]);
    let listener = listener(&first);
    let address = || listener.addrs()[0].clone();
    let friend = dialer(&first);
    let kept = dialer(&first);
    connect(&friend, &listener, address()).expect("the first certificate");
    kept.connect_to(&listener);

    // What cannot be used is told, and changes nothing.
    fs::write(first.path("key.pem"), "no key").expect("written");
    let told = || {
        connect(&friend, &listener, address()).expect("still the first certificate");
        let told = listener.stderr();
        told.contains("stays as it was") && told.contains("holds no private key in PEM")
    };
    assert!(eventually(PATIENCE, told), "{}", listener.stderr());

    // Of another authority, whose certificate only those take who trust it.
    let second = Files::new(&["127.0.0.1"]);
    for name in ["cert.pem", "key.pem"] {
        fs::copy(second.path(name), first.path(name)).expect("copied");
    }
    let other = dialer(&second);
    let taken = || connect(&other, &listener, address()).is_ok();
    assert!(eventually(PATIENCE, taken), "{}", listener.stderr());
    let refused = connect(&friend, &listener, address()).expect_err("the first is gone");
    assert!(refused.contains("certificate"), "{refused}");
    let kept: Vec<_> = kept.client().list_peers();
    assert_eq!(kept.len(), 1, "connections outlive their certificate");
}

#[test]
fn files_that_cannot_be_served_are_refused_at_the_start() {
    let files = Files::new(&["127.0.0.1"]);
    let [certificate, key] = files.certificate();
    let listen = format!("-hostAddrs={LISTEN}");
    let refused = |flags: &[&str]| {
        let started = Launch::new().args(flags).try_spawn();
        started.expect_err("refused at the start")
    };
    let told = |flags: &[&str], wanted: &[&str]| {
        let line = refused(flags);
        for part in wanted {
            assert!(line.contains(part), "{flags:?}: {line}");
        }
    };
    told(
        &[&listen],
        &["needs a certificate", "with -wssCert and -wssKey"],
    );
    told(
        &[&listen, &certificate],
        &["give both -wssCert and -wssKey"],
    );
    told(&[&key], &["give both -wssCert and -wssKey"]);
    told(
        &[&listen, "-wssCert=/nonexistent/cert", &key],
        &[
            "open /nonexistent/cert: no such file or directory",
            "can read",
        ],
    );
    told(
        &["-wssRoots=/nonexistent/roots"],
        &["open /nonexistent/roots: no such file or directory"],
    );
    let swapped = certificate.replace("cert.pem", "key.pem");
    told(&[&listen, &swapped, &key], &["holds no certificate in PEM"]);
    let swapped = key.replace("key.pem", "cert.pem");
    told(
        &[&listen, &certificate, &swapped],
        &["holds no private key in PEM"],
    );
    let other = Files::new(&["127.0.0.1"]);
    let [_, foreign] = other.certificate();
    told(
        &[&listen, &certificate, &foreign],
        &[
            "is no key for the certificate",
            "that the certificate was made for",
        ],
    );
}

#[test]
fn an_expired_certificate_is_told_and_served() {
    let files = Files::new(&["127.0.0.1"]);
    files.issue(&["127.0.0.1"], 2001);
    let listener = listener(&files);
    let told = || {
        listener
            .stderr()
            .contains("cert.pem: the certificate has expired")
    };
    assert!(eventually(PATIENCE, told), "{}", listener.stderr());
    let refused = connect(&dialer(&files), &listener, listener.addrs()[0].clone());
    let refused = refused.expect_err("expired");
    assert!(refused.contains("certificate"), "{refused}");
}
