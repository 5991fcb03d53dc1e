//! Every message about a hold in every state of it: one named outcome for each pair, the same when it comes again, and what it
//! does to the balances.

use crate::world::{Backend, HOUR_MS, VOID, World, key, money, organization, settle, usage};
use tollgate_domain::bounds::Bounds;
use tollgate_domain::hold::{DenialReason, Event, HoldAsk, Outcome, Verdict};
use tollgate_ledger::store::{HoldState, Page, SpendFilter, Store, StoreError};

/// How a hold of 5,000 by key 1 stands, before a message. The last sequence number is 5 where there is one.
#[derive(Clone, Copy, Debug)]
enum Before {
    Unknown,
    Tombstone,
    /// Key 2 has voided the id, which says nothing of key 1's hold.
    TombstoneOfStranger,
    Pending,
    /// For 3,000.
    Settled,
    Voided,
    /// For its 5,000.
    Expired,
}

const STATES: [Before; 7] = [
    Before::Unknown,
    Before::Tombstone,
    Before::TombstoneOfStranger,
    Before::Pending,
    Before::Settled,
    Before::Voided,
    Before::Expired,
];

impl Before {
    /// Posted and pending, in thousands.
    const fn sums(self) -> (i64, i64) {
        match self {
            Self::Unknown | Self::Tombstone | Self::TombstoneOfStranger | Self::Voided => (0, 0),
            Self::Pending => (0, 5),
            Self::Settled => (3, 0),
            Self::Expired => (5, 0),
        }
    }
}

/// What comes.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Hold,
    /// The same id for another request of the same key.
    HoldOfOther,
    /// The same id for the same request of key 2.
    HoldOfStranger,
    /// With this sequence number: that it needs 2,000.
    Adjust(u64),
    /// With a sequence number: that it cost 4,000.
    Settle(u64),
    Void(u64),
    AdjustOfStranger,
    SettleOfStranger,
    VoidOfStranger,
    /// Nothing is heard of it for an hour.
    Silence,
    /// An administrator says that it cost 1,000.
    Correct,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Held,
    Ended,
    Outcome(Outcome),
    Error(&'static str),
    /// How it stands then, where it is listed.
    Stands(Option<HoldState>),
    /// What it had cost, in thousands.
    Corrected(i64),
}

const DONE: Said = Said::Outcome(Outcome::Applied);
const DUPLICATE: Said = Said::Outcome(Outcome::Duplicate);
const LATE: Said = Said::Outcome(Outcome::Superseded);
const REMEMBERED: Said = Said::Outcome(Outcome::Tombstone);
const NO_HOLD: Said = Said::Outcome(Outcome::Rejected("unknown hold"));
const IS_SETTLED: Said = Said::Outcome(Outcome::Rejected("the hold is settled"));
const IS_VOIDED: Said = Said::Outcome(Outcome::Rejected("the hold is voided"));
const NOT_THEIRS: Said = Said::Outcome(Outcome::Rejected("the hold belongs to another key"));
const OTHER: Said = Said::Error("hold_id names another request");
const MISSING: Said = Said::Error("does not exist");
const STILL_OPEN: Said = Said::Error("is still open");

/// What is said, what when it comes again, and posted and pending after both, in thousands.
#[derive(Clone, Copy)]
struct Cell {
    said: Said,
    again: Said,
    after: Option<(i64, i64)>,
}

/// Changes nothing.
const fn idle(said: Said) -> Cell {
    Cell { said, again: said, after: None }
}

const fn moves(said: Said, again: Said, after: (i64, i64)) -> Cell {
    Cell { said, again, after: Some(after) }
}

