use libp2p::identity::Keypair;
use multibase::Base;
use proptest::prelude::*;

use super::*;

/// Records made by Go's libraries, and what they say of them: kind, name, key, values, verdict.
/// Keys and values are in base64.
const GO: &str = include_str!("go.tsv");

struct Case {
    select: bool,
    name: &'static str,
    key: Vec<u8>,
    values: Vec<Vec<u8>>,
    verdict: &'static str,
}

fn base64(text: &str) -> Vec<u8> {
    Base::Base64.decode(text).unwrap()
}

fn cases() -> impl Iterator<Item = Case> {
    GO.lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, name, key, values, verdict] = columns[..] else {
            panic!("{line}")
        };
        Case {
            select: kind == "select",
            name,
            key: base64(key),
            values: match (kind, values) {
                ("select", "") => Vec::new(),
                _ => values.split(',').map(base64).collect(),
            },
            verdict,
        }
    })
}

fn case(name: &str) -> Case {
    cases().find(|case| case.name == name).unwrap()
}

/// Accepted by Go and refused here: what its libraries read more loosely.
const STRICTER: [&str; 8] = [
    // 32 bytes that no signature can ever fit.
    "no point",
    "p384",
    "cbor deep",
    "cbor bad text",
    "cbor time 2200-01-02T03:04:05,1Z",
    "cbor time 2200-01-02T03:04:05+01:60",
    "cbor time 2200-01-02T03:04:05+24:00",
    "cbor time 2200-01-02T3:04:05Z",
];

/// Texts of Go whose end comes from a parser that is another one here.
const OTHER_PARSER: [&str; 7] = [
    "asn1: ",
    "x509: ",
    "invalid public key: ",
    "not actually an rsa public key",
    "not an ecdsa public key",
    "record contains an invalid validity; ",
    "record is malformed; ",
];

#[test]
fn verdicts_and_texts_are_gos() {
    let validator = Validator::default();
    let (mut same, mut worded) = (0, 0);
    for case in cases().filter(|case| !case.select) {
        let result = validator.validate(&case.key, &case.values[0]);
        let name = case.name;
        if STRICTER.contains(&name) {
            assert_eq!(case.verdict, "ok", "{name}");
            assert!(result.is_err(), "{name}");
            continue;
        }
        let told = result.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        if told == case.verdict {
            same += 1;
            continue;
        }
        let other = OTHER_PARSER
            .iter()
            .find(|start| case.verdict.starts_with(**start));
        let other = other.unwrap_or_else(|| panic!("{name}: {told}, Go: {}", case.verdict));
        assert_ne!(told, "ok", "{name}: Go refuses: {}", case.verdict);
        if other.starts_with("record ") {
            assert!(told.starts_with(other), "{name}: {told}");
        }
        worded += 1;
    }
    assert!(same > 100 && worded < 50, "{same} {worded}");
}

#[test]
fn selections_are_gos() {
    let validator = Validator::default();
    let mut compared = 0;
    for case in cases().filter(|case| case.select) {
        let values: Vec<&[u8]> = case.values.iter().map(Vec::as_slice).collect();
        let told = match validator.select(&case.key, &values) {
            Ok(index) => index.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told, case.verdict, "{}", case.name);
        compared += 1;
    }
    assert!(compared > 20);
}

#[test]
fn the_longest_record_passes_and_one_byte_more_does_not() {
    let Case { key, values, .. } = case("ipns ed25519");
    let padded = |size: usize| {
        // An unknown field of the missing bytes: one of tag, two of length.
        let padding = size - values[0].len() - 3;
        let mut value = values[0].clone();
        value.push(0x52);
        let mut length = unsigned_varint::encode::usize_buffer();
        value.extend_from_slice(unsigned_varint::encode::usize(padding, &mut length));
        value.resize(size, 0);
        value
    };
    let validator = Validator::default();
    assert_eq!(validator.validate(&key, &padded(10240)), Ok(()));
    assert_eq!(
        validator.validate(&key, &padded(10241)),
        Err(RecordError::Ipns(IpnsError::Size))
    );
}

#[derive(Debug)]
struct Book(PublicKey);

impl KeyBook for Book {
    fn public_key(&self, peer: &PeerId) -> Option<PublicKey> {
        (self.0.to_peer_id() == *peer).then(|| self.0.clone())
    }
}

