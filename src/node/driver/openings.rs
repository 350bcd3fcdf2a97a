//! Callers that wait for new listeners to have addresses.

use std::collections::HashSet;

use libp2p::{core::transport::ListenerId, swarm::SwarmEvent};
use tokio::sync::oneshot;

use super::{super::listen::ListenError, BehaviourEvent};

#[derive(Debug)]
struct Opening {
    all: Vec<ListenerId>,
    waiting: HashSet<ListenerId>,
    address: libp2p::Multiaddr,
    reply: oneshot::Sender<Result<(), ListenError>>,
}

/// Listeners that callers wait for.
#[derive(Debug, Default)]
pub(super) struct Openings(Vec<Opening>);

impl Openings {
    /// `reply` is told once all of `listeners` have addresses, or one has failed. `address` is what is
    /// told then.
    pub(super) fn add(
        &mut self,
        listeners: Vec<ListenerId>,
        address: libp2p::Multiaddr,
        reply: oneshot::Sender<Result<(), ListenError>>,
    ) {
        if listeners.is_empty() {
            let _ = reply.send(Ok(()));
            return;
        }
        self.0.retain(|opening| !opening.reply.is_closed());
        self.0.push(Opening {
            waiting: listeners.iter().copied().collect(),
            all: listeners,
            address,
            reply,
        });
    }

    /// Takes note of what becomes of a listener. Those that are to be closed because another one, asked
    /// for with them, has failed.
    pub(super) fn on_event(&mut self, event: &SwarmEvent<BehaviourEvent>) -> Vec<ListenerId> {
        match event {
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                let done = self.0.extract_if(.., |opening| {
                    opening.waiting.remove(listener_id);
                    opening.waiting.is_empty()
                });
                for opening in done {
                    // The caller may have gone.
                    let _ = opening.reply.send(Ok(()));
                }
                Vec::new()
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason,
                ..
            } => {
                let mut others = Vec::new();
                let failed = |opening: &mut Opening| opening.waiting.contains(listener_id);
                for opening in self.0.extract_if(.., failed) {
                    let reason = reason.as_ref().err();
                    let error = ListenError::closed(opening.address, reason);
                    let _ = opening.reply.send(Err(error));
                    others.extend(opening.all);
                }
                others
            }
            _ => Vec::new(),
        }
    }
}