/// One row for each message, one column for each of [`STATES`].
fn table() -> Vec<(Sent, [Cell; 7])> {
    use HoldState::{Expired, Settled, Voided};
    use Said::{Corrected, Ended, Held, Stands};
    let late = [NO_HOLD, LATE, NOT_THEIRS, LATE, LATE, LATE, LATE].map(idle);
    let settled = [
        idle(NO_HOLD),
        idle(IS_VOIDED),
        idle(NOT_THEIRS),
        moves(DONE, DUPLICATE, (4, 0)),
        idle(DUPLICATE),
        idle(IS_VOIDED),
        moves(DONE, DUPLICATE, (4, 0)),
    ];
    let voided = [
        moves(REMEMBERED, DUPLICATE, (0, 0)),
        idle(DUPLICATE),
        idle(NOT_THEIRS),
        moves(DONE, DUPLICATE, (0, 0)),
        idle(IS_SETTLED),
        idle(DUPLICATE),
        moves(DONE, DUPLICATE, (0, 0)),
    ];
    // What a stranger says of an id that it has voided itself is said of its own.
    let strangers =
        |unknown, own| [unknown, NOT_THEIRS, own, NOT_THEIRS, NOT_THEIRS, NOT_THEIRS, NOT_THEIRS].map(idle);
    vec![
        (
            Sent::Hold,
            [
                moves(Held, Held, (0, 5)),
                idle(Ended),
                moves(Held, Held, (0, 5)),
                idle(Held),
                idle(Ended),
                idle(Ended),
                idle(Ended),
            ],
        ),
        (
            Sent::HoldOfOther,
            [
                moves(Held, Held, (0, 6)),
                idle(Ended),
                moves(Held, Held, (0, 6)),
                idle(OTHER),
                idle(OTHER),
                idle(OTHER),
                idle(OTHER),
            ],
        ),
        // It charges key 2 alone.
        (Sent::HoldOfStranger, [Held, Held, Ended, OTHER, OTHER, OTHER, OTHER].map(idle)),
        (
            Sent::Adjust(6),
            [
                idle(NO_HOLD),
                idle(LATE),
                idle(NOT_THEIRS),
                moves(DONE, LATE, (0, 2)),
                idle(LATE),
                idle(LATE),
                idle(LATE),
            ],
        ),
        (Sent::Adjust(5), late),
        (Sent::Adjust(4), late),
        (Sent::Settle(6), settled),
        // An end counts whatever its number: there is only one.
        (Sent::Settle(4), settled),
        (Sent::Void(6), voided),
        (Sent::Void(4), voided),
        (Sent::AdjustOfStranger, strangers(NO_HOLD, LATE)),
        (Sent::SettleOfStranger, strangers(NO_HOLD, IS_VOIDED)),
        (
            Sent::VoidOfStranger,
            [
                moves(REMEMBERED, DUPLICATE, (0, 0)),
                idle(NOT_THEIRS),
                idle(DUPLICATE),
                idle(NOT_THEIRS),
                idle(NOT_THEIRS),
                idle(NOT_THEIRS),
                idle(NOT_THEIRS),
            ],
        ),
        (
            Sent::Silence,
            [
                idle(Stands(None)),
                idle(Stands(None)),
                idle(Stands(None)),
                moves(Stands(Some(Expired)), Stands(Some(Expired)), (5, 0)),
                idle(Stands(Some(Settled))),
                idle(Stands(Some(Voided))),
                idle(Stands(Some(Expired))),
            ],
        ),
        (
            Sent::Correct,
            [
                idle(MISSING),
                idle(MISSING),
                idle(MISSING),
                idle(STILL_OPEN),
                moves(Corrected(3), Corrected(1), (1, 0)),
                moves(Corrected(0), Corrected(1), (1, 0)),
                moves(Corrected(5), Corrected(1), (1, 0)),
            ],
        ),
    ]
}

pub(crate) async fn every_message_has_one_outcome_in_every_state<B: Backend>(world: &mut World<B>) {
    let plenty = 10_000_000;
    world.family(plenty, plenty, plenty, plenty).await;
    world.lone_key_again(2, plenty).await;
    for (sent, cells) in table() {
        for (before, cell) in STATES.into_iter().zip(cells) {
            let row = format!("{sent:?} on {before:?}");
            let (posted, pending) = world.balance(organization()).await;
            let moved = |(thousands, open): (i64, i64)| (posted + 1_000 * thousands, pending + 1_000 * open);
            let ask = bring(world, before).await;
            assert_eq!(world.balance(organization()).await, moved(before.sums()), "before {row}");
            let after = moved(cell.after.unwrap_or(before.sums()));
            for (time, said) in [("first", cell.said), ("again", cell.again)] {
                assert_eq!(send(world, &ask, sent).await, said, "{row}, {time}");
                assert_eq!(world.balance(key(1)).await, after, "after {row}, {time}");
                assert_eq!(world.balance(organization()).await, after, "after {row}, {time}");
            }
            // Nothing stays open for the next row.
            world.report(ask.id, 9, VOID).await;
            world.report_by(2, ask.id, 9, VOID).await;
        }
    }
}

