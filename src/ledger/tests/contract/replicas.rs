//! Several ledgers on one database: they are one ledger.

use crate::gate::Gate;
use crate::postgres::Postgres;
use crate::tags::{key_of, tag_budget, with_tag};
use crate::world::{
    HOUR_MS, NOON, VOID, World, capped, digest, key, limit, limits, money, new_limits, organization, settle,
    tag, team, user,
};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tollgate_domain::account::AccountKind;
use tollgate_domain::hold::{DenialReason, Event, HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::HoldId;
use tollgate_domain::price::Overlay;
use tollgate_domain::rate::{Rate, RateKind};
use tollgate_ledger::clock::Clock;
use tollgate_ledger::store::{
    AccountChange, AccountRef, AccountSpec, Applied, BooksStore, Found, Keeper, Operated, Owners, RateSpec,
    Settings, Store, StoreError, TagScope, postgres,
};

/// A world, and more ledgers on its database.
struct Replicas {
    world: World<Postgres>,
    stores: Vec<Arc<BooksStore>>,
    keepers: Vec<Keeper>,
}

impl Replicas {
    /// With the clock of the world.
    async fn new(count: usize) -> Self {
        let mut replicas = Self::alone().await;
        for _ in 0..count {
            replicas.join(Some(replicas.world.clock.clone())).await;
        }
        replicas
    }

    async fn alone() -> Self {
        Self { world: World::new().await, stores: Vec::new(), keepers: Vec::new() }
    }

    async fn join(&mut self, clock: Option<Clock>) {
        let settings = World::<Postgres>::settings(World::<Postgres>::book(), &self.world.clock);
        let config = self.world.backend.config();
        let (store, keeper) = postgres::open(config, Settings { clock, ..settings }).await.unwrap();
        self.stores.push(Arc::new(store));
        self.keepers.push(keeper);
    }

    /// Closes the ledgers and checks their books.
    async fn end(mut self) {
        self.stores.clear();
        for keeper in self.keepers {
            assert!(keeper.closed(Duration::from_secs(10)).await);
        }
        self.world.check().await;
    }

    async fn ask_of(&self, replica: usize, ask: HoldAsk) -> Verdict {
        self.stores[replica].hold(ask, Vec::new()).await.unwrap().0
    }

    async fn tell(&self, replica: usize, hold: HoldId, sequence: u64, event: Event) -> Outcome {
        let report = World::<Postgres>::news(hold, sequence, event);
        self.stores[replica].report(vec![report]).await.unwrap()[0]
    }

    /// The asks, each at the replica of its turn, all at once.
    async fn race(&self, asks: Vec<HoldAsk>) -> Vec<Verdict> {
        let racers: Vec<_> = asks
            .into_iter()
            .zip(self.stores.iter().cycle())
            .map(|(ask, store)| {
                let store = store.clone();
                tokio::spawn(async move { store.hold(ask, Vec::new()).await.unwrap().0 })
            })
            .collect();
        let mut verdicts = Vec::new();
        for racer in racers {
            verdicts.push(racer.await.unwrap());
        }
        verdicts
    }

    async fn asks(&self, keys: &[u8], count: usize, input: u64) -> Vec<HoldAsk> {
        let mut asks = Vec::new();
        for number in keys.iter().cycle().take(count) {
            asks.push(self.world.ask(*number, input).await);
        }
        asks
    }
}

fn held(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Held { .. })
}

fn reason(verdict: &Verdict) -> Option<DenialReason> {
    if let Verdict::Denied(denied) = verdict { Some(denied.reason) } else { None }
}

