//! Each hold against its lines: what a row says of a request's money follows from the journal, and is compared with it.
//!
//! Of a hold's lines little is kept while they are read, because there may be many millions: sums, and digests of what must be
//! the same in the row.

use super::{Audit, each_row};
use crate::store::HoldState;
use crate::store::books::code::{classes, pack, state, unpack_ids, usage};
use crate::store::books::journal::Line;
use crate::store::books::moments;
use crate::store::books::rows::digest_of;
use crate::store::sql::{self, Row, Sql, values};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use tollgate_domain::account::AccountKind;

/// What the lines about one hold say.
#[derive(Default)]
struct Story {
    posted: i64,
    pending: i64,
    /// What was held, all in all.
    held: i64,
    overrun: i64,
    made: Option<Moment>,
    end: Option<(Moment, u64)>,
    settled: u8,
    voided: u8,
    expired: u8,
}

/// When a line was written, and which balances it names.
#[derive(Clone, Copy)]
struct Moment {
    at: i64,
    /// How long the list of balances is, and its digest.
    balances: (usize, u64),
}

impl Moment {
    fn of(line: &Line<'_>) -> Self {
        Self { at: line.at, balances: (line.balances.len(), digest(line.balances)) }
    }

    /// Whether a list of balances begins with those of the line: a limit that came later has added its own at the end.
    fn begins(&self, balances: &[u8]) -> bool {
        let (length, of_line) = self.balances;
        balances.get(..length).is_some_and(|begin| digest(begin) == of_line)
    }

    fn is(&self, balances: &[u8]) -> bool {
        self.balances.0 == balances.len() && self.begins(balances)
    }
}

