use libp2p::{Multiaddr, identity::Keypair};

use super::*;
use crate::memory::Ledger;

const HOUR: Duration = Duration::from_secs(60 * 60);

struct Scene {
    registrations: Registrations,
    ledger: std::sync::Arc<Ledger>,
    now: Instant,
}

fn address() -> Multiaddr {
    "/ip4/1.2.3.4/tcp/5".parse().unwrap()
}

fn record(form: Form) -> Record {
    let identity = Keypair::generate_ed25519();
    Record::read(&Record::of(&identity, &[address()], form).unwrap()).unwrap()
}

impl Scene {
    fn new() -> Self {
        Self {
            registrations: Registrations::new(),
            ledger: Ledger::new(0),
            now: Instant::now(),
        }
    }

    fn register_at(&mut self, namespace: &str, record: &Record, at: u32) -> Result<(), Refusal> {
        let charge = self.ledger.peer(&address()).charge(record.size()).unwrap();
        self.registrations.register(
            Bytes::copy_from_slice(namespace.as_bytes()),
            record.clone(),
            Some(IpAddr::V4(at.into())),
            (HOUR, self.now),
            charge,
        )
    }

    fn discover(
        &self,
        namespace: &str,
        cookie: Option<&Bytes>,
        limit: u64,
        form: Option<Form>,
    ) -> Result<(Vec<Record>, Bytes), Refusal> {
        let namespace = Bytes::copy_from_slice(namespace.as_bytes());
        let found =
            self.registrations
                .discover(Some(&namespace), cookie, Some(limit), form, self.now);
        found.map(|(found, cookie)| {
            let peers = found.into_iter().map(|one| one.peer.unwrap());
            (
                peers.map(|one| Record::read(&one).unwrap()).collect(),
                cookie,
            )
        })
    }
}

#[test]
fn each_asker_reads_what_it_is_told() {
    let mut scene = Scene::new();
    let all = [Form::Signed, Form::Legacy, Form::Plain].map(record);
    for record in &all {
        scene.register_at("a", record, 1).unwrap();
        assert_eq!(scene.registrations.form_of(&record.peer), Some(record.form));
    }
    let told = |form| {
        let (found, _) = scene.discover("a", None, 0, form).unwrap();
        found.into_iter().map(|one| one.peer).collect::<Vec<_>>()
    };
    let [signed, legacy, plain] = all.each_ref().map(|one| one.peer);
    assert_eq!(told(None), [signed, legacy, plain]);
    assert_eq!(told(Some(Form::Plain)), [signed, legacy, plain]);
    assert_eq!(told(Some(Form::Signed)), [signed]);
    assert_eq!(told(Some(Form::Legacy)), [legacy]);
    assert_eq!(scene.discover("b", None, 0, None).unwrap().0, []);
    assert_eq!(scene.discover("", None, 0, None).unwrap().0.len(), 3);
}

#[test]
fn a_cookie_leads_on_and_no_other_does() {
    let mut scene = Scene::new();
    let all: Vec<_> = (0..250).map(|_| record(Form::Plain)).collect();
    for record in &all {
        scene.register_at("a", record, 1).unwrap();
    }
    let (mut found, mut cookie) = (Vec::new(), None);
    loop {
        let (more, next) = scene.discover("a", cookie.as_ref(), 1000, None).unwrap();
        assert!(more.len() <= MAX_FOUND);
        if more.is_empty() {
            break;
        }
        found.extend(more);
        cookie = Some(next);
    }
    assert_eq!(found, all);
    let cookie = cookie.unwrap();
    scene.register_at("a", &all[3], 1).unwrap();
    let (renewed, _) = scene.discover("a", Some(&cookie), 0, None).unwrap();
    assert_eq!(renewed, all[3..4]);
    let refused = Err((Status::InvalidCookie, "the cookie is not of this point"));
    assert_eq!(scene.discover("b", Some(&cookie), 0, None), refused);
    for at in 0..cookie.len() {
        let mut forged = cookie.to_vec();
        forged[at] ^= 1;
        assert_eq!(scene.discover("a", Some(&forged.into()), 0, None), refused);
    }
    for forged in [&b"\0"[..], b"ffffffffffffffff", &[0xff; 100]] {
        let forged = Bytes::copy_from_slice(forged);
        assert_eq!(scene.discover("a", Some(&forged), 0, None), refused);
    }
}

#[test]
fn nobody_fills_the_point() {
    let mut scene = Scene::new();
    let full = Err((Status::Unavailable, "too many registrations"));
    let one = record(Form::Plain);
    for number in 0..MAX_PER_PEER {
        scene.register_at(&number.to_string(), &one, 1).unwrap();
    }
    assert_eq!(scene.register_at("more", &one, 1), full);
    scene.register_at("0", &one, 1).unwrap();
    scene.registrations.unregister(&one.peer, &"0".into());
    scene.register_at("more", &one, 1).unwrap();
    let mut others = (0..).map(|_| record(Form::Plain));
    for other in others.by_ref().take(MAX_PER_ADDRESS - MAX_PER_PEER) {
        scene.register_at("a", &other, 1).unwrap();
    }
    assert_eq!(scene.register_at("a", &others.next().unwrap(), 1), full);
    for (number, other) in (MAX_PER_ADDRESS..MAX_REGISTRATIONS).zip(others.by_ref()) {
        let at = u32::try_from(number).unwrap();
        scene.register_at("a", &other, at).unwrap();
    }
    assert_eq!(scene.register_at("a", &others.next().unwrap(), 0), full);
    // Whose time is over makes room.
    scene.now += HOUR;
    assert_eq!(scene.discover("a", None, 0, None).unwrap().0, []);
    scene.register_at("a", &one, 1).unwrap();
    let left = &scene.registrations;
    assert_eq!(
        (left.entries.len(), left.peers.len(), left.addresses.len()),
        (1, 1, 1)
    );
    scene.registrations.unregister(&one.peer, &"a".into());
    let left = &scene.registrations;
    assert!(left.namespaces.is_empty() && left.peers.is_empty() && left.addresses.is_empty());
    assert!(left.ends.is_empty());
    assert_eq!(scene.ledger.used(), 0);
}

#[test]
fn whose_time_is_over_is_forgotten_however_few_there_are() {
    let mut scene = Scene::new();
    let (early, late) = (record(Form::Plain), record(Form::Plain));
    scene.register_at("a", &early, 1).unwrap();
    scene.now += HOUR;
    scene.register_at("a", &late, 2).unwrap();
    let left = &scene.registrations;
    assert_eq!((left.entries.len(), left.ends.len()), (1, 1));
    assert!(!left.peers.contains_key(&early.peer));
}
