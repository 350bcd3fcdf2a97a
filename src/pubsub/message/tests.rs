use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::pubsub::Signing;

fn raw(message: &Message) -> pb::Message {
    pb::Message::decode(message.body().clone()).expect("a message")
}

fn validated(signing: Signing, raw: &pb::Message) -> Result<Message, ValidationError> {
    Validator::new(signing).validate(raw, b"t"[..].into())
}

#[test]
fn what_is_signed_here_is_taken_elsewhere_and_nothing_else() {
    for identity in [
        Keypair::generate_ed25519(),
        Keypair::generate_secp256k1(),
        Keypair::generate_ecdsa(),
    ] {
        let author = Author::new(&identity, true).expect("a key");
        let made = author
            .message(&b"t"[..].into(), Some(b"data"), 7)
            .expect("signed");
        let sent = raw(&made);
        let got = validated(Signing::Strict, &sent).expect("taken");
        assert_eq!(got.body(), made.body());
        assert_eq!(
            (got.id_hash(), got.message_id()),
            (made.id_hash(), made.message_id())
        );
        assert!(validated(Signing::Lax, &sent).is_ok());
        assert_eq!(
            validated(Signing::Off, &sent).err(),
            Some(ValidationError::Signed)
        );
        for change in [
            |raw: &mut pb::Message| raw.data = None,
            |raw: &mut pb::Message| raw.topic = Some("u".into()),
            |raw: &mut pb::Message| raw.seqno = Some(Bytes::from_static(b"12345678")),
            |raw: &mut pb::Message| raw.signature = Some(Bytes::new()),
        ] {
            let mut changed = sent.clone();
            change(&mut changed);
            assert_eq!(
                validated(Signing::Lax, &changed).err(),
                Some(ValidationError::Signature)
            );
        }
        let mut unsigned = sent.clone();
        unsigned.signature = None;
        assert_eq!(
            validated(Signing::Strict, &unsigned).err(),
            Some(ValidationError::Unsigned)
        );
        let other = Keypair::generate_ed25519().public();
        let mut foreign = sent.clone();
        foreign.key = Some(other.encode_protobuf().into());
        assert_eq!(
            validated(Signing::Lax, &foreign).err(),
            Some(ValidationError::Key)
        );
        foreign.from = Some(other.to_peer_id().to_bytes().into());
        let refused = validated(Signing::Lax, &foreign).err();
        assert_eq!(refused, Some(ValidationError::Signature));
    }
}

#[test]
fn the_key_of_the_last_author_is_not_taken_for_anothers() {
    let mut validator = Validator::new(Signing::Strict);
    let messages: Vec<_> = (0..3)
        .map(|_| {
            let author = Author::new(&Keypair::generate_ed25519(), true).expect("a key");
            raw(&author.message(&b"t"[..].into(), None, 1).expect("signed"))
        })
        .collect();
    for _ in 0..3 {
        for message in &messages {
            assert!(validator.validate(message, b"t"[..].into()).is_ok());
        }
        let mut forged = messages[0].clone();
        forged.signature = messages[1].signature.clone();
        let refused = validator.validate(&forged, b"t"[..].into()).err();
        assert_eq!(refused, Some(ValidationError::Signature));
    }
}

proptest! {
    #[test]
    fn a_message_is_what_the_protobuf_library_would_write(
        from: Option<Vec<u8>>,
        data: Option<Vec<u8>>,
        seqno: Option<Vec<u8>>,
        topic: Option<String>,
        signature: Option<Vec<u8>>,
        key: Option<Vec<u8>>,
    ) {
        let draft = Draft::new(
            from.as_deref(),
            data.as_deref(),
            seqno.as_deref(),
            topic.as_deref().map(str::as_bytes),
            0,
        );
        let made = draft.finish(signature.as_deref(), key.as_deref(), b""[..].into(), None, vec![]);
        let expected = pb::Message {
            from: from.map(Into::into),
            data: data.map(Into::into),
            seqno: seqno.map(Into::into),
            topic: topic.map(Into::into),
            signature: signature.map(Into::into),
            key: key.map(Into::into),
        };
        prop_assert_eq!(&made.body()[..], &expected.encode_to_vec()[..]);
    }

    #[test]
    fn an_rpc_falls_into_its_fields(publish: Vec<Vec<u8>>, topics: Vec<String>) {
        let rpc = pb::Rpc {
            subscriptions: topics
                .iter()
                .map(|topic| pb::SubOpts { subscribe: Some(true), topic_id: Some(topic.clone().into()) })
                .collect(),
            publish: publish
                .iter()
                .map(|data| pb::Message { data: Some(data.clone().into()), ..Default::default() })
                .collect(),
            control: None,
        };
        let bytes = Bytes::from(rpc.encode_to_vec());
        let mut again = pb::Rpc::default();
        for found in fields(&bytes) {
            let (number, value) = found.expect("a field");
            match number {
                1 => again.subscriptions.push(pb::SubOpts::decode(value).expect("one")),
                2 => again.publish.push(pb::Message::decode(value).expect("one")),
                other => panic!("{other}"),
            }
        }
        prop_assert_eq!(again, rpc);
    }

    #[test]
    fn any_bytes_are_fields_or_none(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let len = bytes.len();
        prop_assert!(fields(&bytes).count() <= len);
    }

    #[test]
    fn what_has_room_fits(topic in ".{0,300}", short in 0_usize..3) {
        for identity in [
            Keypair::generate_ed25519(),
            Keypair::generate_secp256k1(),
            Keypair::generate_ecdsa(),
        ] {
            for sign in [true, false] {
                let author = Author::new(&identity, sign).expect("a key");
                let room = author.room(topic.as_bytes());
                let data = vec![7; room - short];
                let topic: Arc<[u8]> = topic.as_bytes().into();
                let message = author.message(&topic, Some(&data), u64::MAX).expect("signed");
                let len = field(message.body().len());
                prop_assert!(len <= MAX_RPC, "{len}");
                prop_assert!(len + 32 >= MAX_RPC, "{len}");
            }
        }
    }
}
