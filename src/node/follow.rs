//! Following what happens.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Command, Node};
use crate::{
    events::{Event, Follower, Kind, Kinds},
    memory::{Account, OverBudget},
};

/// Why nobody can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// There is no room for what it is to begin with.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The node ends.
    #[error("daemon is shutting down")]
    Stopping,
}

impl Node {
    /// Follows events of these kinds. With `present`, they begin with what the node knows already:
    /// the connections that there are, which peers are identified, the daemon's addresses and its
    /// reach. What that takes is charged to that account.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn follow(
        &self,
        kinds: Kinds,
        present: Option<&Arc<Account>>,
    ) -> Result<Follower, FollowError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Follow {
            kinds,
            present: present.cloned(),
            reply,
        };
        let sent = self.0.commands.send(command).await;
        sent.map_err(|_| FollowError::Stopping)?;
        let mut follower = answer.await.map_err(|_| FollowError::Stopping)??;
        if let Some(account) = present {
            self.add_identified(&mut follower, account)?;
            let reach = *self.watch_reach().borrow();
            follower.begin_with([
                Event::Addresses(self.addresses()),
                Event::Reachability(reach.into()),
            ]);
        }
        Ok(follower)
    }

    fn add_identified(
        &self,
        follower: &mut Follower,
        account: &Arc<Account>,
    ) -> Result<(), OverBudget> {
        if !follower.kinds().contains(Kind::PeerIdentified) {
            return Ok(());
        }
        for (peer, known) in self.0.streams.peers.list() {
            let Some(protocols) = known.protocols().filter(|names| !names.is_empty()) else {
                continue;
            };
            let event = Event::PeerIdentified {
                peer,
                agent: known.agent(),
                protocols,
                addresses: self.0.book.get(&peer),
            };
            follower.charged(account.charge(event.size())?);
            follower.begin_with([event]);
        }
        Ok(())
    }
}
