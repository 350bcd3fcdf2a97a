//! Circuit relay v2: what relays and their clients say to each other.

pub mod message;
