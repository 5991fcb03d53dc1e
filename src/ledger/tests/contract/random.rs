//! Random messages against a model that keeps no balance: it sums up all holds whenever it is asked.

use crate::world::{
    Backend, HOUR_MS, VOID, World, digest, key, limits, organization, settle, team, usage, user,
};
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, Event, HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::HoldId;
use tollgate_ledger::store::{AccountRef, AccountSpec, Owners, Store};

const SEEDS: u64 = 6;
const STEPS: usize = 160;
const TTL_MS: i64 = 15 * 60_000;
const GRACE_MS: i64 = 2 * 60_000;

/// The accounts by number, outermost first: key 1 charges all but the last, key 2 the team's and its own.
const ACCOUNTS: [(AccountKind, fn() -> AccountRef); 5] = [
    (AccountKind::Organization, organization),
    (AccountKind::Team, team),
    (AccountKind::User, user),
    (AccountKind::Key, || key(1)),
    (AccountKind::Key, || key(2)),
];

fn charged(key: u8) -> &'static [usize] {
    if key == 1 { &[0, 1, 2, 3] } else { &[0, 1, 4] }
}

/// Xorshift: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Settled,
    Voided,
    Expired,
}

#[derive(Clone, Debug)]
struct Hold {
    ask: HoldAsk,
    key: u8,
    made_at: i64,
    expires_at: i64,
    state: State,
    amount: i64,
    posted: i64,
    sequence: u64,
}

struct Model {
    now: i64,
    grace_until: i64,
    holds: Vec<Hold>,
    tombstones: Vec<HoldId>,
    /// Of each account: amount, and milliseconds of its window; 0 for life.
    limits: [Vec<(i64, i64)>; 5],
}

impl Model {
    /// Posted and pending of an account in the present window of this span.
    fn sums(&self, account: usize, span_ms: i64) -> (i64, i64) {
        let start = if span_ms == 0 { i64::MIN } else { self.now.div_euclid(span_ms) * span_ms };
        let counts = |hold: &&Hold| charged(hold.key).contains(&account) && hold.made_at >= start;
        self.holds.iter().filter(counts).fold((0, 0), |(posted, pending), hold| {
            let open = if hold.state == State::Pending { hold.amount } else { 0 };
            (posted + hold.posted, pending + open)
        })
    }

    fn refusal(&self, key: u8, amount: i64) -> Option<(AccountKind, DenialReason)> {
        for account in charged(key) {
            // For life first.
            let mut limits = self.limits[*account].clone();
            limits.sort_by_key(|(_, span_ms)| *span_ms != 0);
            for (limit, span_ms) in limits {
                let (posted, pending) = self.sums(*account, span_ms);
                let reason = match () {
                    () if posted >= limit => DenialReason::BudgetSpent,
                    () if posted + pending + amount > limit => DenialReason::BudgetTooSmall,
                    () => continue,
                };
                return Some((ACCOUNTS[*account].0, reason));
            }
        }
        None
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        if self.now < self.grace_until {
            return;
        }
        for hold in self.holds.iter_mut().filter(|hold| hold.state == State::Pending) {
            if hold.expires_at <= self.now {
                (hold.state, hold.posted) = (State::Expired, hold.amount);
            }
        }
    }

    fn settle(&mut self, index: usize, cost: i64) -> Outcome {
        let hold = &mut self.holds[index];
        match hold.state {
            State::Settled => Outcome::Duplicate,
            State::Voided => Outcome::Rejected(""),
            State::Pending | State::Expired => {
                (hold.state, hold.posted) = (State::Settled, cost);
                Outcome::Applied
            }
        }
    }

    fn void(&mut self, index: usize) -> Outcome {
        let hold = &mut self.holds[index];
        match hold.state {
            State::Settled => Outcome::Rejected(""),
            State::Voided => Outcome::Duplicate,
            State::Pending | State::Expired => {
                (hold.state, hold.posted) = (State::Voided, 0);
                Outcome::Applied
            }
        }
    }

