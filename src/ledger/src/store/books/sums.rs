//! Sums by the hour of what is long past: what reports and new limits read instead of every request, so that nothing slows down
//! with age.
//!
//! Holds made before `rolled_until` are in the sums, whatever becomes of them: whoever changes one takes it out before and
//! puts it back after.

use super::check::RETIRED_UNTIL;
use super::code::Failure;
use super::memory::Books;
use super::meta;
use super::rows::HoldRow;
use crate::store::sql::{self, Sql, SqlError, SqlErrorKind, values};
use tollgate_domain::time::Timestamp;

/// Until when holds are in the sums, in `meta`.
pub(super) const ROLLED_UNTIL: &str = "rolled_until";
pub(super) const HOUR_MS: i64 = 3_600_000;
/// How long a request is left alone: most have ended by then, and are summed once.
const AGE_MS: i64 = HOUR_MS;
/// Holds that one sweep sums at most, so that it never holds up a batch.
const HOLDS_MAX: i64 = 2_000;

/// Sums `$1` times the holds that the rest of the statement names.
macro_rules! sum_holds {
    ($rest:literal) => {
        concat!(
            r#"SELECT created_at - created_at % 3600000, key, coalesce(organization, -1), coalesce(team, -1),
                 coalesce("user", -1), model, coalesce(priced_model, model), provider, coalesce(tags, ''), tags_digest, binding_tags,
                 CAST(sum(CASE WHEN state IN (1, 3) THEN CAST($1 AS BIGINT) ELSE 0 END) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * posted) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(input, 0)) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(cache_read, 0)) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(cache_write_5m, 0)) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(cache_write_1h, 0)) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(output, 0)) AS BIGINT),
                 CAST(sum(CAST($1 AS BIGINT) * coalesce(web_searches, 0)) AS BIGINT)
             FROM hold WHERE "#,
            $rest,
            " GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
        )
    };
}
pub(super) use sum_holds;

/// Adds `$1` times the holds that the rest of the statement names.
macro_rules! add_holds {
    ($rest:literal) => {
        concat!(
            r#"INSERT INTO rollup (hour, key, organization, team, "user", model, priced_model, provider, tags, tags_digest, binding_tags,
                 requests, posted, input, cache_read, cache_write_5m, cache_write_1h, output, web_searches) "#,
            sum_holds!($rest),
            r#" ON CONFLICT (hour, key, organization, team, "user", model, priced_model, provider, tags_digest, binding_tags)
             DO UPDATE SET requests = rollup.requests + excluded.requests, posted = rollup.posted + excluded.posted,
                 input = rollup.input + excluded.input, cache_read = rollup.cache_read + excluded.cache_read,
                 cache_write_5m = rollup.cache_write_5m + excluded.cache_write_5m,
                 cache_write_1h = rollup.cache_write_1h + excluded.cache_write_1h,
                 output = rollup.output + excluded.output, web_searches = rollup.web_searches + excluded.web_searches"#
        )
    };
}

