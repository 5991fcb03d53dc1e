//! What each payer was charged, by quarter hours: what a limit that is added later finds of its window's past, in as many rows as
//! there are quarters of an hour, however many requests there were.
//!
//! Hours and days of every time zone are whole quarters of an hour. Holds made before [`spent_until`] are in these sums, as they are
//! in those by the hour (`sums`), and stay in them when they leave the books.

use super::check::{Audit, RETIRED_UNTIL};
use super::code::{corrupt, list};
use super::memory::Books;
use super::meta;
use super::sums::{HOUR_MS, ROLLED_UNTIL, Span, rolled_until};
use crate::store::sql::{self, Row, Sql, Value, values};
use std::collections::BTreeMap;
use tollgate_domain::ids::Tag;
use tollgate_domain::time::Timestamp;

/// Until when holds are in these sums, in `meta`. A name of its own since the tags of each key are among them: sums without those are
/// made anew.
const SPENT_UNTIL: &str = "spent_with_keys_until";
pub(super) const QUARTER_MS: i64 = 900_000;

/// The organization of a tag that is of all of them.
const ANY: i64 = -1;

/// Who is charged: an account, or a binding tag of requests in an organization or by a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Payer {
    row: i64,
    tag: String,
}

impl Payer {
    pub(super) fn account(row: i64) -> Self {
        Self { row, tag: String::new() }
    }

    /// Of the requests that charge this account, an organization or a key, or of all.
    pub(super) fn tag(tag: &Tag, within: Option<i64>) -> Self {
        Self { row: within.unwrap_or(ANY), tag: tag.as_str().to_owned() }
    }
}

/// What payers are charged, by quarter and model; in one order, so that no two ledgers wait for each other.
#[derive(Debug, Default)]
struct Amounts(BTreeMap<(Payer, i64, String), i64>);

/// What holds, or sums of them, were charged: the columns that [`Amounts::add`] reads.
macro_rules! charged {
    ($moment:literal, $rest:literal) => {
        concat!(
            r#"SELECT key, organization, team, "user", tags, binding_tags, model, "#,
            $moment,
            ", CAST(sum(posted) AS BIGINT) FROM ",
            $rest,
            " AND posted <> 0 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
        )
    };
}

impl Amounts {
    fn of(rows: &[Row], sign: i64) -> sql::Result<Self> {
        let mut amounts = Self::default();
        for row in rows {
            amounts.add(row, sign)?;
        }
        Ok(amounts)
    }

    fn add(&mut self, row: &Row, sign: i64) -> sql::Result<()> {
        let posted = row.int(8)?.checked_mul(sign).ok_or_else(|| corrupt("amount"))?;
        let mut payers: Vec<Payer> = Vec::new();
        for index in 0..4 {
            payers.extend(row.maybe_int(index)?.filter(|account| *account != ANY).map(Payer::account));
        }
        let (key, organization) = (row.maybe_int(0)?, row.maybe_int(1)?);
        for tag in binding(row, 4, 5)? {
            payers.push(Payer::tag(&tag, None));
            let within = [key, organization].into_iter().flatten().filter(|account| *account != ANY);
            payers.extend(within.map(|account| Payer::tag(&tag, Some(account))));
        }
        for payer in payers {
            let sum = self.0.entry((payer, row.int(7)?, row.text(6)?.to_owned())).or_default();
            *sum = sum.checked_add(posted).ok_or_else(|| corrupt("sum of amounts"))?;
        }
        Ok(())
    }

    fn write(&self, db: &dyn Sql) -> sql::Result<()> {
        let row = |((payer, quarter, model), posted): (&'_ (Payer, i64, String), &i64)| {
            (payer.row, payer.tag.clone(), *quarter, model.clone(), *posted)
        };
        let rows: Vec<_> = self.0.iter().map(row).collect();
        let each: Vec<Vec<Value<'_>>> = rows
            .iter()
            .map(|(payer, tag, quarter, model, posted)| {
                values![*payer, tag, *quarter, model, *posted].to_vec()
            })
            .collect();
        db.execute_each(
            "INSERT INTO spent (payer, tag, quarter, model, posted) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (payer, tag, quarter, model) DO UPDATE SET posted = spent.posted + excluded.posted",
            &each,
        )
    }
}

/// The binding tags of a row: the first ones of its list.
pub(super) fn binding(row: &Row, tags: usize, binding: usize) -> sql::Result<Vec<Tag>> {
    let count = usize::try_from(row.int(binding)?).unwrap_or(0);
    let Some(json) = row.maybe_text(tags)?.filter(|json| count > 0 && !json.is_empty()) else {
        return Ok(Vec::new());
    };
    Ok(list::<Tag>("tags", json)?.into_iter().take(count).collect())
}

/// Until when holds are in these sums. It changes only together with the hours' sums.
pub(super) fn spent_until(db: &dyn Sql) -> sql::Result<Timestamp> {
    Ok(Timestamp::new(meta::number(db, SPENT_UNTIL)?.unwrap_or(i64::MIN)))
}

