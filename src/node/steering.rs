//! Listeners and rules, as clients change them while the daemon runs (PROTOCOL.md 5).

use std::time::Duration;

use libp2p::Multiaddr;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Node,
    driver::{Command, Steer},
    listen::{self, ListenerInfo, ListenersError},
    rules::{Rule, RuleError, Subject},
};

/// Time for new listeners to learn their addresses: those of a wildcard come from the system.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for connections that rules forbid to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl Node {
    /// What is listened on.
    pub async fn listeners(&self) -> Vec<ListenerInfo> {
        let (reply, answer) = oneshot::channel();
        // Without an answer the node is stopping.
        self.steer(Steer::Listeners(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// Listens on all of `addresses`, each as at the start, or on none of them.
    ///
    /// # Errors
    /// See [`ListenersError`].
    ///
    /// # Cancel safety
    /// Dropped, it may have listened.
    pub async fn listen(&self, addresses: &[Multiaddr]) -> Result<(), ListenersError> {
        let Some(address) = addresses.first().cloned() else {
            return Ok(());
        };
        if addresses.len() > listen::MAX_LISTENERS {
            return Err(ListenersError::TooMany);
        }
        let (plan, host) = listen::plan(addresses).await?;
        let ((begun, beginning), (done, end)) = (oneshot::channel(), oneshot::channel());
        let listen = Steer::Listen {
            plan,
            host,
            address,
            begun,
            done,
        };
        self.steer(listen).await;
        beginning.await.map_err(|_| ListenersError::Stopping)??;
        match timeout(ADDRESS_TIMEOUT, end).await {
            Ok(Ok(listening)) => Ok(listening?),
            Ok(Err(_)) => Err(ListenersError::Stopping),
            // A wildcard has no address where the host has none of its family.
            Err(_) => Ok(()),
        }
    }

    /// No longer listens on `addresses`, as they were asked for or are bound. Connections stay, but
    /// those of quic, which share the socket.
    ///
    /// # Errors
    /// See [`ListenersError`]. Nothing is removed then.
    pub async fn unlisten(&self, addresses: Vec<Multiaddr>) -> Result<(), ListenersError> {
        let (reply, answer) = oneshot::channel();
        self.steer(Steer::Unlisten { addresses, reply }).await;
        let bound = answer.await.map_err(|_| ListenersError::Stopping)??;
        listen::freed(&bound).await;
        Ok(())
    }

    /// The rules about who may be connected with.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.0.rules.list()
    }

    /// Adds rules. Connections that they forbid are closed.
    ///
    /// # Errors
    /// See [`RuleError`]. Nothing is added then.
    pub async fn add_rules(&self, rules: Vec<Rule>) -> Result<(), RuleError> {
        self.0.rules.add(rules).await?;
        self.apply_rules().await;
        Ok(())
    }

    /// Removes the rules of these. Connections that the others forbid are closed.
    ///
    /// # Errors
    /// See [`RuleError`]. Nothing is removed then.
    pub async fn remove_rules(&self, subjects: Vec<Subject>) -> Result<(), RuleError> {
        self.0.rules.remove(subjects).await?;
        self.apply_rules().await;
        Ok(())
    }

    async fn apply_rules(&self) {
        let (reply, closed) = oneshot::channel();
        self.steer(Steer::Rules(reply)).await;
        // A connection that takes longer is closing all the same.
        let _ = timeout(CLOSE_TIMEOUT, closed).await;
    }

    async fn steer(&self, steer: Steer) {
        // An error means that the node is stopping: nobody answers then.
        let _ = self.0.commands.send(Command::Steer(steer)).await;
    }
}
