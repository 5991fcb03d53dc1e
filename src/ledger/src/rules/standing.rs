//! What each message does to a hold in each of its states: every pair has one named outcome.

use crate::store::HoldState;

/// How the books know a hold's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not at all.
    Unknown,
    /// A void came before its hold.
    Tombstone,
    /// As a hold.
    Known(HoldState),
}

/// A message about a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for it.
    Hold,
    /// News while it is open, with this sequence number; the last one applied is `last`.
    Adjust {
        /// Of this message.
        sequence: u64,
        /// Of the last message that was applied.
        last: u64,
    },
    /// The end, with what was used.
    Settle,
    /// The end, with nothing used.
    Void,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Decide whether to make the hold.
    Decide,
    /// Give the answer that was given before.
    Repeat,
    /// Refuse: the hold has ended.
    RefuseEnded,
    /// Change the hold's amount, and let it live on.
    Resize,
    /// Post the cost and release the hold.
    Post,
    /// Replace the full charge of an expired hold by the cost.
    Correct,
    /// Release the hold.
    Release,
    /// Give back the full charge of an expired hold.
    Credit,
    /// Remember the void, so that the late hold is refused.
    Remember,
    /// Nothing: it was done before.
    Duplicate,
    /// Nothing: something later was done before.
    Superseded,
    /// Nothing, ever: for this reason.
    Reject(&'static str),
}

/// The books do not know the hold of a settle or an adjust.
pub const UNKNOWN_HOLD: &str = "unknown hold";
/// The hold was made by another key.
pub const NOT_THE_OWNER: &str = "the hold belongs to another key";
/// The hold was charged, which a void cannot undo.
pub const ALREADY_SETTLED: &str = "the hold is settled";
/// The hold was given back: its request was never billed.
pub const ALREADY_VOIDED: &str = "the hold is voided";

/// The step for a message about a hold that stands so.
pub const fn step(standing: Standing, message: Message) -> Step {
    use HoldState::{Expired, Pending, Settled, Voided};
    use Standing::{Known, Tombstone, Unknown};
    match (message, standing) {
        (Message::Hold, Unknown) => Step::Decide,
        (Message::Hold, Known(Pending)) => Step::Repeat,
        (Message::Hold, Tombstone | Known(Settled | Voided | Expired)) => Step::RefuseEnded,

        (Message::Adjust { .. }, Unknown) => Step::Reject(UNKNOWN_HOLD),
        (Message::Adjust { sequence, last }, Known(Pending)) if sequence > last => Step::Resize,
        (Message::Adjust { .. }, Tombstone | Known(_)) => Step::Superseded,

        (Message::Settle, Unknown) => Step::Reject(UNKNOWN_HOLD),
        (Message::Settle, Tombstone | Known(Voided)) => Step::Reject(ALREADY_VOIDED),
        (Message::Settle, Known(Pending)) => Step::Post,
        (Message::Settle, Known(Expired)) => Step::Correct,
        (Message::Settle, Known(Settled)) => Step::Duplicate,

        (Message::Void, Unknown) => Step::Remember,
        (Message::Void, Tombstone | Known(Voided)) => Step::Duplicate,
        (Message::Void, Known(Pending)) => Step::Release,
        (Message::Void, Known(Expired)) => Step::Credit,
        (Message::Void, Known(Settled)) => Step::Reject(ALREADY_SETTLED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_one_outcome_in_every_state() {
        use HoldState::{Expired, Pending, Settled, Voided};
        use Standing::{Known, Tombstone, Unknown};
        let newer = Message::Adjust { sequence: 2, last: 1 };
        let same = Message::Adjust { sequence: 2, last: 2 };
        let older = Message::Adjust { sequence: 1, last: 2 };
        let unknown = Step::Reject(UNKNOWN_HOLD);
        let (settled, voided) = (Step::Reject(ALREADY_SETTLED), Step::Reject(ALREADY_VOIDED));
        let (dup, old, no) = (Step::Duplicate, Step::Superseded, Step::RefuseEnded);
        let states = [Unknown, Tombstone, Known(Pending), Known(Settled), Known(Voided), Known(Expired)];
        // One row for each message, one column for each of the states above.
        let table = [
            (Message::Hold, [Step::Decide, no, Step::Repeat, no, no, no]),
            (newer, [unknown, old, Step::Resize, old, old, old]),
            (same, [unknown, old, old, old, old, old]),
            (older, [unknown, old, old, old, old, old]),
            (Message::Settle, [unknown, voided, Step::Post, dup, voided, Step::Correct]),
            (Message::Void, [Step::Remember, dup, Step::Release, settled, dup, Step::Credit]),
        ];
        for (message, steps) in table {
            for (standing, expected) in states.into_iter().zip(steps) {
                assert_eq!(step(standing, message), expected, "{message:?} on {standing:?}");
            }
        }
    }
}
