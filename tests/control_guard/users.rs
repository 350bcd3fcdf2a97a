//! Clients of other users on this machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use super::*;
use crate::support::{Control, Handler};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// Two users who are neither root nor the daemon's.
const ALICE: u32 = 61_000;
const BOB: u32 = 61_001;

/// Runs `work` as the user `uid`, on a thread that is nobody else any more.
fn acting_as<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).expect("become another user");
            work()
        });
        acting.join().expect("the other user")
    })
}

/// A daemon whose socket everybody can open.
fn open_daemon(flags: &[&str]) -> Daemon {
    let daemon = Launch::new()
        .args([LISTEN, "-listenMode=0666"])
        .args(flags.iter().copied())
        .spawn();
    fs::set_permissions(daemon.dir(), Permissions::from_mode(0o777)).expect("chmod");
    daemon
}

fn listen(path: &Path) -> UnixListener {
    let _ = fs::remove_file(path);
    UnixListener::bind(path).expect("bind")
}

fn bytes(path: &Path) -> Vec<u8> {
    Control::Unix(path.to_owned()).to_bytes()
}

/// Opens a stream of `name` from `a` to `b`; what arrives at `handler`, which reads to the end
/// of what the daemon sends.
fn arrives(a: &Daemon, b: &Daemon, name: &str, handler: &UnixListener) -> Vec<u8> {
    let (_, pipe) = a.client().open_stream(b.peer_id(), &[name]).expect("open");
    pipe.socket.shutdown_write().expect("half-close");
    let (mut socket, _) = handler.accept().expect("accept");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut got = Vec::new();
    socket.read_to_end(&mut got).expect("read");
    got
}

pub fn only_users_on_the_list_are_served() {
    let daemon = open_daemon(&["-controlUids=0,61000"]);
    for _ in 0..3 {
        let served = acting_as(ALICE, || daemon.client().identify().0);
        assert_eq!(served, daemon.peer_id());
        let text = acting_as(BOB, || turned_away(&mut daemon.client()));
        assert_eq!(text, "permission denied: user 61001 is not in -controlUids");
    }
    let limit = "control connections of clients that may not connect";
    assert_eq!(daemon.bites(limit), 3);
    // Without the list the mode of the file decides alone.
    let open = open_daemon(&[]);
    let served = acting_as(BOB, || open.client().identify().0);
    assert_eq!(served, open.peer_id());
}

pub fn the_list_may_be_in_the_file() {
    let own = rustix::process::getuid().as_raw();
    let json = |uid: u32| format!(r#"{{"Control": {{"Uids": "{uid}"}}}}"#);
    let (launch, _file) = with_file(Launch::new(), &json(own));
    let daemon = launch.spawn();
    assert_eq!(daemon.client().identify().0, daemon.peer_id());
    // A daemon that answers nobody here is started without the usual first question.
    let (_, file) = with_file(Launch::new(), &json(own + 1));
    let place = tempfile::tempdir().expect("a directory");
    let control = Control::Unix(place.path().join("p2pd.sock"));
    let mut child = Command::new(crate::support::daemon::binary_under_test())
        .arg(format!("-listen={}", control.multiaddr()))
        .arg("-q")
        .arg("-f")
        .arg(file.path())
        .spawn()
        .expect("run");
    let mut client = None;
    let up = eventually(PATIENCE, || {
        client = ControlClient::connect(&control).ok();
        client.is_some()
    });
    let text = client.as_mut().map(turned_away);
    child.kill().expect("kill");
    child.wait().expect("the end");
    assert!(up);
    let expected = format!("permission denied: user {own} is not in -controlUids");
    assert_eq!(text, Some(expected));
}

pub fn a_socket_of_another_user_is_no_handler() {
    let (a, b) = (open_daemon(&[]), open_daemon(&[]));
    a.connect_to(&b);
    let place = |name: &str| -> PathBuf { b.dir().join(name) };
    let theirs = listen(&place("root.sock"));
    let other = acting_as(BOB, || listen(&place("bob.sock")));
    let own = acting_as(ALICE, || listen(&place("alice.sock")));
    let link = place("link.sock");
    std::os::unix::fs::symlink(place("root.sock"), &link).expect("link");
    for path in [place("root.sock"), place("bob.sock"), link] {
        let refused = acting_as(ALICE, || {
            register(&mut b.client(), &bytes(&path), "/stolen").expect_err("a refusal")
        });
        let expected = format!(
            "permission denied: handler address /unix{} belongs to another user",
            path.display()
        );
        assert_eq!(refused, expected);
    }
    assert_eq!(b.bites("handler addresses out of the caller's reach"), 3);
    acting_as(ALICE, || {
        register(&mut b.client(), &bytes(&place("alice.sock")), "/own").expect("register");
    });
    assert!(!arrives(&a, &b, "/own", &own).is_empty());
    // Root could connect to it without the daemon.
    register(&mut b.client(), &bytes(&place("bob.sock")), "/roots").expect("register");
    assert!(!arrives(&a, &b, "/roots", &other).is_empty());
    drop(theirs);
}

pub fn a_path_that_changes_hands_gets_no_stream() {
    for any in [false, true] {
        let b = open_daemon(if any { &["-handlerAllowAny"] } else { &[] });
        let a = open_daemon(&[]);
        a.connect_to(&b);
        let path = b.dir().join("later.sock");
        acting_as(ALICE, || {
            register(&mut b.client(), &bytes(&path), "/later").expect("nobody is there yet");
        });
        let alices = acting_as(ALICE, || listen(&path));
        assert!(!arrives(&a, &b, "/later", &alices).is_empty());
        // Root's service takes the place: it must not get a byte from the network.
        let roots = listen(&path);
        assert_eq!(arrives(&a, &b, "/later", &roots).is_empty(), !any);
        let refused = b.bites("handler addresses out of the caller's reach");
        assert_eq!(refused, u64::from(!any));
    }
}

pub fn tcp_clients_do_not_reach_sockets_of_other_users() {
    let b = Launch::new().tcp().args([LISTEN]).spawn();
    fs::set_permissions(b.dir(), Permissions::from_mode(0o777)).expect("chmod");
    let path = b.dir().join("bob.sock");
    let _bobs = acting_as(BOB, || listen(&path));
    let refused = register(&mut b.client(), &bytes(&path), "/bobs").expect_err("a refusal");
    assert!(refused.ends_with("belongs to another user"), "{refused}");
    // The daemon's own user is whom a client without a name acts as.
    let a = open_daemon(&[]);
    a.connect_to(&b);
    let own = Handler::unix();
    own.register(&mut b.client(), &["/own"], None)
        .expect("register");
    let (_, pipe) = a
        .client()
        .open_stream(b.peer_id(), &["/own"])
        .expect("open");
    own.accept(PATIENCE).expect("the stream");
    drop(pipe);
}