fn digest(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Of a line that ends a hold, and of the row that has ended: the model that was priced, the usage, and whether it is estimated.
fn digest_of_end(model: Option<&str>, usage: Option<&[u8]>, estimated: bool) -> u64 {
    digest((model, usage, estimated))
}

impl Story {
    fn add(&mut self, line: &Line<'_>) {
        self.posted = self.posted.wrapping_add(line.posted);
        self.pending = self.pending.wrapping_add(line.pending);
        self.overrun = self.overrun.max(line.overrun);
        let end = Some((Moment::of(line), digest_of_end(line.model, line.usage, line.estimated)));
        match line.kind {
            "hold" => {
                self.held = self.held.wrapping_add(line.pending);
                self.made = Some(Moment::of(line));
            }
            "adjust" => self.held = self.held.wrapping_add(line.pending),
            "settle" => {
                self.settled = self.settled.saturating_add(1);
                self.end = end;
            }
            "void" => {
                self.voided = self.voided.saturating_add(1);
                self.end = end;
            }
            // What was said later stands; lines of several ledgers are in no order.
            "expire" => {
                self.expired = self.expired.saturating_add(1);
                self.end = self.end.or(end);
            }
            // The late settle of an expired hold. What an administrator corrects says nothing of usage.
            "correct" if line.usage.is_some() || line.estimated => self.end = end,
            _ => {}
        }
    }
}

/// The lines of every hold.
#[derive(Default)]
pub(super) struct Stories(HashMap<i64, Story>);

/// What balances and accounts say, for the holds that name them.
#[derive(Default)]
pub(super) struct Accounts {
    /// Whose a balance is.
    pub(super) of_balance: HashMap<i64, i64>,
    /// The kinds of accounts that a hold names beside its balances.
    kinds: HashMap<i64, AccountKind>,
    /// Whether the clock was: then a hold can expire before the moment that decided its windows.
    set_back: bool,
}

/// The columns of a hold that name an account, and the kind of each.
const OWNERS: [(&str, AccountKind, usize); 4] = [
    ("key", AccountKind::Key, 8),
    ("organization", AccountKind::Organization, 9),
    ("team", AccountKind::Team, 10),
    ("user", AccountKind::User, 11),
];

impl Stories {
    pub(super) fn add(&mut self, line: &Line<'_>) {
        if let Some(hold) = line.hold {
            self.0.entry(hold).or_default().add(line);
        }
    }

    /// Compares every hold with its lines.
    pub(super) fn compare(
        mut self,
        db: &dyn Sql,
        mut accounts: Accounts,
        report: &mut Audit,
    ) -> sql::Result<()> {
        accounts.kinds = kinds(db)?;
        accounts.set_back = moments::was_set_back(db)?;
        let holds = r#"SELECT hold, state, amount, posted, overrun, balances, created_at, expires_at,
                 key, organization, team, "user", priced_model, estimated, ended_at, tags, tags_digest,
                 input, cache_read, cache_write_5m, cache_write_1h, output, web_searches
             FROM hold WHERE hold > $1 ORDER BY hold LIMIT $2"#;
        each_row(db, "hold", holds, i64::MIN, |row| {
            let hold = row.int(0)?;
            report.holds += 1;
            let story = self.0.remove(&hold).unwrap_or_default();
            if let Err(error) = compare(row, &story, &accounts, report) {
                report.fault(format!("hold {hold}: {}", error.why));
            }
            Ok(())
        })?;
        for hold in self.0.into_keys() {
            report.fault(format!("hold {hold}: entries name it, and it is not there"));
        }
        compare_references(db, report)
    }
}

/// Of the accounts that holds name.
fn kinds(db: &dyn Sql) -> sql::Result<HashMap<i64, AccountKind>> {
    let mut kinds = HashMap::new();
    for (_, kind, _) in OWNERS {
        let rows = db.query("SELECT account FROM account WHERE kind = $1", &values![kind.as_str()])?;
        for row in &rows {
            kinds.insert(row.int(0)?, kind);
        }
    }
    Ok(kinds)
}

fn compare(row: &Row, story: &Story, accounts: &Accounts, report: &mut Audit) -> sql::Result<()> {
    let (hold, state) = (row.int(0)?, state(row.int(1)?)?);
    compare_money(row, state, story, report)?;
    let mut differs = |what: &str| report.fault(format!("hold {hold}: {what} is not what its entries say"));
    if row.int(4)? != story.overrun {
        differs("overrun");
    }
    let Some(made) = &story.made else { return Ok(()) };
    if row.int(6)? != made.at {
        differs("created_at");
    }
    if row.int(7)? < made.at && !accounts.set_back {
        differs("expires_at");
    }
    let balances = row.blob(5)?;
    if !made.begins(balances) {
        differs("balances");
        return Ok(());
    }
    let begin = balances.get(..made.balances.0).unwrap_or_default();
    compare_owners(row, begin, accounts, &mut differs)?;
    compare_end(row, state, story, &mut differs)?;
    if row.maybe_text(15)?.map_or(0, digest_of) != row.int(16)? {
        report.fault(format!("hold {hold}: tags_digest is not that of its tags"));
    }
    Ok(())
}

fn compare_money(row: &Row, state: HoldState, story: &Story, report: &mut Audit) -> sql::Result<()> {
    let (hold, amount, posted) = (row.int(0)?, row.int(2)?, row.int(3)?);
    let pending = if state == HoldState::Pending { amount } else { 0 };
    if (posted, pending) != (story.posted, story.pending) {
        report.fault(format!(
            "hold {hold}: it says {posted} posted and {pending} pending, its entries say {} and {}",
            story.posted, story.pending
        ));
    } else if amount != story.held {
        report.fault(format!("hold {hold}: amount is {amount}, its entries say {}", story.held));
    }
    let ends = (story.settled, story.voided, story.expired);
    let right = match state {
        HoldState::Pending => ends == (0, 0, 0),
        // The late settle of an expired hold is a correction.
        HoldState::Settled => matches!(ends, (1, 0, 0) | (0, 0, 1)),
        HoldState::Voided => matches!(ends, (0, 1, 0 | 1)),
        HoldState::Expired => ends == (0, 0, 1),
    };
    if !right {
        let (settled, voided, expired) = ends;
        report.fault(format!(
            "hold {hold}: it is {state:?}, and was settled {settled} times, voided {voided}, expired {expired}"
        ));
    }
    Ok(())
}

/// Each owner is charged, and nobody else of its kind.
fn compare_owners(
    row: &Row,
    balances: &[u8],
    accounts: &Accounts,
    differs: &mut impl FnMut(&str),
) -> sql::Result<()> {
    let charged: Vec<i64> = unpack_ids(balances)?
        .iter()
        .filter_map(|balance| accounts.of_balance.get(balance).copied())
        .collect();
    for (column, kind, index) in OWNERS {
        let mut of_kind = charged.iter().filter(|account| accounts.kinds.get(account) == Some(&kind));
        let right = match row.maybe_int(index)? {
            Some(owner) => of_kind.any(|account| *account == owner),
            None => of_kind.next().is_none(),
        };
        if !right {
            differs(column);
        }
    }
    Ok(())
}

fn compare_end(
    row: &Row,
    state: HoldState,
    story: &Story,
    differs: &mut impl FnMut(&str),
) -> sql::Result<()> {
    let (balances, ended_at) = (row.blob(5)?, row.maybe_int(14)?);
    let Some((moment, end)) = story.end.as_ref().filter(|_| state != HoldState::Pending) else {
        if state == HoldState::Pending
            && (row.maybe_text(12)?, row.flag(13)?, ended_at) != (None, false, None)
        {
            differs("an end that has not come");
        }
        return Ok(());
    };
    let usage = usage(row, 17)?.map(|usage| pack(classes(&usage)));
    if digest_of_end(row.maybe_text(12)?, usage.as_deref(), row.flag(13)?) != *end {
        differs("priced_model, estimated or the usage");
    }
    let (same_balances, same_moment) = match state {
        // The provider's answer has ended before its report came.
        HoldState::Settled => (moment.is(balances), ended_at.is_some_and(|at| at <= moment.at)),
        HoldState::Expired => (moment.begins(balances), ended_at == Some(moment.at)),
        _ => (moment.is(balances), ended_at == Some(moment.at)),
    };
    if !same_balances {
        differs("balances");
    }
    if !same_moment {
        differs("ended_at");
    }
    Ok(())
}

/// Rows that a hold refers to, and that are never removed.
fn compare_references(db: &dyn Sql, report: &mut Audit) -> sql::Result<()> {
    for (what, statement) in [
        (
            "its digest is no credential of its key",
            "SELECT hold FROM hold WHERE NOT EXISTS
                 (SELECT 1 FROM credential WHERE credential.digest = hold.digest AND credential.account = hold.key)",
        ),
        (
            "its price_revision is that of no book",
            "SELECT hold FROM hold WHERE NOT EXISTS
                 (SELECT 1 FROM price_book WHERE price_book.revision = hold.price_revision)",
        ),
    ] {
        for row in &db.query(statement, &[])? {
            report.fault(format!("hold {}: {what}", row.int(0)?));
        }
    }
    Ok(())
}