impl Books<'_> {
    /// Until when holds are in the sums. Where others write, too, it stays so until this transaction ends.
    pub(super) fn rolled_until(&mut self, to_change: bool) -> sql::Result<Timestamp> {
        let statement = match (self.db.is_shared(), to_change) {
            (false, _) => meta::READ,
            (true, false) => "SELECT value FROM meta WHERE name = $1 FOR SHARE",
            (true, true) => "SELECT value FROM meta WHERE name = $1 FOR UPDATE",
        };
        self.memory.rolled_until = read_rolled(self.db, statement)?;
        Ok(self.memory.rolled_until)
    }

    /// Changes a hold; where it is in the sums, it is taken out before and put back after.
    pub(super) fn change_summed(
        &mut self,
        row: &HoldRow,
        change: impl FnOnce(&mut Self) -> sql::Result<()>,
    ) -> Result<(), Failure> {
        // Where the clock was ahead, and was set back, what is young can be in the sums.
        let lately = self.now().plus_ms(-AGE_MS / 2);
        let young = row.created_at > lately && self.memory.rolled_until <= lately;
        if young || row.created_at >= self.rolled_until(false)? {
            return Ok(change(self)?);
        }
        self.keep_from_leaving(row.hold)?;
        self.change_sums(row, -1)?;
        change(self)?;
        self.change_sums(row, 1)
    }

    /// Keeps a hold that is in the sums in the books until this transaction ends. Where it has left since it was read, the
    /// transaction is run again, and finds it gone.
    fn keep_from_leaving(&self, hold: i64) -> sql::Result<()> {
        if !self.db.is_shared() {
            return Ok(());
        }
        self.db.query("SELECT value FROM meta WHERE name = $1 FOR SHARE", &values![RETIRED_UNTIL])?;
        if self.db.query("SELECT 1 FROM hold WHERE hold = $1", &values![hold])?.is_empty() {
            let why = "a hold has left the books".to_owned();
            return Err(SqlError { kind: SqlErrorKind::Contended, why });
        }
        Ok(())
    }

    fn change_sums(&mut self, row: &HoldRow, sign: i64) -> Result<(), Failure> {
        self.write(add_holds!("hold = $2"), &values![sign, row.hold])?;
        Ok(self.change_spent(row.hold, sign)?)
    }

    /// Sums the next holds that are old enough, and says whether there are more.
    pub(super) fn roll_up(&mut self) -> Result<bool, Failure> {
        let old = self.now().plus_ms(-AGE_MS);
        let from = self.rolled_until(true)?;
        if from >= old {
            return Ok(false);
        }
        self.send()?;
        // Up to the moment of the first that is too many; where they all share one moment, all of it.
        let first = self.db.query(
            "SELECT created_at FROM hold WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at LIMIT 1 OFFSET $3",
            &values![from.unix_ms(), old.unix_ms(), HOLDS_MAX],
        )?;
        let limit = first.first().map(|row| row.int(0)).transpose()?;
        let until = limit.map_or(old, |at| Timestamp::new(at.max(from.unix_ms().saturating_add(1))));
        self.db.execute(
            add_holds!("created_at >= $2 AND created_at < $3"),
            &values![1_i64, from.unix_ms(), until.unix_ms()],
        )?;
        self.add_spent(until)?;
        meta::set(self.db, ROLLED_UNTIL, &until.unix_ms().to_be_bytes())?;
        self.memory.rolled_until = until;
        Ok(limit.is_some())
    }
}

/// Until when holds are in the sums, for who only reads.
pub(super) fn rolled_until(db: &dyn Sql) -> sql::Result<Timestamp> {
    read_rolled(db, meta::READ)
}

fn read_rolled(db: &dyn Sql, statement: &str) -> sql::Result<Timestamp> {
    let rolled = meta::value(ROLLED_UNTIL, &db.query(statement, &values![ROLLED_UNTIL])?)?;
    Ok(Timestamp::new(rolled.map_or(i64::MIN, i64::from_be_bytes)))
}

/// A half-open span of Unix milliseconds.
pub(super) type Span = (i64, i64);

/// Where the holds made in a span are found: in the sums of whole steps, such as hours, and one by one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) summed: Option<Span>,
    pub(super) single: Vec<Span>,
}

impl Parts {
    pub(super) fn of(span: Span, step_ms: i64, summed_until: Timestamp) -> Self {
        let whole = |ms: i64| ms.saturating_sub(ms.rem_euclid(step_ms));
        let (start, end) = span;
        let first = whole(start.saturating_add(step_ms - 1));
        let last = whole(end.min(summed_until.unix_ms()));
        if first >= last {
            return Self { summed: None, single: vec![span] };
        }
        let single = [(start, first), (last, end)].into_iter().filter(|(start, end)| start < end).collect();
        Self { summed: Some((first, last)), single }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_summed_by_whole_hours_and_the_rest_one_by_one() {
        const H: i64 = HOUR_MS;
        // (span, rolled until), (summed, single)
        let table = [
            (((0, 5 * H), 3 * H + 7), (Some((0, 3 * H)), vec![(3 * H, 5 * H)])),
            (((5, 5 * H), 9 * H), (Some((H, 5 * H)), vec![(5, H)])),
            (((5, 2 * H + 5), 9 * H), (Some((H, 2 * H)), vec![(5, H), (2 * H, 2 * H + 5)])),
            (((5, H - 5), 9 * H), (None, vec![(5, H - 5)])),
            (((0, i64::MAX), i64::MIN), (None, vec![(0, i64::MAX)])),
        ];
        for ((span, rolled), (summed, single)) in table {
            assert_eq!(
                Parts::of(span, H, Timestamp::new(rolled)),
                Parts { summed, single },
                "{span:?} {rolled}"
            );
        }
    }
}
