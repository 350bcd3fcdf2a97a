//! How the tasks of the daemon are told to end.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::shutdown::Drain;

/// What tells the tasks of the daemon to end, and when they have.
pub(super) struct Stop {
    /// Ends the taking of clients and streams.
    pub(super) serving: CancellationToken,
    /// Ends the swarm.
    pub(super) node: CancellationToken,
    pub(super) drain: Drain,
    /// Clients, streams, calls, and what is said at the end: the drain waits for them.
    pub(super) pipes: TaskTracker,
    /// What looks after the daemon. It ends at once.
    pub(super) tasks: TaskTracker,
}

impl Stop {
    pub(super) fn new() -> Self {
        let serving = CancellationToken::new();
        Self {
            drain: Drain::new(serving.clone()),
            serving,
            node: CancellationToken::new(),
            pipes: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Runs `task` until the daemon stops serving.
    pub(super) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let serving = self.serving.clone();
        self.tasks.spawn(serving.run_until_cancelled_owned(task));
    }
}
