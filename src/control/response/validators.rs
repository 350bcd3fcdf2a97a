//! Messages and records as validators read them (PROTOCOL.md 3, 6).

use prost::Message as _;

use super::ok;
use crate::{dht::Question, pubsub::Ask, wire::pb};

/// The question to the validator of a topic.
pub(in crate::control) fn to_topic_validator(ask: &Ask) -> pb::Response {
    // What a message holds is what clients get of it.
    let message = pb::PsMessage::decode(ask.message.body().clone()).unwrap_or_default();
    pb::Response {
        pubsub_validate: Some(Box::new(pb::PubsubValidation {
            id: ask.id,
            peer: ask.peer.map(|peer| peer.to_bytes().into()),
            message,
        })),
        ..ok()
    }
}

/// The question to the validator of a namespace.
pub(in crate::control) fn to_record_validator(question: &Question) -> pb::Response {
    use pb::dht_validation::Type;
    let kind = match question.selects {
        true => Type::Select,
        false => Type::Validate,
    };
    pb::Response {
        dht_validator: Some(Box::new(pb::DhtValidation {
            id: question.id,
            r#type: kind.into(),
            key: question.key.clone(),
            values: question.values.clone(),
        })),
        ..ok()
    }
}