/// Brings a hold of key 1 there.
async fn bring<B: Backend>(world: &World<B>, before: Before) -> HoldAsk {
    let ask = world.ask(1, 5).await;
    match before {
        Before::Unknown => {}
        Before::Tombstone => assert_eq!(world.report(ask.id, 5, VOID).await, Outcome::Tombstone),
        Before::TombstoneOfStranger => {
            assert_eq!(world.report_by(2, ask.id, 5, VOID).await, Outcome::Tombstone);
        }
        Before::Pending | Before::Settled | Before::Voided | Before::Expired => {
            world.hold_ask(ask.clone()).await;
            world.report(ask.id, 5, Event::Adjust { usage: None, output_seen: 0 }).await;
        }
    }
    match before {
        Before::Settled => assert_eq!(world.report(ask.id, 5, settle(3, 0)).await, Outcome::Applied),
        Before::Voided => assert_eq!(world.report(ask.id, 5, VOID).await, Outcome::Applied),
        Before::Expired => silence(world).await,
        Before::Unknown | Before::Tombstone | Before::TombstoneOfStranger | Before::Pending => {}
    }
    ask
}

async fn silence<B: Backend>(world: &World<B>) {
    world.advance(HOUR_MS);
    world.tick().await;
}

async fn send<B: Backend>(world: &World<B>, ask: &HoldAsk, sent: Sent) -> Said {
    let adjust = Event::Adjust { usage: Some(usage(2, 0)), output_seen: 0 };
    match sent {
        Sent::Hold => held(world, ask.clone(), 5_000).await,
        Sent::HoldOfOther => {
            let bounds = Bounds { input: 6, input_per_call: 6, ..ask.bounds };
            held(world, HoldAsk { bounds, ..ask.clone() }, 6_000).await
        }
        Sent::HoldOfStranger => held(world, HoldAsk { id: ask.id, ..world.ask(2, 5).await }, 5_000).await,
        Sent::Adjust(sequence) => Said::Outcome(world.report(ask.id, sequence, adjust).await),
        Sent::Settle(sequence) => Said::Outcome(world.report(ask.id, sequence, settle(4, 0)).await),
        Sent::Void(sequence) => Said::Outcome(world.report(ask.id, sequence, VOID).await),
        Sent::AdjustOfStranger => Said::Outcome(world.report_by(2, ask.id, 6, adjust).await),
        Sent::SettleOfStranger => Said::Outcome(world.report_by(2, ask.id, 6, settle(4, 0)).await),
        Sent::VoidOfStranger => Said::Outcome(world.report_by(2, ask.id, 6, VOID).await),
        Sent::Silence => {
            silence(world).await;
            let filter = SpendFilter { request: Some(ask.id), ..SpendFilter::default() };
            let listed = world.store().spend_logs(filter, Page { offset: 0, limit: 1 }).await.unwrap();
            Said::Stands(listed.first().map(|log| log.state))
        }
        Sent::Correct => match world.store().correct(ask.id, money(1_000)).await {
            Ok(before) => Said::Corrected(before.get() / 1_000),
            Err(error) => said_error(&error),
        },
    }
}

async fn held<B: Backend>(world: &World<B>, ask: HoldAsk, expected: i64) -> Said {
    match world.store().hold(ask, Vec::new()).await {
        Ok((Verdict::Held { amount, .. }, _)) if amount == money(expected) => Said::Held,
        Ok((Verdict::Denied(denied), _)) if denied.reason == DenialReason::HoldEnded => Said::Ended,
        Ok((other, _)) => panic!("{other:?}"),
        Err(error) => said_error(&error),
    }
}

fn said_error(error: &StoreError) -> Said {
    let text = error.to_string();
    let known = [OTHER, MISSING, STILL_OPEN].into_iter().find(|said| match said {
        Said::Error(known) => text.ends_with(known),
        _ => false,
    });
    known.unwrap_or_else(|| panic!("{text}"))
}
