//! Hold rows: written once when the hold is made, changed while it is open, closed when it ends.

use super::code::{
    corrupt, digest, instant, json_list, list, money, pack_bounds, pack_ids, signed, state, state_code,
    unpack_bounds, unpack_ids, unsigned, usage,
};
use super::keys::OwnerRows;
use crate::rules::charge::Terms;
use crate::store::HoldState;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tollgate_domain::api::Api;
use tollgate_domain::catalogue::Provider;
use tollgate_domain::hold::{DenialReason, HoldAsk};
use tollgate_domain::ids::{HoldId, KeyDigest, ModelName, Tag};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::Modifiers;
use tollgate_domain::time::Timestamp;
use tollgate_domain::usage::Usage;

/// A hold, as far as later messages need it.
#[derive(Clone, Debug)]
pub(super) struct HoldRow {
    pub(super) hold: i64,
    pub(super) state: HoldState,
    pub(super) digest: KeyDigest,
    pub(super) terms: Terms,
    pub(super) provider: Provider,
    pub(super) api: Api,
    pub(super) balances: Vec<i64>,
    pub(super) posted: Nanodollars,
    pub(super) overrun: Nanodollars,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) sequence: u64,
    pub(super) usage: Option<Usage>,
    /// The price book that it was made by.
    pub(super) price_revision: u64,
}

/// The columns of [`HoldRow`], before the rest of a query.
macro_rules! select_hold {
    ($rest:literal) => {
        concat!("SELECT hold, state, digest, model, fallback_models, bounds, service_tier, speed, inference_geo, amount,
                provider, api, balances, posted, overrun, created_at, expires_at, sequence,
                input, cache_read, cache_write_5m, cache_write_1h, output, web_searches, price_revision
             FROM hold ", $rest)
    };
}

impl HoldRow {
    pub(super) fn find(file: &Connection, id: &HoldId) -> rusqlite::Result<Option<Self>> {
        file.prepare_cached(select_hold!("WHERE id = ?1"))?.query_row([id.as_bytes()], Self::read).optional()
    }

    /// Open holds whose time is up, the oldest first.
    pub(super) fn due(file: &Connection, now: Timestamp, at_most: i64) -> rusqlite::Result<Vec<Self>> {
        file.prepare_cached(select_hold!(
            "WHERE state = 0 AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
        ))?
        .query_map([now.unix_ms(), at_most], Self::read)?
        .collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let fallback_models = match row.get_ref(4)?.as_str_or_null()? {
            Some(json) => list::<String>("fallback models", json)?,
            None => Vec::new(),
        };
        let terms = Terms {
            model: ModelName::new(row.get::<_, String>(3)?),
            fallback_models: fallback_models.into_iter().map(ModelName::new).collect(),
            bounds: unpack_bounds(row.get_ref(5)?.as_blob()?)?,
            modifiers: Modifiers {
                service_tier: row.get(6)?,
                speed: row.get(7)?,
                inference_geo: row.get(8)?,
            },
            amount: money(row, 9)?,
        };
        Ok(Self {
            hold: row.get(0)?,
            state: state(row.get(1)?)?,
            digest: digest(row, 2)?,
            terms,
            provider: provider(row.get_ref(10)?.as_str()?)?,
            api: api(row.get_ref(11)?.as_str()?)?,
            balances: unpack_ids(row.get_ref(12)?.as_blob()?)?,
            posted: money(row, 13)?,
            overrun: money(row, 14)?,
            created_at: instant(row, 15)?,
            expires_at: instant(row, 16)?,
            sequence: unsigned(row.get(17)?)?,
            usage: usage(row, 18)?,
            price_revision: row.get::<_, i64>(24)?.cast_unsigned(),
        })
    }

    /// Whether the ask is the one that the hold was made for.
    pub(super) fn is_of(&self, ask: &HoldAsk) -> bool {
        let Terms { model, fallback_models, bounds, modifiers, .. } = &self.terms;
        self.digest == ask.key
            && *model == ask.model
            && *fallback_models == ask.fallback_models
            && *bounds == ask.bounds
            && *modifiers == ask.modifiers
            && self.provider == ask.provider
            && self.api == ask.api
    }

    /// Writes what changes while the hold is open.
    pub(super) fn keep_open(&self, file: &Connection) -> rusqlite::Result<()> {
        let usage = Classes::of(self.usage.as_ref());
        file.prepare_cached(
            "UPDATE hold SET amount = ?2, overrun = ?3, expires_at = ?4, sequence = ?5, input = ?6, cache_read = ?7,
                 cache_write_5m = ?8, cache_write_1h = ?9, output = ?10, web_searches = ?11
             WHERE hold = ?1",
        )?
        .execute(params![
            self.hold,
            self.terms.amount.get(),
            self.overrun.get(),
            self.expires_at.unix_ms(),
            signed(self.sequence),
            usage.0[0],
            usage.0[1],
            usage.0[2],
            usage.0[3],
            usage.0[4],
            usage.0[5],
        ])?;
        Ok(())
    }

    /// Writes what an ended hold is charged now.
    pub(super) fn charge_instead(
        &self,
        file: &Connection,
        posted: Nanodollars,
        overrun: Nanodollars,
    ) -> rusqlite::Result<()> {
        file.prepare_cached("UPDATE hold SET posted = ?2, overrun = ?3 WHERE hold = ?1")?.execute([
            self.hold,
            posted.get(),
            overrun.get(),
        ])?;
        Ok(())
    }

    /// Writes how the hold has ended.
    pub(super) fn close(&self, file: &Connection, closing: &Closing<'_>) -> rusqlite::Result<()> {
        let usage = Classes::of(self.usage.as_ref());
        file.prepare_cached(
            "UPDATE hold SET state = ?2, posted = ?3, overrun = ?4, sequence = ?5, priced_model = ?6, estimated = ?7,
                 end_reason = ?8, status = ?9, first_byte_at = ?10, ended_at = ?11, input = ?12, cache_read = ?13,
                 cache_write_5m = ?14, cache_write_1h = ?15, output = ?16, web_searches = ?17
             WHERE hold = ?1",
        )?
        .execute(params![
            self.hold,
            state_code(self.state),
            self.posted.get(),
            self.overrun.get(),
            signed(self.sequence),
            closing.priced_model,
            closing.estimated,
            closing.end_reason,
            closing.status,
            closing.first_byte_at.map(Timestamp::unix_ms),
            closing.ended_at.unix_ms(),
            usage.0[0],
            usage.0[1],
            usage.0[2],
            usage.0[3],
            usage.0[4],
            usage.0[5],
        ])?;
        Ok(())
    }
}

/// How a hold has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing<'a> {
    /// Where it is not the one that was asked for.
    pub(super) priced_model: Option<&'a str>,
    pub(super) estimated: bool,
    pub(super) end_reason: Option<&'static str>,
    pub(super) status: Option<u16>,
    pub(super) first_byte_at: Option<Timestamp>,
    pub(super) ended_at: Timestamp,
}

