//! How holds end.

use crate::world::{
    Backend, HOUR_MS, NOON, VOID, World, digest, key, money, organization, settle, settlement, team, usage,
};
use tollgate_domain::api::Api;
use tollgate_domain::bounds::Bounds;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{DenialReason, End, Event, HoldAsk, Outcome, Report, Settlement, Verdict};
use tollgate_domain::ids::{HoldId, ModelName};
use tollgate_domain::price::Modifiers;
use tollgate_ledger::store::{AccountSpec, HoldState, Store, StoreError};

const MINUTE_MS: i64 = 60_000;

fn rejected(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(_))
}

pub(crate) async fn a_settle_posts_the_cost_and_releases_the_hold<B: Backend>(world: &mut World<B>) {
    world.family(50_000, 50_000, 50_000, 50_000).await;
    let hold = world.hold(1, 20).await;
    world.advance(2_000);
    let end = Settlement { duration_ms: 1_500, first_byte_ms: 200, ..settlement(3, 4) };
    assert_eq!(world.report(hold, 1, Event::Settle(end)).await, Outcome::Applied);
    assert_eq!(world.balance(organization()).await, (11_000, 0));
    let log = world.log(hold).await;
    assert_eq!((log.state, log.cost, log.estimated), (HoldState::Settled, money(11_000), false));
    assert_eq!((log.usage, log.end, log.status), (Some(usage(3, 4)), Some(End::Complete), Some(200)));
    assert_eq!((log.api, log.provider, log.model.as_str()), (Api::ChatCompletions, Provider::OpenAi, "m"));
    assert_eq!(log.key, digest(1));
    assert_eq!(log.owners.organization.as_deref(), Some("org"), "by way of the team");
    assert_eq!((log.owners.team.as_deref(), log.owners.user.as_deref()), (Some("team"), Some("user")));
    assert_eq!(log.started_at, NOON);
    assert_eq!(log.first_byte_at, Some(NOON.plus_ms(200)));
    assert_eq!(log.ended_at, Some(NOON.plus_ms(1_500)));
}