fn of_team(team: &str, user: Option<&str>) -> AccountSpec {
    let owners = Owners { team: Some(team.into()), user: user.map(str::to_owned), organization: None };
    AccountSpec { owners, ..AccountSpec::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_cent_is_spent_once_over_four_replicas() {
    let replicas = Replicas::new(4).await;
    let world = &replicas.world;
    world.family(1_000_000_000, 1_000_000_000, 1_000_000_000, 1_000_000_000).await;
    for number in 2..=4 {
        world.make_key(number, of_team("team", None)).await;
    }
    for round in 0..10 {
        let (posted, pending) = world.balance(team()).await;
        let available = 20_000 + 1_700 * round;
        world.set_limits(team(), &[(posted + pending + available, "")]).await;
        let asks = replicas.asks(&[1, 2, 3, 4], 64, 3).await;
        let verdicts = replicas.race(asks).await;
        let admitted = verdicts.iter().filter(|verdict| held(verdict)).count();
        assert_eq!(i64::try_from(admitted).unwrap(), available / 3_000, "round {round}");
        for verdict in verdicts.iter().filter(|verdict| !held(verdict)) {
            assert_eq!(reason(verdict), Some(DenialReason::BudgetTooSmall), "{verdict:?}");
        }
    }
    replicas.end().await;
}

/// Also one without requests: filters have their models from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prices_that_one_replica_was_told_come_to_all() {
    let replicas = Replicas::new(3).await;
    let world = &replicas.world;
    world.lone_key(1_000_000).await;
    let set = async |store: &BooksStore, percent: &str| {
        let sheet = crate::prices::discount("openai", percent);
        store.set_prices(crate::prices::operator("one"), Overlay::new(vec![sheet])).await.unwrap()
    };
    let done = set(&replicas.stores[0], "50").await;
    assert_eq!(done.outcome, Ok(Applied::Created));
    for ask in replicas.asks(&[1], 6, 10).await {
        for store in &replicas.stores {
            let verdict =
                store.hold(HoldAsk { id: world.fresh_id(), ..ask.clone() }, Vec::new()).await.unwrap().0;
            assert!(matches!(verdict, Verdict::Held { amount, .. } if amount == money(5_000)), "{verdict:?}");
        }
    }
    let done = set(&replicas.stores[1], "10").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while replicas.stores.iter().any(|store| store.prices().revision() != done.revision) {
        assert!(tokio::time::Instant::now() < deadline, "an idle replica never hears of it");
        // What is due by itself is so by the clock.
        world.advance(1_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Two at once: one after the other.
    let (one, other) = tokio::join!(set(&replicas.stores[0], "20"), set(&replicas.stores[2], "30"));
    assert!(one.outcome.is_ok() && other.outcome.is_ok());
    let ask = replicas.asks(&[1], 1, 10).await.remove(0);
    let verdict = replicas.ask_of(1, ask).await;
    assert!(
        matches!(verdict, Verdict::Held { amount, .. } if amount == money(8_000) || amount == money(7_000)),
        "{verdict:?}"
    );
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_one_over_four_replicas() {
    let replicas = Replicas::new(4).await;
    let rate = |kind, limit| RateSpec { rate: Rate { kind, limit }, model: None, observe: false };
    let rates = vec![rate(RateKind::RequestsPerMinute, 7), rate(RateKind::Parallel, 5)];
    replicas.world.make_key(1, AccountSpec { rates, ..AccountSpec::default() }).await;
    for expected in [5, 2] {
        let asks = replicas.asks(&[1], 32, 1).await;
        let ids: Vec<HoldId> = asks.iter().map(|ask| ask.id).collect();
        let verdicts = replicas.race(asks).await;
        assert_eq!(verdicts.iter().filter(|verdict| held(verdict)).count(), expected);
        for (index, id) in ids.into_iter().enumerate() {
            if held(&verdicts[index]) {
                // Through another one than that of the hold.
                assert_eq!(replicas.tell((index + 1) % 4, id, 1, settle(1, 0)).await, Outcome::Applied);
            } else {
                assert_eq!(reason(&verdicts[index]), Some(DenialReason::RateLimited));
            }
        }
    }
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_hold_through_several_replicas_is_one_hold() {
    let replicas = Replicas::new(4).await;
    replicas.world.lone_key(1_000_000).await;
    for round in 1..=10 {
        let ask = replicas.world.ask(1, 2).await;
        let verdicts = replicas.race(vec![ask; 4]).await;
        assert!(verdicts.iter().all(held), "{verdicts:?}");
        assert_eq!(replicas.world.balance(key(1)).await, (0, 2_000 * round));
    }
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_void_that_races_its_hold_leaves_nothing() {
    let replicas = Replicas::new(2).await;
    replicas.world.lone_key(1_000_000).await;
    for _ in 0..20 {
        let ask = replicas.world.ask(1, 2).await;
        let id = ask.id;
        let (verdict, outcome) = tokio::join!(replicas.ask_of(0, ask), replicas.tell(1, id, 1, VOID));
        match outcome {
            Outcome::Applied => assert!(held(&verdict), "{verdict:?}"),
            Outcome::Tombstone => assert_eq!(reason(&verdict), Some(DenialReason::HoldEnded)),
            other => panic!("{other:?}"),
        }
        assert_eq!(replicas.world.balance(key(1)).await, (0, 0));
    }
    replicas.end().await;
}

/// A void by another key refuses nobody: whichever comes first, the hold is made, and is its owner's to void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_void_that_races_a_hold_changes_nothing() {
    let replicas = Replicas::new(2).await;
    replicas.world.lone_key(1_000_000).await;
    replicas.world.lone_key_again(2, 1_000_000).await;
    for _ in 0..20 {
        let ask = replicas.world.ask(1, 2).await;
        let id = ask.id;
        let strangers = vec![Report { key: digest(2), ..World::<Postgres>::news(id, 1, VOID) }];
        let (verdict, outcomes) = tokio::join!(replicas.ask_of(0, ask), replicas.stores[1].report(strangers));
        assert!(held(&verdict), "{verdict:?}");
        let outcome = outcomes.unwrap()[0];
        let stranger = Outcome::Rejected("the hold belongs to another key");
        assert!([Outcome::Tombstone, stranger].contains(&outcome), "{outcome:?}");
        assert_eq!(replicas.world.balance(key(1)).await, (0, 2_000));
        assert_eq!(replicas.tell(1, id, 1, VOID).await, Outcome::Applied);
        assert_eq!(replicas.world.balance(key(1)).await, (0, 0));
    }
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_of_a_hold_come_through_any_replica_and_end_it_once() {
    let replicas = Replicas::new(4).await;
    replicas.world.lone_key(1_000_000).await;
    let alive = || Event::Adjust { usage: None, output_seen: 1 };
    for round in 1..=10 {
        let ask = replicas.world.ask(1, 5).await;
        let id = ask.id;
        assert!(held(&replicas.ask_of(0, ask).await));
        assert_eq!(replicas.tell(1, id, 2, alive()).await, Outcome::Applied);
        assert_eq!(replicas.tell(2, id, 1, alive()).await, Outcome::Superseded);
        let end = || settle(3, 0);
        let outcomes = tokio::join!(
            replicas.tell(0, id, 3, end()),
            replicas.tell(1, id, 3, end()),
            replicas.tell(2, id, 3, end()),
            replicas.tell(3, id, 3, VOID),
        );
        let settles = [outcomes.0, outcomes.1, outcomes.2];
        let applied = settles.iter().filter(|outcome| **outcome == Outcome::Applied).count();
        let voided = outcomes.3 == Outcome::Applied;
        assert_eq!(applied, usize::from(!voided), "round {round}: {outcomes:?}");
        if voided {
            assert!(settles.iter().all(|outcome| matches!(outcome, Outcome::Rejected(_))), "{settles:?}");
        } else {
            assert!(matches!(outcomes.3, Outcome::Rejected(_)), "{outcomes:?}");
        }
        let (posted, pending) = replicas.world.balance(key(1)).await;
        assert_eq!((posted % 3_000, pending), (0, 0));
        assert_eq!(replicas.tell(2, id, 4, alive()).await, Outcome::Superseded);
    }
    replicas.end().await;
}

/// What an admin does through one replica decides the next hold through another, on the old policy and on the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_through_one_replica_is_true_at_the_next_hold_through_another() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make(AccountKind::Tag, "t", capped(limits(&[(0, "1mo")]))).await;
    let none = AccountChange::default;
    let blocked = |blocked| AccountChange { blocked: Some(blocked), ..none() };
    let models = |models: &[&str]| AccountChange {
        models: Some(models.iter().map(|m| (*m).into()).collect()),
        ..none()
    };
    let rates = |rates| AccountChange { rates: Some(rates), ..none() };
    let no_requests =
        RateSpec { rate: Rate { kind: RateKind::RequestsPerMinute, limit: 0 }, model: None, observe: false };
    let session = |amount: Option<i64>| AccountChange { session_limit: Some(amount.map(money)), ..none() };
    let tags = |tags| AccountChange { tags: Some(tags), ..none() };
    let wide = || new_limits(limits(&[(1_000_000, "")]));
    let past = |at| AccountChange { expires_at: Some(at), ..none() };
    // (what is done, what is said then; and how it is undone)
    let table = [
        (blocked(true), DenialReason::KeyBlocked, blocked(false)),
        (new_limits(limits(&[(0, "1d")])), DenialReason::BudgetSpent, wide()),
        (new_limits(limits(&[(500, "")])), DenialReason::BudgetTooSmall, wide()),
        (models(&["dear"]), DenialReason::ModelNotAllowed, models(&["dear", "em"])),
        (models(&["c"]), DenialReason::ModelNotAllowed, models(&[])),
        (rates(vec![no_requests]), DenialReason::RateLimited, rates(Vec::new())),
        (session(Some(999)), DenialReason::BudgetTooSmall, session(Some(1_000_000))),
        (session(Some(998)), DenialReason::BudgetTooSmall, session(None)),
        (tags(vec![tag("t")]), DenialReason::BudgetSpent, tags(Vec::new())),
        (past(Some(NOON)), DenialReason::KeyExpired, past(None)),
    ];
    let ask = async || HoldAsk { session: Some("s".into()), ..world.ask(1, 1).await };
    for account in [organization(), team(), user(), key(1)] {
        for (change, expected, undo) in &table {
            let row = format!("{change:?} of {account:?}");
            // Both have seen the key as it was.
            for replica in 0..2 {
                assert!(held(&replicas.ask_of(replica, ask().await).await), "{row}");
            }
            let old = ask().await;
            replicas.stores[0].update(account.clone(), change.clone()).await.unwrap();
            let verdict = replicas.ask_of(1, old).await;
            assert!(matches!(verdict, Verdict::Stale(..)), "{row}: {verdict:?}");
            assert_eq!(reason(&replicas.ask_of(1, ask().await).await), Some(*expected), "{row}");
            replicas.stores[1].update(account.clone(), undo.clone()).await.unwrap();
            assert!(held(&replicas.ask_of(0, ask().await).await), "{row}");
        }
    }
    replicas.stores[0].delete(vec![key(1)]).await.unwrap();
    let gone = replicas.ask_of(1, ask().await).await;
    assert_eq!(reason(&gone), Some(DenialReason::KeyUnknown));
    assert_eq!(replicas.stores[1].lookup(digest(1), Vec::new()).await.unwrap(), Found::Unknown);
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_moves_at_one_replica_charges_its_new_team_at_the_others() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make(AccountKind::Team, "other", AccountSpec::default()).await;
    let other = || AccountRef::Id(AccountKind::Team, "other".into());
    let mut holds = Vec::new();
    for replica in [0, 1] {
        let ask = world.ask(1, 2).await;
        holds.push(ask.id);
        assert!(held(&replicas.ask_of(replica, ask).await));
    }
    let owners = Owners { team: Some("other".into()), ..Owners::default() };
    let moved = AccountChange { owners: Some(owners), ..AccountChange::default() };
    replicas.stores[0].update(key(1), moved).await.unwrap();
    assert!(held(&replicas.ask_of(1, world.ask(1, 3).await).await));
    assert_eq!(world.balance(team()).await, (0, 4_000));
    assert_eq!(world.balance(other()).await, (0, 3_000));
    for (replica, hold) in [1, 0].into_iter().zip(holds) {
        assert_eq!(replicas.tell(replica, hold, 1, settle(1, 0)).await, Outcome::Applied);
    }
    assert_eq!(world.balance(team()).await, (2_000, 0));
    assert_eq!(world.balance(other()).await, (0, 3_000));
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_account_made_at_one_replica_binds_at_the_others() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.make_key(1, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    let ask = async |input| world.ask(1, input).await;
    for replica in [0, 1] {
        assert!(held(&replicas.ask_of(replica, ask(1).await).await));
    }
    let new = World::<Postgres>::new_account(AccountKind::Tag, "t", capped(limits(&[(3_000, "1mo")])));
    replicas.stores[0].create(new).await.unwrap();
    assert_eq!(reason(&replicas.ask_of(1, ask(2).await).await), Some(DenialReason::BudgetTooSmall));
    assert!(held(&replicas.ask_of(1, ask(1).await).await), "it has counted what bound before");
    let t = || AccountRef::Tag { scope: TagScope::Installation, tag: "t".into() };
    replicas.stores[0].update(t(), new_limits(limits(&[(4_000, "1mo")]))).await.unwrap();
    assert!(held(&replicas.ask_of(1, ask(1).await).await));
    replicas.stores[0].delete(vec![t()]).await.unwrap();
    assert!(held(&replicas.ask_of(1, ask(9).await).await));
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_account_of_a_namespace_binds_its_keys_at_every_replica() {
    let replicas = Replicas::new(2).await;
    let keys = ["a", "b"].map(|namespace| format!("kubernetes/{namespace}")).into_iter().zip(1..);
    let keys = keys.map(|(home, number)| key_of(&home, number, with_tag())).collect();
    replicas.stores[0].apply(keys).await.unwrap();
    let ask = async |key| replicas.world.ask(key, 2).await;
    for key in [1, 2] {
        assert!(held(&replicas.ask_of(1, ask(key).await).await));
    }
    replicas.stores[1].apply(vec![tag_budget("kubernetes/a", 3_000)]).await.unwrap();
    for replica in [0, 1] {
        assert_eq!(reason(&replicas.ask_of(replica, ask(1).await).await), Some(DenialReason::BudgetTooSmall));
        assert!(held(&replicas.ask_of(replica, ask(2).await).await));
    }
    replicas.end().await;
}

/// Makes the tag's account at one replica while another is about to write a hold that the tag binds.
async fn make_tag_during_a_hold(replicas: &Replicas, tag: &'static str, ask: HoldAsk) {
    let address = &replicas.world.backend.address;
    let gate = Gate::before_writing(address, ask.id).await;
    let store = replicas.stores[1].clone();
    let hold = tokio::spawn(async move { store.hold(ask, Vec::new()).await.unwrap().0 });
    gate.until_waiting(1, || hold.is_finished()).await;
    assert!(!hold.is_finished());
    let store = replicas.stores[0].clone();
    let make = tokio::spawn(async move {
        let spec = capped(limits(&[(5_000, "1mo")]));
        store.create(World::<Postgres>::new_account(AccountKind::Tag, tag, spec)).await.unwrap()
    });
    gate.until_waiting(2, || make.is_finished()).await;
    gate.open().await;
    assert!(held(&hold.await.unwrap()));
    make.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_account_counts_what_is_under_way_at_other_replicas() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    let pinned = |tags: &[&str]| AccountChange {
        tags: Some(tags.iter().map(|text| tag(text)).collect()),
        ..AccountChange::default()
    };
    let binding = AccountChange { client_tags_bind: Some(true), ..AccountChange::default() };
    let undone = AccountChange { client_tags_bind: Some(false), ..pinned(&[]) };
    let mut number = 0;
    for account in [key(1), user(), team(), organization()] {
        for by_client in [false, true] {
            number += 1;
            let name: &'static str = format!("t{number}").leak();
            let tags = if by_client { vec![tag(name)] } else { Vec::new() };
            let change = if by_client { binding.clone() } else { pinned(&[name]) };
            let row = format!("{change:?} of {account:?}");
            world.change(account.clone(), change).await;
            let ask = HoldAsk { tags, ..world.ask(1, 3).await };
            let hold = ask.id;
            make_tag_during_a_hold(&replicas, name, ask).await;
            let t = || AccountRef::Tag { scope: TagScope::Installation, tag: name.into() };
            assert_eq!(world.balance(t()).await, (0, 3_000), "{row}");
            assert_eq!(world.window(t(), 0).await, (0, 3_000), "{row}");
            assert_eq!(replicas.tell(1, hold, 1, settle(2, 0)).await, Outcome::Applied);
            assert_eq!(world.window(t(), 0).await, (2_000, 0), "{row}");
            world.change(account.clone(), undone.clone()).await;
        }
    }
    replicas.end().await;
}

/// What begins to bind a tag could charge it behind the back of whoever makes its account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_begins_to_bind_while_a_tag_account_is_made() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world
        .make(AccountKind::User, "user", AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() })
        .await;
    world.make_key(1, AccountSpec::default()).await;
    let gate = Gate::at_accounts(&world.backend.address, "user").await;
    let store = replicas.stores[0].clone();
    let make = tokio::spawn(async move {
        let spec = capped(limits(&[(5_000, "1mo")]));
        store.create(World::<Postgres>::new_account(AccountKind::Tag, "t", spec)).await.unwrap()
    });
    gate.until_waiting(1, || make.is_finished()).await;
    let store = replicas.stores[1].clone();
    let pin = tokio::spawn(async move {
        let change = AccountChange { tags: Some(vec![tag("t")]), ..AccountChange::default() };
        store.update(key(1), change).await.unwrap()
    });
    gate.until_waiting(2, || pin.is_finished()).await;
    assert!(!make.is_finished() && !pin.is_finished());
    gate.open().await;
    make.await.unwrap();
    pin.await.unwrap();
    assert!(held(&replicas.ask_of(1, world.ask(1, 5).await).await));
    assert_eq!(reason(&replicas.ask_of(0, world.ask(1, 1).await).await), Some(DenialReason::BudgetTooSmall));
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_that_moves_at_one_replica_charges_its_new_organization_at_the_others() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.family(1_000_000, 1_000_000, 1_000_000, 1_000_000).await;
    world.make(AccountKind::Organization, "other", AccountSpec::default()).await;
    let other = || AccountRef::Id(AccountKind::Organization, "other".into());
    for replica in [0, 1] {
        assert!(held(&replicas.ask_of(replica, world.ask(1, 2).await).await));
    }
    let before = world.ask(1, 3).await;
    let owners = Owners { organization: Some("other".into()), ..Owners::default() };
    let moved = AccountChange { owners: Some(owners), ..AccountChange::default() };
    replicas.stores[0].update(team(), moved).await.unwrap();
    let verdict = replicas.ask_of(1, before).await;
    assert!(matches!(verdict, Verdict::Stale(..)), "{verdict:?}");
    assert!(held(&replicas.ask_of(1, world.ask(1, 3).await).await));
    assert_eq!((world.balance(organization()).await, world.balance(other()).await), ((0, 4_000), (0, 3_000)));
    replicas.end().await;
}

/// A replica remembers which balance is the present one of each window; another window at the same place has another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_window_at_one_replica_has_a_balance_of_its_own_at_the_others() {
    let replicas = Replicas::new(1).await;
    let world = &replicas.world;
    world.make_key(1, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    world.make(AccountKind::Tag, "t", capped(limits(&[(1_000_000, "1d")]))).await;
    // Of the accounts of a key, one that has changed makes a replica read all of it again; of a tag's, only what has changed.
    let tagged = AccountRef::Tag { scope: TagScope::Installation, tag: "t".into() };
    let before = world.ask(1, 2).await;
    assert!(held(&replicas.ask_of(0, before).await));
    for (amount, duration) in [(900_000, "1mo"), (800_000, "1w"), (700_000, "1d")] {
        world.set_limits(tagged.clone(), &[(amount, duration)]).await;
        let (posted, pending) = world.window(tagged.clone(), 0).await;
        let ask = world.ask(1, 3).await;
        assert!(held(&replicas.ask_of(0, ask).await));
        assert_eq!(world.window(tagged.clone(), 0).await, (posted, pending + 3_000), "{duration}");
    }
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_account_deleted_at_one_replica_binds_nothing_at_the_others() {
    let replicas = Replicas::new(1).await;
    let world = &replicas.world;
    world.make_key(1, AccountSpec { tags: vec![tag("t")], ..AccountSpec::default() }).await;
    let tagged = AccountRef::Tag { scope: TagScope::Installation, tag: "t".into() };
    let tag_account = || capped(vec![limit(4_000, "")]);
    world.make(AccountKind::Tag, "t", tag_account()).await;
    let ask = async |input| replicas.ask_of(0, world.ask(1, input).await).await;
    assert!(held(&ask(3).await));
    assert_eq!(reason(&ask(2).await), Some(DenialReason::BudgetTooSmall));
    world.store().delete(vec![tagged.clone()]).await.unwrap();
    assert!(held(&ask(2).await), "there is no such account");
    world.make(AccountKind::Tag, "t", tag_account()).await;
    assert_eq!(world.window(tagged, 0).await, (0, 5_000), "it counts what came meanwhile");
    assert_eq!(reason(&ask(1).await), Some(DenialReason::BudgetTooSmall));
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_one_over_replicas() {
    let replicas = Replicas::new(4).await;
    let world = &replicas.world;
    world.lone_key(1_000_000).await;
    let of_every_one = |amount: Option<i64>| AccountChange {
        session_limit: Some(amount.map(money)),
        ..AccountChange::default()
    };
    let by_name = |amount: Option<i64>| {
        let capped = amount.map(|amount| ("by-name-*".parse().unwrap(), money(amount)));
        AccountChange { session_limits: Some(capped.into_iter().collect()), ..AccountChange::default() }
    };
    let ways: [(&str, &dyn Fn(Option<i64>) -> AccountChange); 2] =
        [("every-one", &of_every_one), ("by-name", &by_name)];
    for (name, cap) in ways {
        world.change(key(1), cap(Some(5_000))).await;
        for round in 0..5 {
            // All of them see it for the first time.
            let mut asks = replicas.asks(&[1], 12, 2).await;
            asks.iter_mut().for_each(|ask| ask.session = Some(format!("{name}-{round}")));
            let verdicts = replicas.race(asks).await;
            assert_eq!(verdicts.iter().filter(|verdict| held(verdict)).count(), 2, "{name}");
        }
        let ask = async || HoldAsk { session: Some(format!("{name}-0")), ..world.ask(1, 1).await };
        replicas.stores[0].update(key(1), cap(Some(8_000))).await.unwrap();
        for replica in [1, 2, 3] {
            assert!(held(&replicas.ask_of(replica, ask().await).await), "{name}: raised");
        }
        replicas.stores[3].update(key(1), cap(Some(7_500))).await.unwrap();
        let verdict = replicas.ask_of(1, ask().await).await;
        assert_eq!(reason(&verdict), Some(DenialReason::BudgetTooSmall), "{name}: lowered");
        replicas.stores[2].update(key(1), cap(None)).await.unwrap();
        assert!(held(&replicas.ask_of(3, ask().await).await), "{name}: taken away");
    }
    replicas.end().await;
}

/// A window that one of them has opened is open for all, and is opened once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_clocks_minutes_apart_agree_on_the_window() {
    let mut replicas = Replicas::alone().await;
    let midnight = NOON.plus_ms(12 * HOUR_MS);
    let clock = |ms: i64| Clock::stopped(midnight.plus_ms(ms));
    for (ahead, minutes) in [(false, 3), (true, 4), (false, 1)] {
        let ms = if ahead { 60_000 * minutes } else { -60_000 * minutes };
        replicas.join(Some(clock(ms))).await;
    }
    let world = &replicas.world;
    world.clock.set(midnight.plus_ms(-240_000));
    world.make_key(1, capped(vec![limit(5_000, "1d")])).await;
    let ask = async |input| world.ask(1, input).await;
    let yesterday = ask(5).await;
    let first = yesterday.id;
    assert!(held(&replicas.ask_of(0, yesterday).await));
    assert_eq!(reason(&replicas.ask_of(2, ask(1).await).await), Some(DenialReason::BudgetTooSmall));
    assert!(held(&replicas.ask_of(1, ask(3).await).await), "today");
    // By their own clocks it is still yesterday.
    for replica in [0, 2] {
        let Verdict::Denied(denied) = replicas.ask_of(replica, ask(3).await).await else {
            panic!("held twice")
        };
        assert_eq!(denied.reason, DenialReason::BudgetTooSmall);
        assert_eq!(denied.amounts.unwrap().pending, money(3_000));
        assert_eq!(denied.resets_at, Some(midnight.plus_ms(24 * HOUR_MS)));
    }
    assert_eq!(replicas.tell(2, first, 1, settle(5, 0)).await, Outcome::Applied);
    assert!(held(&replicas.ask_of(2, ask(2).await).await));
    assert_eq!(world.balance(key(1)).await, (5_000, 5_000));
    assert_eq!(world.window(key(1), 0).await, (0, 5_000));
    replicas.end().await;
}

/// Without a clock of their own, the database's decides for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_the_database_is_that_of_its_replicas() {
    let mut replicas = Replicas::alone().await;
    // The world's clock is long past, so that it moves nothing.
    replicas.world.clock.set(NOON.plus_ms(-2_000 * 24 * HOUR_MS));
    replicas.world.make_key(1, AccountSpec::default()).await;
    for _ in 0..3 {
        replicas.join(None).await;
    }
    let (mut made, world) = (Vec::new(), &replicas.world);
    for turn in 0..12 {
        let ask = world.ask(1, 1).await;
        made.push(ask.id);
        assert!(held(&replicas.ask_of(turn % 3, ask).await));
    }
    let mut times = Vec::new();
    for hold in made {
        times.push(world.log(hold).await.started_at);
    }
    assert!(times.is_sorted(), "{times:?}");
    let told = tokio::task::block_in_place(|| {
        crate::cluster::Cluster::shared()
            .sql("postgres", "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    });
    let now: i64 = told.trim().parse().unwrap();
    assert!((now - times[0].unix_ms()).abs() < 600_000, "by the database's clock: {now} {times:?}");
    replicas.end().await;
}

/// The clock of a database, so many milliseconds off, for the sessions that begin from now on.
const OFF: &str =
    "CREATE SCHEMA shifted; CREATE TABLE shifted.by (ms bigint); INSERT INTO shifted.by VALUES (0);
    CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
        $$ SELECT pg_catalog.clock_timestamp() + (SELECT ms FROM shifted.by) * interval '1 millisecond' $$;
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = public, shifted, pg_catalog', current_database());
    END $$";

impl Replicas {
    /// Whatever the database's clock shows, it is this far off.
    async fn shift(&self, ms: i64) {
        self.sql(&format!("UPDATE shifted.by SET ms = {ms}")).await;
    }

    async fn sql(&self, statements: &str) {
        let address = &self.world.backend.address;
        let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(statements).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    }

    /// Waits until what keeps a replica from writing, if anything does, is so.
    async fn until_trouble(&self, replica: usize, is: impl Fn(Option<&str>) -> bool) {
        while !is(self.stores[replica].trouble().as_deref()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Of ledgers that do not agree on the time only those that go by the database's clock write; the others are not ready, and say why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_out_of_step_with_its_database_is_not_ready() {
    let mut replicas = Replicas::alone().await;
    // The world's clock is long past, so that it moves nothing.
    replicas.world.clock.set(NOON.plus_ms(-2_000 * 24 * HOUR_MS));
    replicas.world.lone_key(1_000_000).await;
    replicas.sql(OFF).await;
    replicas.join(None).await;
    // Near enough to be followed.
    for near_ms in [0, 5_000, -4_000] {
        replicas.shift(near_ms).await;
        let ask = replicas.world.ask(1, 1).await;
        assert!(held(&replicas.ask_of(0, ask).await));
    }
    for (off_ms, said) in [(HOUR_MS, "ahead of the ledger's"), (-HOUR_MS, "behind the ledger's")] {
        replicas.shift(off_ms).await;
        let ask = replicas.world.ask(1, 1).await;
        let refused = replicas.stores[0].hold(ask, Vec::new()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        replicas.until_trouble(0, |why| why.is_some_and(|why| why.contains(said))).await;
        replicas.shift(0).await;
        replicas.until_trouble(0, |why| why.is_none()).await;
        let ask = replicas.world.ask(1, 1).await;
        assert!(held(&replicas.ask_of(0, ask).await), "set right");
    }
    // It finds out by itself, too, and one that starts after the jump goes by the new time.
    replicas.shift(HOUR_MS).await;
    replicas.until_trouble(0, |why| why.is_some()).await;
    replicas.join(None).await;
    let ask = replicas.world.ask(1, 1).await;
    assert!(held(&replicas.ask_of(1, ask).await));
    replicas.end().await;
}

/// Accounts that overlap in every order, with admin changes and reports in between: nothing waits for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_accounts_at_four_replicas_never_fail() {
    let replicas = Replicas::new(4).await;
    let world = &replicas.world;
    let wide = || capped(limits(&[(1_000_000_000, ""), (1_000_000_000, "1d")]));
    for kind in [AccountKind::Team, AccountKind::User] {
        for id in ["a", "b", "c"] {
            world.make(kind, id, wide()).await;
        }
    }
    world.make(AccountKind::Tag, "t", wide()).await;
    let pairs = [("a", "b"), ("b", "a"), ("c", "a"), ("a", "c"), ("b", "c"), ("c", "b")];
    for (number, (team, user)) in (1..).zip(pairs) {
        let tags = if number % 2 == 0 { vec![tag("t")] } else { Vec::new() };
        world.make_key(number, AccountSpec { tags, ..of_team(team, Some(user)) }).await;
    }
    let mut tasks = Vec::new();
    for turn in 0..240_u8 {
        let number = turn % 6 + 1;
        let ask = world.ask(number, 1).await;
        let store = replicas.stores[usize::from(turn) % 4].clone();
        let other = replicas.stores[usize::from(turn + 1) % 4].clone();
        tasks.push(tokio::spawn(async move {
            let id = ask.id;
            let (verdict, _) = store.hold(ask, Vec::new()).await.unwrap();
            assert!(held(&verdict), "{verdict:?}");
            let report = Report { hold: id, key: digest(number), sequence: 1, event: settle(1, 0) };
            assert_eq!(other.report(vec![report]).await.unwrap(), [Outcome::Applied]);
        }));
    }
    for turn in 0..12 {
        // It touches no policy version of the asks above: an account that none of them charges.
        let id = format!("idle-{turn}");
        let new = World::<Postgres>::new_account(AccountKind::Team, &id, wide());
        replicas.stores[turn % 4].create(new).await.unwrap();
    }
    for task in tasks {
        task.await.unwrap();
    }
    for id in ["a", "b", "c"] {
        let team = AccountRef::Id(AccountKind::Team, id.into());
        assert_eq!(world.balance(team).await, (80_000, 0));
    }
    replicas.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_a_batch_waits_for_its_locks_shares_its_transaction() {
    let replicas = Replicas::new(2).await;
    let world = &replicas.world;
    world.family(5_000, 1_000_000, 1_000_000, 1_000_000).await;
    for number in [2, 3] {
        world.make_key(number, of_team("team", None)).await;
    }
    // Only who is known can join.
    for number in [1, 2, 3] {
        assert!(held(&replicas.ask_of(0, world.ask(number, 1).await).await));
    }
    let gate = Gate::at_accounts(&world.backend.address, "organization").await;
    let first = tokio::spawn({
        let (store, ask) = (replicas.stores[0].clone(), world.ask(1, 1).await);
        async move { store.hold(ask, Vec::new()).await.unwrap().0 }
    });
    gate.until_waiting(1, || first.is_finished()).await;
    let mut late = Vec::new();
    for number in [2, 3, 2] {
        let ask = world.ask(number, 1).await;
        let mut answer = Box::pin(replicas.stores[0].hold(ask, Vec::new()));
        // It waits in the ledger from now on.
        assert!(poll_fn(|context| Poll::Ready(answer.as_mut().poll(context).is_pending())).await);
        late.push(answer);
    }
    gate.open().await;
    assert!(held(&first.await.unwrap()));
    let mut answers = Vec::new();
    for answer in late {
        answers.push(answer.await.unwrap().0);
    }
    // The organization has room for five, of which three were there.
    assert_eq!(answers.iter().filter(|answer| held(answer)).count(), 1, "{answers:?}");
    let name = world.backend.address.rsplit_once('/').unwrap().1;
    let transactions =
        "SELECT count(DISTINCT xmin::text) FROM (SELECT xmin FROM hold ORDER BY hold DESC LIMIT 2) latest";
    assert_eq!(crate::cluster::Cluster::shared().sql(name, transactions), "1");
    replicas.end().await;
}