/// Six columns, all set or all unset.
struct Classes([Option<i64>; 6]);

impl Classes {
    fn of(usage: Option<&Usage>) -> Self {
        Self(usage.map_or([None; 6], |usage| super::code::classes(usage).map(|tokens| Some(signed(tokens)))))
    }
}

/// A hold to be made.
pub(super) struct NewHold<'a> {
    pub(super) hold: i64,
    pub(super) ask: &'a HoldAsk,
    pub(super) owners: OwnerRows,
    pub(super) pinned: &'a [Tag],
    pub(super) price_revision: u64,
    pub(super) balances: &'a [i64],
    pub(super) amount: Nanodollars,
    pub(super) would_deny: Option<DenialReason>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl NewHold<'_> {
    pub(super) fn insert(&self, file: &Connection) -> rusqlite::Result<()> {
        let ask = self.ask;
        let fallback_models: Vec<&str> = ask.fallback_models.iter().map(ModelName::as_str).collect();
        let fallback_models = (!fallback_models.is_empty()).then(|| json_list(&fallback_models));
        file.prepare_cached(
            "INSERT INTO hold (hold, id, state, digest, key, organization, team, user, model, provider, api,
                 fallback_models, bounds, service_tier, speed, inference_geo, tags, session, end_user, client,
                 price_revision, balances, amount, would_deny, created_at, expires_at)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25)",
        )?
        .execute(params![
            self.hold,
            ask.id.as_bytes(),
            ask.key.as_bytes(),
            self.owners.key,
            self.owners.organization,
            self.owners.team,
            self.owners.user,
            ask.model.as_str(),
            ask.provider.as_str(),
            ask.api.as_str(),
            fallback_models,
            pack_bounds(&ask.bounds),
            ask.modifiers.service_tier,
            ask.modifiers.speed,
            ask.modifiers.inference_geo,
            self.tags(),
            ask.session,
            ask.end_user,
            ask.client,
            self.price_revision.cast_signed(),
            pack_ids(self.balances),
            self.amount.get(),
            self.would_deny.map(reason_name),
            self.created_at.unix_ms(),
            self.expires_at.unix_ms(),
        ])?;
        Ok(())
    }

    /// The row as [`HoldRow::find`] would read it.
    pub(super) fn row(&self) -> HoldRow {
        let ask = self.ask;
        HoldRow {
            hold: self.hold,
            state: HoldState::Pending,
            digest: ask.key,
            terms: Terms {
                model: ask.model.clone(),
                fallback_models: ask.fallback_models.clone(),
                bounds: ask.bounds,
                modifiers: ask.modifiers.clone(),
                amount: self.amount,
            },
            provider: ask.provider,
            api: ask.api,
            balances: self.balances.to_vec(),
            posted: Nanodollars::ZERO,
            overrun: Nanodollars::ZERO,
            created_at: self.created_at,
            expires_at: self.expires_at,
            sequence: 0,
            usage: None,
            price_revision: self.price_revision,
        }
    }

    /// The request's tags and the pinned ones, each once.
    fn tags(&self) -> Option<String> {
        let mut tags: Vec<&str> = Vec::new();
        for tag in self.pinned.iter().chain(&self.ask.tags).map(Tag::as_str) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        (!tags.is_empty()).then(|| json_list(&tags))
    }
}

/// Only money is ever observed.
const fn reason_name(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::BudgetSpent => "budget_spent",
        DenialReason::BudgetTooSmall => "budget_too_small",
        _ => "other",
    }
}

/// The provider of a stored hold.
pub(super) fn provider(text: &str) -> rusqlite::Result<Provider> {
    Provider::ALL.into_iter().find(|provider| provider.as_str() == text).ok_or(corrupt("provider"))
}

/// The API of a stored hold.
pub(super) fn api(text: &str) -> rusqlite::Result<Api> {
    Api::ALL.into_iter().find(|api| api.as_str() == text).ok_or(corrupt("API"))
}
