use super::*;

fn guard(rules: Rules) -> Guard {
    Guard { rules, own: 500 }
}

fn tcp(ip: &str, local: bool) -> RequestOrigin {
    RequestOrigin::Tcp {
        ip: ip.parse().unwrap(),
        local,
    }
}

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 1)
}

#[test]
fn only_users_on_the_list_are_admitted() {
    let open = guard(Rules::default());
    assert_eq!(open.admit_user(7), Ok(RequestOrigin::User(7)));
    let listed = guard(Rules {
        uids: vec![1000, 1001],
        ..Rules::default()
    });
    assert_eq!(listed.admit_user(1001), Ok(RequestOrigin::User(1001)));
    // Neither root nor the daemon's own user is an exception.
    for uid in [0, 500, 1002] {
        assert_eq!(listed.admit_user(uid), Err(AccessDenied::User(uid)));
    }
}

#[test]
fn only_networks_on_the_list_and_loopback_are_admitted() {
    let listed = guard(Rules {
        allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        ..Rules::default()
    });
    let admit = |guard: &Guard, ip: &str| guard.admit_address(at(ip), at("10.1.0.1"));
    assert_eq!(admit(&listed, "10.1.2.3"), Ok(tcp("10.1.2.3", false)));
    assert_eq!(
        admit(&listed, "::ffff:10.1.2.3"),
        Ok(tcp("10.1.2.3", false))
    );
    assert_eq!(admit(&listed, "fd12::1"), Ok(tcp("fd12::1", false)));
    assert_eq!(admit(&listed, "10.1.0.1"), Ok(tcp("10.1.0.1", true)));
    assert_eq!(admit(&listed, "127.9.9.9"), Ok(tcp("127.9.9.9", true)));
    for ip in ["10.2.0.1", "fe80::1", "::ffff:10.2.0.1"] {
        assert!(admit(&listed, ip).is_err(), "{ip}");
        assert!(admit(&guard(Rules::default()), ip).is_ok(), "{ip}");
    }
}

#[test]
fn a_request_reaches_what_its_sender_could() {
    let here = tcp("127.0.0.1", true);
    let there = tcp("10.0.0.9", false);
    let cases = [
        (RequestOrigin::User(7), "192.168.0.1", true),
        (here, "127.0.0.53", true),
        (here, "::1", true),
        (here, "::ffff:127.0.0.1", true),
        (here, "0.0.0.0", true),
        (here, "192.168.0.1", false),
        (here, "169.254.169.254", false),
        (tcp("10.0.0.1", true), "10.0.0.1", true),
        (tcp("10.0.0.1", true), "127.0.0.1", true),
        (there, "10.0.0.9", true),
        (there, "::ffff:10.0.0.9", true),
        (there, "10.0.0.8", false),
        (there, "127.0.0.1", false),
        (there, "0.0.0.0", false),
        (there, "::1", false),
    ];
    for (origin, ip, reached) in cases {
        assert_eq!(
            reaches(origin, ip.parse().unwrap()),
            reached,
            "{origin:?} {ip}"
        );
    }
    let guard = guard(Rules::default());
    for (origin, owner, owned) in [
        (RequestOrigin::User(7), 7, true),
        (RequestOrigin::User(7), 0, false),
        (RequestOrigin::User(7), 500, false),
        (RequestOrigin::User(0), 7, true),
        (here, 500, true),
        (here, 0, false),
        (there, 500, false),
    ] {
        assert_eq!(guard.owns(origin, owner), owned, "{origin:?} {owner}");
    }
}