pub(crate) async fn a_settle_beyond_its_hold_is_posted_in_full_and_closes_the_account<B: Backend>(
    world: &mut World<B>,
) {
    world.family(50_000, 5_000, 50_000, 50_000).await;
    let hold = world.hold(1, 4).await;
    assert_eq!(world.report(hold, 1, settle(7, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(team()).await, (7_000, 0));
    let denied = world.refused(1, 1).await;
    assert_eq!(denied.reason, DenialReason::BudgetSpent);
    assert_eq!(denied.amounts.unwrap().posted, money(7_000));
}

pub(crate) async fn an_unknown_price_costs_the_dearer_and_is_marked<B: Backend>(world: &mut World<B>) {
    world.lone_key(10_000_000).await;
    let tier = |tier: &str| Modifiers { service_tier: Some(tier.into()), ..Modifiers::default() };
    let plain = || settlement(3, 0);
    let named = |name: &str| Settlement { model: Some(name.into()), ..plain() };
    // Each hold is of 10,000. (settlement, cost, estimated, model)
    let table = [
        (plain(), 3_000, false, "m"),
        (named("m"), 3_000, false, "m"),
        (named("em"), 3_000, false, "m"),
        (named("dear"), 30_000, false, "dear"),
        (named("nonsense"), 10_000, true, "m"),
        (Settlement { usage: Some(usage(12, 0)), ..named("nonsense") }, 12_000, true, "m"),
        (Settlement { usage: None, ..plain() }, 10_000, true, "m"),
        (Settlement { estimated: true, ..plain() }, 3_000, true, "m"),
        (Settlement { modifiers: tier("flex"), ..plain() }, 1_500, false, "m"),
        (Settlement { modifiers: tier("default"), ..plain() }, 3_000, false, "m"),
        (Settlement { modifiers: tier("unheard-of"), ..plain() }, 10_000, true, "m"),
        (Settlement { extra: vec![("dear".into(), usage(1, 1))], ..plain() }, 33_000, false, "m"),
        (Settlement { extra: vec![("nonsense".into(), usage(9, 0))], ..plain() }, 12_000, true, "m"),
        (Settlement { extra: vec![("nonsense".into(), usage(1, 0))], ..plain() }, 10_000, true, "m"),
    ];
    for (settlement, cost, estimated, model) in table {
        let hold = world.hold(1, 10).await;
        let row = format!("{settlement:?}");
        assert_eq!(world.report(hold, 1, Event::Settle(settlement)).await, Outcome::Applied);
        let log = world.log(hold).await;
        let seen = (log.cost.get(), log.estimated, log.model.as_str());
        assert_eq!(seen, (cost, estimated, model), "{row}");
    }
    let mut ask = world.ask(1, 10).await;
    ask.modifiers = tier("flex");
    let hold = ask.id;
    assert!(matches!(world.ask_for(ask).await, Verdict::Held { amount, .. } if amount == money(10_000)));
    world.report(hold, 1, settle(3, 0)).await;
    assert_eq!(
        world.log(hold).await.cost,
        money(3_000),
        "nobody saves money by asking for a cheaper tier alone"
    );
}

pub(crate) async fn a_hold_ends_once<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let adjust = || Event::Adjust { usage: None, output_seen: 1 };
    let settled = world.hold(1, 2).await;
    assert_eq!(world.report(settled, 5, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.report(settled, 5, settle(1, 0)).await, Outcome::Duplicate);
    assert_eq!(world.report(settled, 6, settle(2, 0)).await, Outcome::Duplicate);
    assert_eq!(world.report(settled, 6, adjust()).await, Outcome::Superseded);
    assert!(rejected(world.report(settled, 6, VOID).await));
    assert_eq!(world.balance(key(1)).await, (1_000, 0));

    let voided = world.hold(1, 2).await;
    assert_eq!(world.report(voided, 1, VOID).await, Outcome::Applied);
    assert_eq!(world.report(voided, 1, VOID).await, Outcome::Duplicate);
    assert_eq!(world.report(voided, 2, adjust()).await, Outcome::Superseded);
    assert!(rejected(world.report(voided, 2, settle(1, 0)).await));
    assert_eq!(world.balance(key(1)).await, (1_000, 0));

    for ended in [settled, voided] {
        let ask = HoldAsk { id: ended, ..world.ask(1, 2).await };
        let verdict = world.ask_for(ask).await;
        assert!(matches!(verdict, Verdict::Denied(denied) if denied.reason == DenialReason::HoldEnded));
    }
    let unknown = HoldId::new([1; 16]);
    assert_eq!(world.report(unknown, 1, settle(1, 0)).await, Outcome::Rejected("unknown hold"));
    assert_eq!(world.report(unknown, 1, adjust()).await, Outcome::Rejected("unknown hold"));
}

pub(crate) async fn a_void_before_its_hold_refuses_it<B: Backend>(world: &mut World<B>) {
    world.lone_key(10_000).await;
    let late = world.ask(1, 1).await;
    assert_eq!(world.report(late.id, 1, VOID).await, Outcome::Tombstone);
    assert_eq!(world.report(late.id, 1, VOID).await, Outcome::Duplicate);
    world.advance(25 * HOUR_MS);
    world.tick().await;
    let verdict = world.ask_for(late.clone()).await;
    assert!(matches!(verdict, Verdict::Denied(denied) if denied.reason == DenialReason::HoldEnded));
    assert_eq!(world.balance(key(1)).await, (0, 0));
    world.advance(48 * HOUR_MS);
    world.tick().await;
    assert!(matches!(world.ask_for(late).await, Verdict::Held { .. }), "nothing is remembered for ever");
}

pub(crate) async fn exact_usage_resizes_the_hold<B: Backend>(world: &mut World<B>) {
    world.lone_key(40_000).await;
    let mut ask = world.ask(1, 10).await;
    ask.bounds = Bounds { output: 5, ..ask.bounds };
    let hold = ask.id;
    let Verdict::Held { expires_at, .. } = world.ask_for(ask.clone()).await else { panic!("not held") };
    assert_eq!(world.balance(key(1)).await, (0, 20_000));
    world.advance(MINUTE_MS);
    let adjust = |exact: Option<u64>, output_seen| Event::Adjust {
        usage: exact.map(|input| usage(input, 0)),
        output_seen,
    };
    // (sequence, event, outcome, pending), each by hand: input at 1,000, and 5 tokens of output or what was seen at 2,000.
    let table = [
        (1, adjust(Some(6), 1), Outcome::Applied, 16_000),
        (1, adjust(Some(9), 1), Outcome::Superseded, 16_000),
        (3, adjust(None, 3), Outcome::Applied, 16_000),
        (2, adjust(Some(9), 1), Outcome::Superseded, 16_000),
        (4, adjust(None, 9), Outcome::Applied, 24_000),
        (5, adjust(Some(60), 9), Outcome::Applied, 78_000),
    ];
    for (sequence, event, outcome, pending) in table {
        let row = format!("{event:?}");
        assert_eq!(world.report(hold, sequence, event).await, outcome, "{row}");
        assert_eq!(world.balance(key(1)).await, (0, pending), "{row}");
    }
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall, "an adjust is never refused");
    let Verdict::Held { expires_at: renewed, .. } = world.ask_for(ask).await else { panic!("not held") };
    assert_eq!(renewed, expires_at.plus_ms(MINUTE_MS), "every adjust is a sign of life");
    assert_eq!(world.report(hold, 6, settle(60, 9)).await, Outcome::Applied);
    assert_eq!(world.balance(key(1)).await, (78_000, 0));

    world.lone_key_again(3, 1_000_000).await;
    let mut several = world.ask(3, 10).await;
    several.bounds.input_per_call = 5;
    let id = several.id;
    world.ask_for(several).await;
    let news = Report { key: digest(3), ..World::<B>::news(id, 1, adjust(Some(2), 0)) };
    assert_eq!(world.store().report(vec![news]).await.unwrap(), [Outcome::Applied]);
    assert_eq!(world.balance(key(3)).await, (0, 10_000), "the provider may be called again");
}

pub(crate) async fn a_silent_hold_expires_in_full_and_a_late_settle_corrects_it<B: Backend>(
    world: &mut World<B>,
) {
    world.family(50_000, 50_000, 50_000, 50_000).await;
    world.advance(3 * MINUTE_MS);
    let (settled, voided, alive) = (world.hold(1, 5).await, world.hold(1, 5).await, world.hold(1, 1).await);
    world.advance(15 * MINUTE_MS - 1);
    assert_eq!(world.report(alive, 1, Event::Adjust { usage: None, output_seen: 0 }).await, Outcome::Applied);
    assert_eq!(world.balance(key(1)).await, (0, 11_000), "not a millisecond too early");
    world.advance(1_000);
    world.tick().await;
    assert_eq!(world.balance(key(1)).await, (10_000, 1_000));
    let expired = world.log(settled).await;
    assert_eq!((expired.state, expired.cost, expired.estimated), (HoldState::Expired, money(5_000), true));
    let adjust = Event::Adjust { usage: None, output_seen: 0 };
    assert_eq!(world.report(settled, 1, adjust).await, Outcome::Superseded);

    assert_eq!(world.report(settled, 2, settle(2, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(organization()).await, (7_000, 1_000), "the difference is given back");
    assert_eq!(world.report(settled, 2, settle(2, 0)).await, Outcome::Duplicate);
    let corrected = world.log(settled).await;
    assert_eq!(
        (corrected.state, corrected.cost, corrected.estimated),
        (HoldState::Settled, money(2_000), false)
    );
    assert_eq!(world.report(voided, 2, VOID).await, Outcome::Applied);
    assert_eq!(world.report(voided, 2, VOID).await, Outcome::Duplicate);
    assert_eq!(world.balance(organization()).await, (2_000, 1_000));
    assert_eq!(world.report(alive, 2, settle(4, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(organization()).await, (6_000, 0));
}

pub(crate) async fn nothing_expires_right_after_a_start<B: Backend>(world: &mut World<B>) {
    world.lone_key(50_000).await;
    let hold = world.hold(1, 5).await;
    world.advance(HOUR_MS);
    world.restart().await;
    world.tick().await;
    world.advance(2 * MINUTE_MS - 1);
    world.tick().await;
    assert_eq!(world.balance(key(1)).await, (0, 5_000), "settles that waited for the ledger win");
    world.advance(1_001);
    world.tick().await;
    assert_eq!(world.balance(key(1)).await, (5_000, 0));
    assert_eq!(world.report(hold, 1, settle(1, 0)).await, Outcome::Applied);
    assert_eq!(world.balance(key(1)).await, (1_000, 0));
}

pub(crate) async fn strangers_cannot_end_a_hold<B: Backend>(world: &mut World<B>) {
    world.lone_key(50_000).await;
    world.lone_key_again(2, 50_000).await;
    let hold = world.hold(1, 5).await;
    for event in [settle(1, 0), VOID, Event::Adjust { usage: None, output_seen: 0 }] {
        let stranger = Report { hold, key: digest(2), sequence: 9, event };
        let own = World::<B>::news(hold, 1, Event::Adjust { usage: None, output_seen: 0 });
        let outcomes = world.store().report(vec![stranger, own]).await.unwrap();
        assert!(rejected(outcomes[0]));
        assert!(!rejected(outcomes[1]), "one bad report hinders no other");
    }
    assert_eq!(world.balance(key(1)).await, (0, 5_000));
}

pub(crate) async fn an_amount_beyond_all_amounts_is_refused<B: Backend>(world: &mut World<B>) {
    world.lone_key(i64::MAX).await;
    let mut ask = world.ask(1, 1).await;
    ask.model = ModelName::new("dear");
    ask.bounds = Bounds { input: 1 << 40, input_per_call: 1 << 40, ..ask.bounds };
    let mut held = 0;
    loop {
        let verdict = world.ask_for(HoldAsk { id: world.fresh_id(), ..ask.clone() }).await;
        match verdict {
            Verdict::Held { .. } => held += 1,
            Verdict::Denied(denied) => {
                assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held, i64::MAX / (10_000 * (1 << 40)));
    assert_eq!(world.balance(key(1)).await, (0, held * 10_000 * (1 << 40)));
}

/// Whoever sent them hears of no outcome, and sends them again.
pub(crate) async fn reports_that_came_along_with_a_hold_that_does_not_fit_are_applied_once<B: Backend>(
    world: &mut World<B>,
) {
    world.make_key(1, AccountSpec::default()).await;
    let (settled, adjusted, voided) =
        (world.hold(1, 5).await, world.hold(1, 5).await, world.hold(1, 5).await);
    let mut ask = world.ask(1, 1).await;
    ask.model = ModelName::new("dear");
    ask.bounds = Bounds { input: 1 << 40, input_per_call: 1 << 40, ..ask.bounds };
    while let Ok((verdict, _)) =
        world.store().hold(HoldAsk { id: world.fresh_id(), ..ask.clone() }, Vec::new()).await
    {
        assert!(matches!(verdict, Verdict::Held { .. }), "{verdict:?}");
    }
    let (_, full) = world.balance(key(1)).await;
    let along = vec![
        World::<B>::news(settled, 1, settle(3, 0)),
        World::<B>::news(adjusted, 1, Event::Adjust { usage: Some(usage(2, 0)), output_seen: 0 }),
        World::<B>::news(voided, 1, VOID),
        World::<B>::news(ask.id, 1, VOID),
    ];
    // Its own void apart: that would end it before it is decided.
    let refused = world.store().hold(ask.clone(), along[..3].to_vec()).await;
    assert!(matches!(refused, Err(StoreError::Invalid("an amount is out of range"))), "{refused:?}");
    let after = (3_000, full - 5_000 - 3_000 - 5_000);
    assert_eq!(world.balance(key(1)).await, after);
    let again = world.store().report(along).await.unwrap();
    assert_eq!(again, [Outcome::Duplicate, Outcome::Superseded, Outcome::Duplicate, Outcome::Tombstone]);
    assert_eq!(world.balance(key(1)).await, after, "applied once");
    let denied = world.refused_ask(ask).await;
    assert_eq!(denied.reason, DenialReason::HoldEnded, "nothing of it is there");
}

pub(crate) async fn a_correction_posts_the_difference_and_edits_nothing<B: Backend>(world: &mut World<B>) {
    world.family(9_000, 9_000, 9_000, 9_000).await;
    let hold = world.hold(1, 2).await;
    let open = world.store().correct(hold, money(1)).await;
    assert!(matches!(open, Err(StoreError::Conflict(_))), "{open:?}");
    world.report(hold, 1, settle(2, 0)).await;
    let down = world.store().correct(hold, money(500)).await.unwrap();
    assert_eq!((down, world.balance(key(1)).await), (money(2_000), (500, 0)));
    let up = world.store().correct(hold, money(9_500)).await.unwrap();
    assert_eq!((up, world.balance(organization()).await), (money(500), (9_500, 0)));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetSpent, "an overrun closes the account");
    assert_eq!(world.log(hold).await.overrun, money(500), "by the limit, not by the hold");
    let unknown = world.store().correct(world.fresh_id(), money(1)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))), "{unknown:?}");
    let negative = world.store().correct(hold, money(-1)).await;
    assert!(matches!(negative, Err(StoreError::Invalid(_))), "{negative:?}");
    assert_eq!(world.report(hold, 2, settle(2, 0)).await, Outcome::Duplicate);
}

pub(crate) async fn a_hold_is_settled_by_the_prices_that_it_was_made_by<B: Backend>(world: &mut World<B>) {
    world.lone_key(1_000_000).await;
    let hold = world.hold(1, 10).await;
    world.restart_with(World::<B>::dearer_book()).await;
    world.report(hold, 1, settle(3, 1)).await;
    assert_eq!(world.log(hold).await.cost, money(5_000));
    let ask = world.ask(1, 10).await;
    let later = ask.id;
    assert!(matches!(world.ask_for(ask).await, Verdict::Held { amount, .. } if amount == money(20_000)));
    world.report(later, 1, settle(3, 1)).await;
    assert_eq!(world.log(later).await.cost, money(10_000));
}

pub(crate) async fn an_overrun_is_counted_and_shown<B: Backend>(world: &mut World<B>) {
    world.family(50_000, 10_000, 50_000, 50_000).await;
    let before = world.hold(1, 6).await;
    let hold = world.hold(1, 4).await;
    world.report(hold, 1, settle(7, 0)).await;
    assert_eq!(world.log(hold).await.overrun, money(3_000), "beyond the team's limit, with what is held");
    assert_eq!(world.balance(team()).await, (7_000, 6_000));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall);
    world.report(before, 1, settle(6, 0)).await;
    assert_eq!(world.log(before).await.overrun, money(0), "within its hold");
    let denied = world.refused(1, 1).await;
    assert_eq!((denied.reason, denied.amounts.unwrap().posted), (DenialReason::BudgetSpent, money(13_000)));

    world.set_limits(team(), &[(20_000, "")]).await;
    let grown = world.hold(1, 5).await;
    let grow = Event::Adjust { usage: Some(usage(9, 0)), output_seen: 0 };
    assert_eq!(world.report(grown, 1, grow).await, Outcome::Applied, "never refused");
    assert_eq!(world.balance(team()).await, (13_000, 9_000));
    assert_eq!(world.refused(1, 1).await.reason, DenialReason::BudgetTooSmall, "closed for the next");
    assert_eq!(world.log(grown).await.overrun, money(2_000));
    world.report(grown, 2, settle(9, 0)).await;
    assert_eq!(world.log(grown).await.overrun, money(2_000), "counted once");
}
