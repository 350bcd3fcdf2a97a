//! What follows from the answers of other nodes, as go-libp2p's client has it.

use std::net::IpAddr;

use crate::node::Reach;

/// Answers after which a state is as sure as it gets.
const MAX_CONFIDENCE: u8 = 3;

/// What one node has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has dialed this node. Its address prefix is told.
    Dialed(IpAddr),
    /// It could not.
    Failed,
    /// It does not say.
    Nothing,
}

/// The state, and how sure it is.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) reach: Reach,
    confidence: u8,
    /// The first to say that this node is public while circuits are in use.
    first: Option<IpAddr>,
}

impl Verdict {
    /// Whether the state should be asked for again soon.
    pub(super) fn is_unsure(&self) -> bool {
        self.reach == Reach::Unknown || self.confidence < MAX_CONFIDENCE
    }

    /// How many answers in a row have said the same, 3 at most.
    pub(super) fn confidence(&self) -> u8 {
        self.confidence
    }

    /// Whether a second host is to be asked at once.
    pub(super) fn waits_for_second(&self) -> bool {
        self.first.is_some()
    }

    /// The host's addresses have changed.
    pub(super) fn doubt(&mut self) {
        if self.confidence == MAX_CONFIDENCE {
            self.confidence -= 1;
        }
    }

    /// Takes an answer into account. While `circuits` are in use, becoming public takes two.
    pub(super) fn hear(&mut self, answer: Answer, circuits: bool) {
        match (answer, self.reach) {
            (Answer::Dialed(_), Reach::Public) | (Answer::Failed, Reach::Private) => {
                self.first = None;
                self.confidence = (self.confidence + 1).min(MAX_CONFIDENCE);
            }
            (Answer::Dialed(by), _) => {
                let confirmed = self.first.is_some_and(|first| first != by);
                if circuits && self.reach == Reach::Private && !confirmed {
                    self.first = Some(by);
                } else {
                    self.become_(Reach::Public);
                }
            }
            // One answer is enough for the first state.
            (Answer::Failed, _) if self.confidence == 0 => self.become_(Reach::Private),
            (Answer::Nothing, _) if self.confidence == 0 => self.become_(Reach::Unknown),
            (Answer::Failed | Answer::Nothing, _) => self.confidence -= 1,
        }
    }

    fn become_(&mut self, reach: Reach) {
        self.reach = reach;
        self.confidence = 0;
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialed(by: u8) -> Answer {
        Answer::Dialed(IpAddr::from([60, 0, by, 1]))
    }

    #[test]
    fn one_answer_decides_at_first_and_several_later() {
        let mut verdict = Verdict::default();
        verdict.hear(Answer::Failed, false);
        assert_eq!(verdict.reach, Reach::Private);
        verdict.hear(dialed(1), false);
        assert_eq!(verdict.reach, Reach::Public);
        for _ in 0..9 {
            assert!(verdict.is_unsure() || verdict.confidence == MAX_CONFIDENCE);
            verdict.hear(dialed(1), false);
        }
        assert!(!verdict.is_unsure());
        for answer in [Answer::Failed, Answer::Nothing, Answer::Failed] {
            verdict.hear(answer, false);
            assert_eq!(verdict.reach, Reach::Public);
        }
        verdict.hear(Answer::Failed, false);
        assert_eq!(verdict.reach, Reach::Private);
        verdict.hear(Answer::Nothing, false);
        assert_eq!(verdict.reach, Reach::Unknown);
    }

    #[test]
    fn circuits_in_use_are_not_given_up_for_one_host() {
        let mut verdict = Verdict::default();
        verdict.hear(Answer::Failed, true);
        for _ in 0..9 {
            verdict.hear(dialed(1), true);
            assert_eq!(verdict.reach, Reach::Private);
            assert!(verdict.waits_for_second());
        }
        // Whoever contradicts has it begin anew.
        verdict.hear(Answer::Failed, true);
        verdict.hear(dialed(2), true);
        assert_eq!(verdict.reach, Reach::Private);
        verdict.hear(dialed(3), true);
        assert_eq!(verdict.reach, Reach::Public);
        assert!(!verdict.waits_for_second());
    }

    #[test]
    fn new_addresses_raise_doubt() {
        let mut verdict = Verdict::default();
        for _ in 0..4 {
            verdict.hear(dialed(1), false);
        }
        assert!(!verdict.is_unsure());
        verdict.doubt();
        assert!(verdict.is_unsure());
        verdict.doubt();
        assert_eq!(verdict.confidence, MAX_CONFIDENCE - 1);
    }
}