#[test]
fn a_key_that_neither_record_nor_name_contain_comes_from_the_book() {
    let Case { key, values, .. } = case("ipns unknown rsa");
    let rsa = decode_key(&case("pk rsa").values[0]).unwrap();
    let knows = Validator::new(Arc::new(Book(rsa)), Vec::new());
    assert_eq!(knows.validate(&key, &values[0]), Ok(()));
    let other = Keypair::generate_ed25519().public();
    let knows_another = Validator::new(Arc::new(Book(other)), Vec::new());
    assert_eq!(
        knows_another.validate(&key, &values[0]),
        Err(RecordError::Ipns(IpnsError::KeyNotFound))
    );
}

#[test]
fn further_namespaces_take_anything_and_keep_the_first() {
    let validator = Validator::new(Arc::new(Empty), vec!["test".to_owned()]);
    assert_eq!(validator.validate(b"/test/", b""), Ok(()));
    assert_eq!(validator.validate(b"/test/a/b", &[0xff; 3]), Ok(()));
    assert_eq!(validator.select(b"/test/a", &[b"x", b"y"]), Ok(0));
    for refused in [&b"/test"[..], b"/tes/a", b"/testt/a", b"test/a"] {
        assert_eq!(validator.validate(refused, b""), Err(RecordError::KeyType));
    }
    for name in ["", "pk", "ipns", "a/b", "/"] {
        assert!(!Validator::may_add(name), "{name}");
    }
    assert!(Validator::may_add("test"));
}

proptest! {
    #[test]
    fn a_changed_public_key_is_another_key(
        name in prop::sample::select(vec!["rsa", "ed25519", "secp256k1", "ecdsa"]),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let Case { key, mut values, .. } = case(&format!("pk {name}"));
        let value = &mut values[0];
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        prop_assert!(Validator::default().validate(&key, value).is_err(), "{name} {at} {bit}");
    }

    /// Version 2 records hold nothing but data, signature and key: no bit may change.
    #[test]
    fn a_changed_record_is_not_signed(
        name in prop::sample::select(vec!["rsa", "ed25519", "secp256k1", "ecdsa"]),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let Case { key, mut values, .. } = case(&format!("ipns v2 {name}"));
        let value = &mut values[0];
        let at = at.index(value.len());
        value[at] ^= 1 << bit;
        prop_assert!(Validator::default().validate(&key, value).is_err(), "{name} {at} {bit}");
    }

    #[test]
    fn a_cut_record_is_none(
        name in prop::sample::select(vec!["pk rsa", "pk ecdsa", "ipns rsa", "ipns v2 ed25519"]),
        at in any::<prop::sample::Index>(),
    ) {
        let Case { key, values, .. } = case(name);
        let value = &values[0][..at.index(values[0].len())];
        prop_assert!(Validator::default().validate(&key, value).is_err(), "{name} {}", value.len());
    }

    #[test]
    fn any_bytes_are_validated(
        namespace in prop::sample::select(vec!["/pk/", "/ipns/", "/x/", ""]),
        rest in prop::collection::vec(any::<u8>(), 0..50),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let validator = Validator::default();
        let key = [namespace.as_bytes(), &rest].concat();
        for value in &values {
            prop_assert!(validator.validate(&key, value).is_err());
        }
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        if let Ok(best) = validator.select(&key, &values) {
            prop_assert!(best < values.len());
        }
    }

    /// CBOR is read before the signature, so anybody's reaches the reader.
    #[test]
    fn any_cbor_is_validated(
        data in prop::collection::vec(
            prop::sample::select(vec![
                0x00_u8, 0x20, 0x41, 0x5b, 0x5f, 0x61, 0x7b, 0x7f, 0x81, 0x9b, 0x9f, 0xa1, 0xbb,
                0xbf, 0xc1, 0xd8, 0xf6, 0xf9, 0xfb, 0xff, 0x7e,
            ]),
            1..2000,
        ),
    ) {
        let Case { key, .. } = case("ipns ed25519");
        let mut value = vec![0x4a];
        let mut length = unsigned_varint::encode::usize_buffer();
        value.extend_from_slice(unsigned_varint::encode::usize(data.len(), &mut length));
        value.extend_from_slice(&data);
        prop_assert!(Validator::default().validate(&key, &value).is_err());
    }
}