    fn adjust(&mut self, index: usize, sequence: u64, amount: Option<i64>) -> Outcome {
        let now = self.now;
        let hold = &mut self.holds[index];
        if hold.state != State::Pending || sequence <= hold.sequence {
            return Outcome::Superseded;
        }
        hold.sequence = sequence;
        hold.amount = amount.unwrap_or(hold.amount);
        hold.expires_at = now + TTL_MS;
        Outcome::Applied
    }
}

pub(crate) async fn random_messages_agree_with_a_naive_model<B: Backend>(world: &mut World<B>) {
    world.family(60_000, 60_000, 60_000, 60_000).await;
    let owners = Owners { team: Some("team".into()), ..Owners::default() };
    world.make_key(2, AccountSpec { owners, ..AccountSpec::default() }).await;
    let life = || vec![(60_000, 0)];
    let mut model = Model {
        now: world.clock.now().unix_ms(),
        grace_until: world.clock.now().unix_ms() + GRACE_MS,
        holds: Vec::new(),
        tombstones: Vec::new(),
        limits: [life(), life(), life(), life(), Vec::new()],
    };
    for seed in 1..=SEEDS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for step in 0..STEPS {
            let what = take_step(world, &mut model, &mut dice).await;
            compare(world, &model, &mut dice, &format!("seed {seed}, step {step}: {what}")).await;
        }
        world.check().await;
    }
}

async fn take_step<B: Backend>(world: &mut World<B>, model: &mut Model, dice: &mut Dice) -> String {
    match dice.below(20) {
        0..8 => ask(world, model, dice).await,
        8..16 => report(world, model, dice).await,
        16..18 => {
            let ms = 2_000 + dice.below(40 * 60_000).cast_signed();
            world.advance(ms);
            model.pass(ms);
            world.tick().await;
            format!("{ms} ms pass")
        }
        18 => change_limits(world, model, dice).await,
        _ => {
            world.restart().await;
            model.grace_until = model.now + GRACE_MS;
            "restart".into()
        }
    }
}

async fn ask<B: Backend>(world: &World<B>, model: &mut Model, dice: &mut Dice) -> String {
    let fresh = model.holds.is_empty() || dice.below(4) > 0;
    if !fresh {
        let hold = dice.pick(&model.holds);
        let verdict = world.ask_for(hold.ask.clone()).await;
        match hold.state {
            State::Pending => assert_eq!(held(&verdict), Some(hold.amount), "{hold:?}"),
            _ => assert_eq!(refused(&verdict).1, DenialReason::HoldEnded, "{hold:?}"),
        }
        return "the same hold again".into();
    }
    let owner = dice.pick(&[1, 1, 2]);
    let input = 1 + dice.below(12);
    let amount = 1_000 * input.cast_signed();
    let ask = world.ask(owner, input).await;
    let verdict = world.ask_for(ask.clone()).await;
    match model.refusal(owner, amount) {
        Some((kind, reason)) => assert_eq!(refused(&verdict), (Some(kind), reason)),
        None => {
            assert_eq!(held(&verdict), Some(amount));
            model.holds.push(Hold {
                ask,
                key: owner,
                made_at: model.now,
                expires_at: model.now + TTL_MS,
                state: State::Pending,
                amount,
                posted: 0,
                sequence: 0,
            });
        }
    }
    format!("hold {amount} for key {owner}")
}

fn held(verdict: &Verdict) -> Option<i64> {
    if let Verdict::Held { amount, .. } = verdict { Some(amount.get()) } else { None }
}

fn refused(verdict: &Verdict) -> (Option<AccountKind>, DenialReason) {
    match verdict {
        Verdict::Denied(denied) => (denied.account.as_ref().map(|label| label.kind), denied.reason),
        other => panic!("not refused: {other:?}"),
    }
}

