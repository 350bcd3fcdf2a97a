//! Fuzz target: messages of Kademlia nodes, and the records in them.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    PeerInfo, answer,
    message::{self, MAX_PROVIDERS},
    record::Validator,
};

/// A message. What is taken of it has bounds and makes sense, and its record is validated.
pub(crate) fn messages(data: &[u8]) {
    let Ok(message) = message::decode(Bytes::copy_from_slice(data), MAX_PROVIDERS) else {
        return;
    };
    let closer: Vec<PeerInfo> = message::closer(&message).collect();
    let providers: Vec<PeerInfo> = message::providers(&message).collect();
    assert!(closer.len() <= message.closer_peers.len());
    assert!(providers.len() <= message.provider_peers.len());
    for info in closer.iter().chain(&providers) {
        let different: HashSet<_> = info.addresses.iter().collect();
        assert_eq!(different.len(), info.addresses.len(), "no address twice");
        assert!(!info.addresses.iter().any(|address| address.is_empty()));
        let sent = answer::peers(&[(info.clone(), true)], &mut usize::MAX.clone());
        assert_eq!(sent.len(), 1, "one peer is told as one");
        let sent = &sent[0];
        assert_eq!(sent.id, info.id.to_bytes());
        assert_eq!(
            sent.addrs.len(),
            info.addresses.len(),
            "what is taken is told"
        );
    }
    if let Some(record) = &message.record {
        let validator = Validator::default();
        if validator.validate(&record.key, &record.value).is_ok() {
            let selected = validator.select(&record.key, &[&record.value]);
            assert!(
                selected.is_ok_and(|index| index == 0),
                "a valid record is the best of one"
            );
        }
    }
}
