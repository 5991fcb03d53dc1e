//! What was spent, request by request and tag by tag. Everything here only reads.

use super::code::{digest, instant, list, maybe_instant, money, signed, state, unsigned, usage};
use super::rows::{api, provider};
use crate::store::{Owners, Page, SpendFilter, SpendRecord, TagSpend};
use rusqlite::{Connection, Row, params};
use tollgate_domain::ids::HoldId;
use tollgate_domain::time::Timestamp;

/// The rows of `hold` that a filter lets through: what was charged, and one that is asked for by its id in any state.
macro_rules! charged {
    ($select:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $select,
            " WHERE (h.state IN (1, 3) OR h.id = ?1)
                 AND (?1 IS NULL OR h.id = ?1)
                 AND (?2 IS NULL OR h.key = (SELECT account FROM credential WHERE digest = ?2))
                 AND (?3 IS NULL OR h.user = (SELECT account FROM account WHERE kind = 'user' AND scope = '' AND id = ?3))
                 AND (?4 IS NULL OR h.team = (SELECT account FROM account WHERE kind = 'team' AND scope = '' AND id = ?4))
                 AND (?5 IS NULL OR h.created_at >= ?5) AND (?6 IS NULL OR h.created_at < ?6) ",
            $rest
        )
    };
}

/// Requests that were charged, newest first.
pub(super) fn logs(
    file: &Connection,
    filter: &SpendFilter,
    page: Page,
) -> rusqlite::Result<Vec<SpendRecord>> {
    file.prepare_cached(charged!(
        "h.id, h.state, h.posted, h.estimated, h.end_reason, h.api, coalesce(h.priced_model, h.model), h.provider,
             h.digest, h.tags, h.session, h.end_user, h.client, h.created_at, h.ended_at, h.first_byte_at, h.status,
             o.id, t.id, u.id,
             h.input, h.cache_read, h.cache_write_5m, h.cache_write_1h, h.output, h.web_searches,
             h.would_deny, h.overrun
         FROM hold h LEFT JOIN account o ON o.account = h.organization
             LEFT JOIN account t ON t.account = h.team LEFT JOIN account u ON u.account = h.user",
        "ORDER BY h.hold DESC LIMIT ?8 OFFSET ?7"
    ))?
    .query_map(
        params![
            filter.request.as_ref().map(HoldId::as_bytes),
            filter.key.as_ref().map(|digest| digest.as_bytes()),
            filter.user,
            filter.team,
            filter.from.map(Timestamp::unix_ms),
            filter.to.map(Timestamp::unix_ms),
            signed(page.offset),
            signed(page.limit),
        ],
        read,
    )?
    .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<SpendRecord> {
    let end = row.get_ref(4)?.as_str_or_null()?.map(super::holds::end).transpose()?;
    let tags = row.get_ref(9)?.as_str_or_null()?.map(|json| list("tags", json)).transpose()?;
    Ok(SpendRecord {
        request: HoldId::new(row.get(0)?),
        state: state(row.get(1)?)?,
        cost: money(row, 2)?,
        overrun: money(row, 27)?,
        usage: usage(row, 20)?,
        estimated: row.get(3)?,
        end,
        api: api(row.get_ref(5)?.as_str()?)?,
        model: row.get(6)?,
        provider: provider(row.get_ref(7)?.as_str()?)?,
        key: digest(row, 8)?,
        owners: Owners { organization: row.get(17)?, team: row.get(18)?, user: row.get(19)? },
        tags: tags.unwrap_or_default(),
        session: row.get(10)?,
        end_user: row.get(11)?,
        client: row.get(12)?,
        started_at: instant(row, 13)?,
        ended_at: maybe_instant(row, 14)?,
        first_byte_at: maybe_instant(row, 15)?,
        status: row.get(16)?,
        would_deny: row.get(26)?,
    })
}

/// What was spent under each tag.
pub(super) fn by_tag(file: &Connection, filter: &SpendFilter) -> rusqlite::Result<Vec<TagSpend>> {
    file.prepare_cached(charged!(
        "tag.value, count(*), sum(h.posted) FROM hold h, json_each(h.tags) tag",
        "GROUP BY tag.value ORDER BY tag.value"
    ))?
    .query_map(
        params![
            filter.request.as_ref().map(HoldId::as_bytes),
            filter.key.as_ref().map(|digest| digest.as_bytes()),
            filter.user,
            filter.team,
            filter.from.map(Timestamp::unix_ms),
            filter.to.map(Timestamp::unix_ms),
        ],
        |row| Ok(TagSpend { tag: row.get(0)?, requests: unsigned(row.get(1)?)?, spent: money(row, 2)? }),
    )?
    .collect()
}
