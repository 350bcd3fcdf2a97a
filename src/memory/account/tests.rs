use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

/// Peers may hold 32 MiB, those of a prefix 16, one of them 8; clients 16 MiB, one of them 12.
fn ledger() -> Arc<Ledger> {
    Ledger::with_shares(Shares::of(128 << 20, 4 * MIB))
}

fn at(address: &str) -> Multiaddr {
    address.parse().expect("a multiaddr")
}

#[test]
fn a_peer_a_prefix_and_all_have_their_shares() {
    let ledger = ledger();
    let one = ledger.peer(&at("/ip4/1.2.3.4/tcp/1"));
    let mut held = vec![one.charge(8 * MIB).expect("its own share")];
    assert_eq!(one.charge(1).err(), Some(OverBudget));
    // Another peer of that address uses up the share of the prefix.
    let others: Vec<_> = (0..2)
        .map(|port| ledger.peer(&at(&format!("/ip4/1.2.3.4/udp/{port}/quic-v1"))))
        .collect();
    held.push(others[0].charge(8 * MIB).expect("room in the prefix"));
    assert!(others[1].charge(1).is_err());
    assert_eq!(others[1].used(), 0, "a refusal leaves nothing behind");
    // Other addresses use up the rest.
    let elsewhere: Vec<_> = (1..4)
        .map(|n| ledger.peer(&at(&format!("/ip4/1.2.3.{n}1/tcp/1"))))
        .collect();
    for other in &elsewhere[..2] {
        held.push(other.charge(8 * MIB).expect("room among all"));
    }
    assert!(elsewhere[2].charge(1).is_err());
    assert!(
        ledger.client().charge(MIB).is_ok(),
        "clients have their own"
    );
    drop(held);
    assert_eq!(ledger.used(), 0);
    assert!(one.charge(8 * MIB).is_ok());
}

#[test]
fn clients_have_a_share_and_each_its_first_bytes() {
    const FLOOR: usize = CLIENT_FLOOR as usize;
    let ledger = ledger();
    let greedy = ledger.client();
    let mut held = vec![greedy.charge(12 * MIB).expect("its own share")];
    assert!(greedy.charge(1).is_err());
    let second = ledger.client();
    held.push(second.charge(4 * MIB).expect("what is left"));
    // Those first bytes are beside the share of all.
    held.push(second.charge(2 * FLOOR).expect("what is left"));
    assert!(second.charge(1).is_err(), "all is used up");
    for _ in 0..1000 {
        let small = ledger.client();
        let mut charge = small.charge(FLOOR).expect("its first bytes");
        assert!(charge.resize(FLOOR + 1).is_err());
        held.push(charge);
    }
    assert_eq!(ledger.used(), 16 * MIB as u64);
    drop(held);
    assert_eq!(ledger.used(), 0);
}

#[test]
fn frames_of_the_largest_size_have_room_whatever_the_budget_is() {
    let shares = Shares::of(1 << 20, 4 * MIB);
    let frame = 4 * MIB as u64;
    assert_eq!((shares.clients, shares.client), (4 * frame, 3 * frame));
    assert_eq!(Shares::of(1 << 30, usize::MAX).clients, u64::MAX);
}

#[test]
fn ipv6_counts_by_site_and_prefixes_are_forgotten() {
    let ledger = ledger();
    let same = [
        "/ip6/2001:db8:0:1200::1/tcp/1",
        "/ip6/2001:db8:0:12ff::2/tcp/2",
    ];
    assert_eq!(prefix(&at(same[0])), prefix(&at(same[1])));
    assert_ne!(
        prefix(&at(same[0])),
        prefix(&at("/ip6/2001:db8:0:1300::1/tcp/1"))
    );
    assert_eq!(
        prefix(&at("/ip6/::ffff:1.2.3.4/tcp/1")),
        prefix(&at("/ip4/1.2.3.4/tcp/1"))
    );
    assert_eq!(prefix(&at("/dns4/a.example/tcp/1")), None);
    let accounts: Vec<_> = same.iter().map(|remote| ledger.peer(&at(remote))).collect();
    assert_eq!(ledger.prefixes.lock().len(), 1);
    let charge = accounts[0].charge(1).expect("room");
    drop(accounts);
    assert_eq!(ledger.prefixes.lock().len(), 1, "something is still held");
    drop(charge);
    assert!(ledger.prefixes.lock().is_empty());
}

proptest! {
    /// Whatever is charged, resized and dropped: sums agree and no share is exceeded.
    #[test]
    fn sums_agree(steps in prop::collection::vec((0..6_usize, 0..6 * MIB, any::<bool>()), 0..60)) {
        let ledger = ledger();
        let accounts: Vec<_> = (0..6)
            .map(|n| ledger.peer(&at(&format!("/ip4/10.0.0.{}/tcp/1", n / 4))))
            .collect();
        let mut held: Vec<Vec<Charge>> = (0..6).map(|_| Vec::new()).collect();
        for (holder, bytes, takes) in steps {
            let sum = |held: &[Charge]| held.iter().map(Charge::bytes).sum::<u64>();
            let all: u64 = held.iter().map(|held| sum(held)).sum();
            let group = if holder < 4 { 0..4 } else { 4..6 };
            let of_prefix: u64 = held[group].iter().map(|held| sum(held)).sum();
            let own = sum(&held[holder]);
            let bytes64 = bytes as u64;
            if takes {
                let fits = own + bytes64 <= 8 << 20
                    && of_prefix + bytes64 <= 16 << 20
                    && all + bytes64 <= 32 << 20;
                let charge = accounts[holder].charge(bytes);
                prop_assert_eq!(charge.is_ok(), fits);
                held[holder].extend(charge);
            } else if let Some(mut charge) = held[holder].pop() {
                let smaller = usize::try_from(charge.bytes()).expect("small").min(bytes);
                prop_assert!(charge.resize(smaller).is_ok());
                held[holder].push(charge);
            }
            let now: u64 = held.iter().map(|held| sum(held)).sum();
            prop_assert_eq!(ledger.used(), now);
            prop_assert_eq!(accounts[holder].used(), sum(&held[holder]));
        }
        drop(held);
        prop_assert_eq!(ledger.used(), 0);
    }
}

#[test]
fn what_clients_can_lose_leaves_half_to_their_requests() {
    let ledger = ledger();
    let stuck: Vec<_> = (0..4).map(|_| ledger.client()).collect();
    let mut waiting: Vec<_> = stuck.iter().map(Account::empty_charge).collect();
    let taken = waiting
        .iter_mut()
        .filter_map(|one| one.resize_dispensable(4 * MIB).ok());
    assert_eq!(taken.count(), 2);
    assert!(ledger.client().charge(4 * MIB).is_ok());
    waiting[0].resize_dispensable(MIB).expect("less is fine");
    assert!(waiting[2].resize_dispensable(2 * MIB).is_ok());
    drop(waiting);
    assert_eq!(ledger.used(), 0);
}
