//! The part of the operator that waits, asks and writes. What is to be done is the [plan](crate::plan)'s word alone.
//!
//! One task owns the snapshot. It takes in what watches, the ledger and its own writes tell, makes a plan, carries it out, and takes in what
//! came of that, until a plan is empty. Then nothing happens until something does.

mod act;
mod gauges;
mod leader;
mod ledger;
mod list;
mod mirror;
mod publish;
mod watch;

pub use gauges::{Gauges, routes as health};
pub use leader::follow as follow_leader;
pub use ledger::{Away, Ledger, Pass};
pub use list::{Books, Door, list};

use crate::clock;
use crate::plan::{self, CaBundle, ObjectName, Settings};
use crate::resources::{Budget, Organization, PriceBook, Team, User, VirtualKey};
use act::{Actor, Effect};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::runtime::watcher;
use kube::{Api, Client};
use mirror::{Change, Mirror, Urgency, Versioned};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_domain::time::Timestamp;

/// Changes that wait to be taken in; beyond, watches wait.
const CHANGES_MAX: usize = 1_024;
/// What comes together is planned together.
const GATHER: Duration = Duration::from_millis(20);
/// Money moves with every request; statuses follow this often.
const MONEY_EVERY: Duration = Duration::from_secs(3);
/// Actions of one round. A change that comes meanwhile is seen in the next one.
const ACTIONS_MAX: usize = 512;
/// After a round in which something failed: the first pause, and the longest.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest sleep, so that a clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(600);
/// After this long it is tried again whether somebody's Secret still is in the way: Secrets of others are not watched.
const CONFLICT_KEPT: Duration = Duration::from_secs(60);

/// Everything that the operator works on and with.
pub struct Operator {
    /// The cluster.
    pub client: Client,
    /// The ledger.
    pub ledger: Ledger,
    /// What the installation says.
    pub settings: Settings,
    /// The authorities by which clients know the ingress; they change, rarely.
    pub bundle: channel::Receiver<CaBundle>,
    /// This replica's name.
    pub instance: String,
    /// What is shown of it.
    pub gauges: Arc<Gauges>,
}

impl Operator {
    /// Works while `leads` says so, until `stop`.
    pub async fn run(self, mut leads: channel::Receiver<bool>, stop: impl Future<Output = ()>) {
        let (told, mut changes) = mpsc::channel(CHANGES_MAX);
        // Ends with this future, and with it every watch.
        let _watches = self.watch(&told);
        drop(told);
        let actor = Actor::new(self.client, self.ledger, self.instance);
        let mut bundle = self.bundle;
        let mut work = Work::new(actor, self.settings, self.gauges);
        let mut stop = std::pin::pin!(stop);
        loop {
            work.leads = *leads.borrow_and_update();
            work.settings.ca_bundle.clone_from(&bundle.borrow_and_update());
            let due = work.due();
            tokio::select! {
                () = &mut stop => return,
                changed = leads.changed() => if changed.is_err() { return },
                changed = bundle.changed() => match changed {
                    Ok(()) => work.want(),
                    Err(_) => return,
                },
                change = changes.recv() => match change {
                    Some(change) => work.take_all(change, &mut changes),
                    None => return,
                },
                () = sleep_until(due) => tokio::select! {
                    () = &mut stop => return,
                    () = work.round() => {}
                },
            }
        }
    }

    fn watch(&self, told: &mpsc::Sender<Change>) -> JoinSet<()> {
        let mut watches = JoinSet::new();
        macro_rules! follow {
            ($kind:ty, $change:path) => {
                watches.spawn(watch::follow(
                    Api::<$kind>::all(self.client.clone()),
                    watcher::Config::default(),
                    Versioned::<()>::custom,
                    $change,
                    told.clone(),
                ));
            };
        }
        follow!(Organization, Change::Organizations);
        follow!(Team, Change::Teams);
        follow!(User, Change::Users);
        follow!(VirtualKey, Change::VirtualKeys);
        follow!(Budget, Change::Budgets);
        follow!(PriceBook, Change::PriceBooks);
        watches.spawn(watch::follow(
            Api::<Namespace>::all(self.client.clone()),
            watcher::Config::default(),
            Versioned::<()>::namespace,
            Change::Namespaces,
            told.clone(),
        ));
        watches.spawn(watch::follow(
            Api::<Secret>::all(self.client.clone()),
            watcher::Config::default().labels(plan::SECRET_LABEL),
            Versioned::<()>::secret,
            Change::Secrets,
            told.clone(),
        ));
        let (news, mut heard) = mpsc::channel(1);
        let (ledger, told) = (self.ledger.clone(), told.clone());
        watches.spawn(async move { ledger.follow(news).await });
        watches.spawn(async move {
            while let Some(news) = heard.recv().await {
                if told.send(Change::Ledger(news)).await.is_err() {
                    return;
                }
            }
        });
        watches
    }
}