/// What a payer was charged in a span of whole quarters; for a model, or for all.
pub(super) fn between(db: &dyn Sql, payer: &Payer, model: &str, span: Span) -> sql::Result<i64> {
    let rows = if model.is_empty() {
        db.query(
            "SELECT CAST(sum(posted) AS BIGINT) FROM spent
             WHERE payer = $1 AND tag = $2 AND quarter >= $3 AND quarter < $4",
            &values![payer.row, &payer.tag, span.0, span.1],
        )?
    } else {
        db.query(
            "SELECT CAST(sum(posted) AS BIGINT) FROM spent
             WHERE payer = $1 AND tag = $2 AND quarter >= $3 AND quarter < $4 AND model = $5",
            &values![payer.row, &payer.tag, span.0, span.1, model],
        )?
    };
    Ok(rows.first().map(|row| row.maybe_int(0)).transpose()?.flatten().unwrap_or(0))
}

/// A span as it can still be divided: where requests may have left, a quarter of an hour is whole, and counts in the window that
/// begins in it. So nothing is counted twice or freed early.
pub(super) fn divisible(db: &dyn Sql, (start, end): Span) -> sql::Result<Span> {
    let retired = meta::number(db, RETIRED_UNTIL)?.unwrap_or(i64::MIN);
    Ok((bound(start, retired), bound(end, retired)))
}

fn bound(at: i64, retired_until: i64) -> i64 {
    let quarter = at.saturating_sub(at.rem_euclid(QUARTER_MS));
    if quarter < retired_until { quarter } else { at }
}

impl Books<'_> {
    /// Adds the holds made up to `until`, where they are not in the sums yet.
    pub(super) fn add_spent(&mut self, until: Timestamp) -> sql::Result<()> {
        let from = spent_until(self.db)?;
        let made = self.db.query(
            charged!("created_at - created_at % 900000", "hold WHERE created_at >= $1 AND created_at < $2"),
            &values![from.unix_ms(), until.unix_ms()],
        )?;
        Amounts::of(&made, 1)?.write(self.db)?;
        meta::set(self.db, SPENT_UNTIL, &until.unix_ms().to_be_bytes())
    }

    /// Adds `sign` times a hold that is in the sums.
    pub(super) fn change_spent(&mut self, hold: i64, sign: i64) -> sql::Result<()> {
        self.send()?;
        let charged = self
            .db
            .query(charged!("created_at - created_at % 900000", "hold WHERE hold = $1"), &values![hold])?;
        Amounts::of(&charged, sign)?.write(self.db)
    }
}

/// Fills the sums of books that were written before there were any, or these, from the hours' sums where requests have left, else from the
/// requests. Of what has left, only the hour is known.
pub(super) fn fill(db: &dyn Sql) -> sql::Result<()> {
    if db.is_shared() {
        // Whoever else starts, sums, or changes a hold that is summed, waits.
        db.query("SELECT value FROM meta WHERE name = $1 FOR UPDATE", &values![ROLLED_UNTIL])?;
    }
    if meta::number(db, SPENT_UNTIL)?.is_some() {
        return Ok(());
    }
    db.execute("DELETE FROM spent", &[])?;
    let rolled = rolled_until(db)?.unix_ms();
    let retired = meta::number(db, RETIRED_UNTIL)?.unwrap_or(i64::MIN);
    for hour in db.query("SELECT DISTINCT hour FROM rollup", &[])? {
        let hour = hour.int(0)?;
        let charged = if hour < retired {
            db.query(charged!("hour", "rollup WHERE hour = $1"), &values![hour])?
        } else {
            db.query(
                charged!(
                    "created_at - created_at % 900000",
                    "hold WHERE created_at >= $1 AND created_at < $2"
                ),
                &values![hour, hour.saturating_add(HOUR_MS).min(rolled)],
            )?
        };
        Amounts::of(&charged, 1)?.write(db)?;
    }
    meta::set(db, SPENT_UNTIL, &rolled.to_be_bytes())
}

/// Compares what each payer was charged with the hours' sums.
pub(super) fn compare(db: &dyn Sql, report: &mut Audit) -> sql::Result<()> {
    let mut sums: BTreeMap<Payer, i64> = BTreeMap::new();
    // Where sums by the hour are ahead, a ledger of the release before has made them, and the next sweep follows.
    if spent_until(db)? != rolled_until(db)? {
        return Ok(());
    }
    let hours = db.query(charged!("CAST(0 AS BIGINT)", "rollup WHERE hour >= $1"), &values![i64::MIN])?;
    for ((payer, _, _), posted) in Amounts::of(&hours, 1)?.0 {
        let sum = sums.entry(payer).or_default();
        *sum = sum.saturating_add(posted);
    }
    for row in
        db.query("SELECT payer, tag, CAST(sum(posted) AS BIGINT) FROM spent GROUP BY payer, tag", &[])?
    {
        let payer = Payer { row: row.int(0)?, tag: row.text(1)?.to_owned() };
        let (spent, summed) = (row.int(2)?, sums.remove(&payer).unwrap_or(0));
        if spent != summed {
            report.fault(format!("{payer}: it says {spent}, the sums by the hour say {summed}"));
        }
    }
    for (payer, summed) in sums.into_iter().filter(|(_, summed)| *summed != 0) {
        report.fault(format!("{payer}: it says 0, the sums by the hour say {summed}"));
    }
    Ok(())
}

impl std::fmt::Display for Payer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { row, tag } if tag.is_empty() => write!(f, "spent of account {row}"),
            Self { row: ANY, tag } => write!(f, "spent of tag {tag}"),
            Self { row, tag } => write!(f, "spent of tag {tag} within account {row}"),
        }
    }
}