async fn report<B: Backend>(world: &World<B>, model: &mut Model, dice: &mut Dice) -> String {
    if model.holds.is_empty() || dice.below(12) == 0 {
        return unknown(world, model, dice).await;
    }
    // Mostly a recent one: those are open.
    let back = dice.below(model.holds.len().min(12) as u64);
    let index = model.holds.len() - 1 - usize::try_from(back).unwrap();
    let hold = model.holds[index].clone();
    let input = dice.below(16);
    let cost = 1_000 * input.cast_signed();
    let (sequence, event, expected) = match dice.below(7) {
        0..4 => (9, settle(input, 0), model.settle(index, cost)),
        4 => (9, VOID, model.void(index)),
        5 => {
            let sequence = 1 + dice.below(3);
            let event = Event::Adjust { usage: Some(usage(input, 0)), output_seen: 0 };
            (sequence, event, model.adjust(index, sequence, Some(cost)))
        }
        _ => {
            let sequence = 1 + dice.below(3);
            let event = Event::Adjust { usage: None, output_seen: 0 };
            (sequence, event, model.adjust(index, sequence, None))
        }
    };
    let what = format!("{event:?} of {hold:?}");
    let report = Report { hold: hold.ask.id, key: digest(hold.key), sequence, event };
    let outcome = world.store().report(vec![report]).await.unwrap()[0];
    assert_eq!(kind_of(outcome), kind_of(expected), "{what}");
    what
}

async fn unknown<B: Backend>(world: &World<B>, model: &mut Model, dice: &mut Dice) -> String {
    let known = !model.tombstones.is_empty() && dice.below(2) == 0;
    let id = if known { dice.pick(&model.tombstones) } else { world.fresh_id() };
    let outcome = world.report(id, 1, VOID).await;
    assert_eq!(outcome, if known { Outcome::Duplicate } else { Outcome::Tombstone });
    model.tombstones = vec![id];
    "a void of an unknown hold".into()
}

/// Outcomes without their reasons.
fn kind_of(outcome: Outcome) -> Outcome {
    if let Outcome::Rejected(_) = outcome { Outcome::Rejected("") } else { outcome }
}

async fn change_limits<B: Backend>(world: &World<B>, model: &mut Model, dice: &mut Dice) -> String {
    let account = usize::try_from(dice.below(5)).unwrap();
    // Room for what is spent already, or the model would soon see nothing but refusals.
    let room = |span_ms, more| {
        let (posted, pending) = model.sums(account, span_ms);
        posted + pending + more
    };
    let choices = [("", 0), ("1h", HOUR_MS), ("1d", 24 * HOUR_MS)];
    let mut chosen = Vec::new();
    for (duration, span_ms) in choices {
        if dice.below(2) == 0 {
            let more = dice.below(90).cast_signed() * 1_000 - 5_000;
            chosen.push((room(span_ms, more).max(0), duration, span_ms));
        }
    }
    let specs: Vec<_> = chosen.iter().map(|(amount, duration, _)| (*amount, *duration)).collect();
    let what = format!("limits of account {account}: {specs:?}");
    world
        .change(
            ACCOUNTS[account].1(),
            tollgate_ledger::store::AccountChange { limits: Some(limits(&specs)), ..Default::default() },
        )
        .await;
    model.limits[account] = chosen.iter().map(|(amount, _, span_ms)| (*amount, *span_ms)).collect();
    what
}

/// One account, wholly.
async fn compare<B: Backend>(world: &World<B>, model: &Model, dice: &mut Dice, what: &str) {
    let account = usize::try_from(dice.below(5)).unwrap();
    let record = world.record(ACCOUNTS[account].1()).await;
    assert_eq!((record.posted.get(), record.pending.get()), model.sums(account, 0), "{what}");
    assert_eq!(record.limits.len(), model.limits[account].len(), "{what}");
    for (limit, (amount, span_ms)) in record.limits.iter().zip(&model.limits[account]) {
        let seen = (limit.spec.amount.get(), (limit.posted.get(), limit.pending.get()));
        assert_eq!(seen, (*amount, model.sums(account, *span_ms)), "{what}, account {account}, {span_ms} ms");
    }
}