/// This moment, as plans have it.
fn now() -> Timestamp {
    Timestamp::new(clock::now().as_millisecond())
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The snapshot, and when it is worked on next.
struct Work {
    actor: Actor,
    settings: Settings,
    gauges: Arc<Gauges>,
    mirror: Mirror,
    leads: bool,
    /// Somebody waits, since then.
    wanted: Option<Instant>,
    /// Money moved.
    money: bool,
    rounded: Option<Instant>,
    /// What the last plan said.
    wake: Option<Instant>,
    retry: Option<Instant>,
    pause: Duration,
    conflicts: BTreeMap<ObjectName, Instant>,
}

impl Work {
    fn new(actor: Actor, settings: Settings, gauges: Arc<Gauges>) -> Self {
        Self {
            actor,
            settings,
            gauges,
            mirror: Mirror::default(),
            leads: false,
            wanted: None,
            money: false,
            rounded: None,
            wake: None,
            retry: None,
            pause: RETRY_MIN,
            conflicts: BTreeMap::new(),
        }
    }

    /// When the next round is; `None`: not before something happens.
    fn due(&self) -> Option<Instant> {
        if !self.leads || !self.mirror.is_whole() {
            return None;
        }
        let money = self.rounded.filter(|_| self.money).map(|rounded| rounded + MONEY_EVERY);
        let first = self.rounded.is_none().then(Instant::now);
        let wanted = self.wanted.map(|since| since + GATHER);
        let conflict = self.conflicts.values().min().map(|since| *since + CONFLICT_KEPT);
        [first, wanted, money, self.wake, self.retry, conflict].into_iter().flatten().min()
    }

    /// Takes in a change, and those that came with it.
    fn take_all(&mut self, change: Change, changes: &mut mpsc::Receiver<Change>) {
        self.take(change);
        while let Ok(change) = changes.try_recv() {
            self.take(change);
        }
        self.gauges.set(self.leads, &self.mirror);
    }

    /// Somebody waits.
    fn want(&mut self) {
        self.wanted.get_or_insert_with(Instant::now);
    }

    fn take(&mut self, change: Change) {
        match self.mirror.take(change, now()) {
            Urgency::None => {}
            Urgency::Money => self.money = true,
            Urgency::Now => self.want(),
        }
    }

    /// Makes a plan and carries it out.
    async fn round(&mut self) {
        (self.wanted, self.money, self.wake, self.retry) = (None, false, None, None);
        self.forget_conflicts();
        let now = now();
        let plan::Plan { mut actions, wake_at } = plan::plan(self.mirror.world(), &self.settings, now);
        self.rounded = Some(Instant::now());
        self.wake = wake_at.map(|at| {
            let ms = u64::try_from(at.since_ms(now)).unwrap_or_default();
            Instant::now() + Duration::from_millis(ms).min(SLEEP_MAX)
        });
        if actions.len() > ACTIONS_MAX {
            actions.truncate(ACTIONS_MAX);
            self.wanted = Some(Instant::now());
        }
        self.gauges.planned(actions.len());
        let mut failed = false;
        for (effects, failure) in self.actor.carry_out(actions).await {
            for effect in effects {
                self.incorporate(effect);
            }
            if let Some((what, failure)) = failure {
                tracing::warn!(what, error = %failure, "not done");
                self.gauges.failed();
                failed = true;
            }
        }
        if failed {
            self.retry = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(RETRY_MAX);
        } else {
            self.pause = RETRY_MIN;
        }
        self.gauges.set(self.leads, &self.mirror);
    }

    fn incorporate(&mut self, effect: Effect) {
        let now = now();
        match effect {
            Effect::Change(change) => self.take(change),
            Effect::Answer(account, answer) => {
                self.mirror.ledger_mut().answer(*account, answer, now);
                self.want();
            }
            Effect::Deleted(name) => {
                self.mirror.ledger_mut().answer_deleted(&name);
                self.want();
            }
            Effect::Prices(overlay, answer) => {
                self.mirror.ledger_mut().answer_prices(*overlay, answer, now);
                self.want();
            }
            Effect::NotDeleted(name, refusal) => {
                tracing::warn!(
                    id = name.id,
                    reason = refusal.message,
                    "the ledger does not delete an account"
                );
                self.retry = Some(Instant::now() + self.pause);
            }
            Effect::Conflict(name) => {
                self.mirror.put_in_the_way(name.clone());
                self.conflicts.insert(name, Instant::now());
                self.want();
            }
            Effect::SecretRefused(name, said) => {
                self.gauges.failed();
                self.mirror.refuse_secret(name, said, now);
                self.want();
            }
        }
    }

    fn forget_conflicts(&mut self) {
        let mirror = &mut self.mirror;
        self.conflicts.retain(|name, since| {
            let kept = since.elapsed() < CONFLICT_KEPT;
            if !kept {
                mirror.take_out_of_the_way(name);
            }
            kept
        });
    }
}
