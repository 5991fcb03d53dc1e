//! What was spent, request by request and tag by tag. Everything here only reads.

use super::code::{
    corrupt, digest, fixed, instant, list, maybe_instant, money, signed, state, unsigned, usage,
};
use super::rows::{api, provider};
use super::sums::{self, Span};
use crate::store::sql::{self, Row, Sql, Value};
use crate::store::{Crossing, Owners, Page, SpendFilter, SpendRecord, TagSpend};
use std::collections::BTreeMap;
use tollgate_domain::ids::HoldId;
use tollgate_domain::money::Nanodollars;
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::{Period, Window};

/// A condition that grows, with its parameters.
struct Condition<'a> {
    text: String,
    params: Vec<Value<'a>>,
}

impl<'a> Condition<'a> {
    /// Which holds, or sums of them, a filter lets through; `table` is an alias with the columns `key`, `team` and `user`.
    fn of(filter: &'a SpendFilter) -> Self {
        let mut condition = Self { text: "1 = 1".to_owned(), params: Vec::new() };
        if let Some(digest) = &filter.key {
            condition.and(
                "h.key = (SELECT account FROM credential WHERE digest = $)",
                Value::Blob(digest.as_bytes()),
            );
        }
        for (column, kind, id) in [("team", "team", &filter.team), (r#""user""#, "user", &filter.user)] {
            if let Some(id) = id {
                let owner = "(SELECT account FROM account WHERE kind = '%' AND scope = '' AND id = $)";
                condition.and(&format!("h.{column} = {}", owner.replace('%', kind)), Value::Text(id));
            }
        }
        condition
    }

    fn and(&mut self, text: &str, value: Value<'a>) {
        self.params.push(value);
        let parameter = format!("${}", self.params.len());
        self.text.push_str(&format!(" AND {}", text.replace('$', &parameter)));
    }

    fn between(mut self, column: &str, span: Span) -> Self {
        self.and(&format!("{column} >= $"), Value::Int(span.0));
        self.and(&format!("{column} < $"), Value::Int(span.1));
        self
    }
}

/// Requests that were charged, newest first; one that is asked for by its id in any state.
pub(super) fn logs(db: &dyn Sql, filter: &SpendFilter, page: Page) -> sql::Result<Vec<SpendRecord>> {
    let mut condition = Condition::of(filter);
    match &filter.request {
        Some(id) => condition.and("h.id = $", Value::Blob(id.as_bytes())),
        None => condition.text.push_str(" AND h.state IN (1, 3)"),
    }
    if let Some(from) = filter.from {
        condition.and("h.created_at >= $", Value::Int(from.unix_ms()));
    }
    if let Some(to) = filter.to {
        condition.and("h.created_at < $", Value::Int(to.unix_ms()));
    }
    let Condition { text, mut params } = condition;
    params.extend([Value::Int(signed(page.limit)), Value::Int(signed(page.offset))]);
    let (limit, offset) = (params.len() - 1, params.len());
    let statement = format!(
        r#"SELECT h.id, h.state, h.posted, h.estimated, h.end_reason, h.api, coalesce(h.priced_model, h.model), h.provider,
             h.digest, h.tags, h.session, h.end_user, h.client, h.created_at, h.ended_at, h.first_byte_at, h.status,
             o.id, t.id, u.id,
             h.input, h.cache_read, h.cache_write_5m, h.cache_write_1h, h.output, h.web_searches,
             h.would_deny, h.overrun
         FROM hold h LEFT JOIN account o ON o.account = h.organization
             LEFT JOIN account t ON t.account = h.team LEFT JOIN account u ON u.account = h."user"
         WHERE {text} ORDER BY h.created_at DESC, h.hold DESC LIMIT ${limit} OFFSET ${offset}"#
    );
    db.query(&statement, &params)?.iter().map(read).collect()
}

fn read(row: &Row) -> sql::Result<SpendRecord> {
    let end = row.maybe_text(4)?.map(super::holds::end).transpose()?;
    let tags = row.maybe_text(9)?.map(|json| list("tags", json)).transpose()?;
    Ok(SpendRecord {
        request: HoldId::new(fixed("hold id", row.blob(0)?)?),
        state: state(row.int(1)?)?,
        cost: money(row, 2)?,
        overrun: money(row, 27)?,
        usage: usage(row, 20)?,
        estimated: row.flag(3)?,
        end,
        api: api(row.text(5)?)?,
        model: row.text(6)?.to_owned(),
        provider: provider(row.text(7)?)?,
        key: digest(row, 8)?,
        owners: Owners {
            organization: row.maybe_string(17)?,
            team: row.maybe_string(18)?,
            user: row.maybe_string(19)?,
        },
        tags: tags.unwrap_or_default(),
        session: row.maybe_string(10)?,
        end_user: row.maybe_string(11)?,
        client: row.maybe_string(12)?,
        started_at: instant(row, 13)?,
        ended_at: maybe_instant(row, 14)?,
        first_byte_at: maybe_instant(row, 15)?,
        status: row
            .maybe_int(16)?
            .map(|status| u16::try_from(status).map_err(|_| corrupt("status")))
            .transpose()?,
        would_deny: row.maybe_string(26)?,
    })
}

/// What was spent under each tag: from the hours' sums where there are some, else request by request.
pub(super) fn by_tag(db: &dyn Sql, filter: &SpendFilter) -> sql::Result<Vec<TagSpend>> {
    let start = filter.from.map_or(0, Timestamp::unix_ms);
    let end = filter.to.map_or(i64::MAX, Timestamp::unix_ms);
    let parts = match &filter.request {
        Some(_) => sums::Parts { summed: None, single: vec![(start, end)] },
        None => sums::Parts::of((start, end), sums::HOUR_MS, sums::rolled_until(db)?),
    };
    let mut spent: BTreeMap<String, (u64, Nanodollars)> = BTreeMap::new();
    for span in parts.single {
        let mut condition = Condition::of(filter).between("h.created_at", span);
        match &filter.request {
            Some(id) => condition.and("h.id = $", Value::Blob(id.as_bytes())),
            None => condition.text.push_str(" AND h.state IN (1, 3)"),
        }
        let statement = format!(
            "SELECT h.tags, count(*), CAST(sum(h.posted) AS BIGINT) FROM hold h
             WHERE h.tags IS NOT NULL AND {} GROUP BY h.tags",
            condition.text
        );
        add_tags(&mut spent, &db.query(&statement, &condition.params)?)?;
    }
    if let Some(span) = parts.summed {
        let condition = Condition::of(filter).between("h.hour", span);
        let statement = format!(
            "SELECT h.tags, CAST(sum(h.requests) AS BIGINT), CAST(sum(h.posted) AS BIGINT) FROM rollup h
             WHERE h.tags <> '' AND {} GROUP BY h.tags HAVING sum(h.requests) > 0",
            condition.text
        );
        add_tags(&mut spent, &db.query(&statement, &condition.params)?)?;
    }
    Ok(spent.into_iter().map(|(tag, (requests, spent))| TagSpend { tag, requests, spent }).collect())
}

fn add_tags(spent: &mut BTreeMap<String, (u64, Nanodollars)>, rows: &[Row]) -> sql::Result<()> {
    for row in rows {
        let (requests, posted) = (unsigned(row.int(1)?)?, money(row, 2)?);
        for tag in list::<String>("tags", row.text(0)?)? {
            let known = spent.entry(tag).or_default();
            known.0 = known.0.saturating_add(requests);
            known.1 = known.1.plus(posted).map_err(|_| corrupt("amount"))?;
        }
    }
    Ok(())
}

/// How long events are kept back where several ledgers write: a transaction that began before has ended by then, so that no event
/// appears behind a cursor.
const SETTLED_MS: i64 = 60_000;

/// Parts of limits that were spent, after a cursor.
pub(super) fn crossings(
    db: &dyn Sql,
    after: i64,
    at_most: u64,
    now: Timestamp,
) -> sql::Result<Vec<Crossing>> {
    let until = if db.is_shared() { now.plus_ms(-SETTLED_MS) } else { Timestamp::new(i64::MAX) };
    let rows = db.query(
        r#"SELECT c.crossing, c.at, a.kind, a.id, a.alias, c."window", c.model, c.soft, c.window_start, c.threshold,
             c.amount, c.posted, a.scope
         FROM crossing c JOIN account a ON a.account = c.account
         WHERE c.crossing > $1 ORDER BY c.crossing LIMIT $2"#,
        &[Value::Int(after), Value::Int(signed(at_most))],
    )?;
    let mut crossings = Vec::new();
    for row in &rows {
        let crossing = read_crossing(row)?;
        // Nothing behind one that is too young: a cursor must not pass it. One that is far ahead is old: the clock was, too.
        if crossing.at > until && crossing.at <= now.plus_ms(SETTLED_MS) {
            break;
        }
        crossings.push(crossing);
    }
    Ok(crossings)
}

fn read_crossing(row: &Row) -> sql::Result<Crossing> {
    let window: Window = super::code::parsed("window", row.text(5)?)?;
    let start = instant(row, 8)?;
    let period = window.period_at(start).unwrap_or(Period { start, end: None });
    Ok(Crossing {
        number: row.int(0)?,
        at: instant(row, 1)?,
        kind: super::code::parsed("kind of account", row.text(2)?)?,
        id: row.text(3)?.to_owned(),
        scope: row.text(12)?.to_owned(),
        alias: row.maybe_string(4)?,
        window,
        period,
        model: row.maybe_string(6)?.filter(|model| !model.is_empty()),
        soft: row.flag(7)?,
        threshold: u16::try_from(row.int(9)?).map_err(|_| corrupt("threshold"))?,
        limit: money(row, 10)?,
        posted: money(row, 11)?,
    })
}
