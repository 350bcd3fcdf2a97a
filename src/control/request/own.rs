//! Requests that only rp2pd has (PROTOCOL.md).

use std::{sync::Arc, time::Duration};

use super::{HostRequest, MISSING_PARAMETERS, Rejected, addresses, peer_id, refuse};
use bytes::Bytes;

use crate::{
    dht,
    events::{Kind, Kinds},
    pubsub::{ValidatorSettings, Verdict},
    wire::pb::{self, event},
};

/// Time for a verdict unless the client says otherwise, in milliseconds.
const VERDICT_TIME: u32 = 1000;

/// Longest time for a verdict, in milliseconds.
const MAX_VERDICT_TIME: u32 = 60_000;

/// Longest time in which the messages of a topic wait for another validator, in milliseconds.
const MAX_HOLD: u32 = 3_600_000;

/// What a client is to validate, and how.
#[derive(Debug)]
pub(in crate::control) struct Validate {
    pub(in crate::control) topic: Arc<[u8]>,
    pub(in crate::control) settings: ValidatorSettings,
}

pub(super) fn validate(request: Option<pb::PubsubValidateRequest>) -> Result<Validate, Rejected> {
    let request = request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let topic = request
        .topic
        .ok_or_else(|| refuse("Malformed request; missing topic parameter"))?;
    let late = match request.late {
        None => Verdict::Ignore,
        Some(number) => {
            verdict(number).ok_or_else(|| refuse(format!("unknown verdict {number}")))?
        }
    };
    Ok(Validate {
        topic: Arc::from(&topic[..]),
        settings: ValidatorSettings {
            deadline: match time("deadline", request.deadline, MAX_VERDICT_TIME)? {
                Duration::ZERO => Duration::from_millis(VERDICT_TIME.into()),
                deadline => deadline,
            },
            late,
            hold: time("hold", request.hold, MAX_HOLD)?,
        },
    })
}

fn time(name: &str, millis: Option<u32>, max: u32) -> Result<Duration, Rejected> {
    let millis = millis.unwrap_or_default();
    if millis > max {
        let reason = format!("{name} of {millis} ms: must be at most {max} ms");
        return Err(refuse(reason));
    }
    Ok(Duration::from_millis(millis.into()))
}

fn verdict(number: i32) -> Option<Verdict> {
    Some(match pb::Verdict::try_from(number).ok()? {
        pb::Verdict::Accept => Verdict::Accept,
        pb::Verdict::Reject => Verdict::Reject,
        pb::Verdict::Ignore => Verdict::Ignore,
    })
}

/// The verdicts in a request. What cannot be read lets nothing pass.
pub(in crate::control) fn verdicts(
    request: &pb::Request,
) -> impl Iterator<Item = (u64, Verdict)> + '_ {
    let verdicts = request
        .pubsub_validate
        .iter()
        .flat_map(|part| &part.verdicts);
    verdicts.filter_map(|one| {
        let verdict = one.verdict.and_then(verdict);
        Some((one.id?, verdict.unwrap_or(Verdict::Ignore)))
    })
}

/// Time for a verdict about a record unless the client says otherwise, in milliseconds.
const RECORD_VERDICT_TIME: u32 = 5000;

/// Bytes of a reason that are told.
const MAX_REASON: usize = 256;

/// Which records a client is to validate.
#[derive(Debug)]
pub(in crate::control) struct ValidateRecords {
    pub(in crate::control) namespace: Bytes,
    pub(in crate::control) deadline: Duration,
}

pub(super) fn validate_records(
    request: Option<pb::DhtValidatorRequest>,
) -> Result<ValidateRecords, Rejected> {
    let request = request.ok_or_else(|| refuse(MISSING_PARAMETERS))?;
    let namespace = request.namespace;
    Ok(ValidateRecords {
        namespace: namespace
            .ok_or_else(|| refuse("Malformed request; missing namespace parameter"))?,
        deadline: match time("deadline", request.deadline, MAX_VERDICT_TIME)? {
            Duration::ZERO => Duration::from_millis(RECORD_VERDICT_TIME.into()),
            deadline => deadline,
        },
    })
}

/// The verdicts about records in a request. What cannot be read lets nothing pass.
pub(in crate::control) fn record_verdicts(
    request: &pb::Request,
) -> impl Iterator<Item = (u64, dht::Verdict)> + '_ {
    let verdicts = request.dht_validator.iter();
    let verdicts = verdicts.flat_map(|part| &part.verdicts);
    verdicts.filter_map(|one| {
        let reason = one.reason.as_ref().map(|reason| {
            let told = &reason[..reason.len().min(MAX_REASON)];
            String::from_utf8_lossy(told).into_owned()
        });
        let verdict = dht::Verdict {
            valid: one.valid.unwrap_or_default(),
            reason,
            best: one.best.and_then(|best| usize::try_from(best).ok()),
        };
        Some((one.id?, verdict))
    })
}

/// What a client wants to follow. Without parameters it is everything.
pub(super) fn events(request: Option<pb::EventsRequest>) -> Result<HostRequest, Rejected> {
    let request = request.unwrap_or_default();
    let mut kinds = Kinds::default();
    for number in &request.kinds {
        let kind = event::Kind::try_from(*number)
            .map_err(|_| refuse(format!("unknown event kind {number}")))?;
        if let Some(kind) = own_kind(kind) {
            kinds = kinds.with(kind);
        }
    }
    Ok(HostRequest::Events {
        kinds: match request.kinds.is_empty() {
            true => Kinds::ALL,
            false => kinds,
        },
        present: request.present.unwrap_or_default(),
    })
}

/// Time for a probe, unless the client says otherwise.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for a probe.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Which addresses of which peer a client wants to be dialed.
pub(super) fn probe(request: Option<pb::ProbeRequest>) -> Result<HostRequest, Rejected> {
    let request = request.unwrap_or_default();
    let peer = request.peer.map(|peer| peer_id(Some(peer), "peer"));
    Ok(HostRequest::Probe {
        peer: peer.transpose()?,
        addresses: addresses(&request.addrs)?,
        timeout: match request.timeout.unwrap_or_default() {
            0 => PROBE_TIMEOUT,
            millis => Duration::from_millis(millis).min(MAX_PROBE_TIMEOUT),
        },
    })
}

/// `None` for what comes whether it is asked for or not.
fn own_kind(kind: event::Kind) -> Option<Kind> {
    Some(match kind {
        event::Kind::Missed => return None,
        event::Kind::PeerConnected => Kind::PeerConnected,
        event::Kind::PeerIdentified => Kind::PeerIdentified,
        event::Kind::PeerDisconnected => Kind::PeerDisconnected,
        event::Kind::Addresses => Kind::Addresses,
        event::Kind::Reachability => Kind::Reachability,
        event::Kind::HandlerFailed => Kind::HandlerFailed,
        event::Kind::TopicJoined => Kind::TopicJoined,
        event::Kind::TopicLeft => Kind::TopicLeft,
        event::Kind::Limit => Kind::Limit,
        event::Kind::TunnelFailed => Kind::TunnelFailed,
    })
}
