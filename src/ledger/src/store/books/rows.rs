//! Hold rows: written once when the hold is made, changed while it is open, closed when it ends.

use super::code::{
    corrupt, digest, instant, json_list, list, money, pack, pack_bounds, pack_ids, signed, state, state_code,
    unpack, unpack_bounds, unpack_ids, unsigned, usage,
};
use super::keys::OwnerRows;
use super::memory::Books;
use crate::rules::charge::Terms;
use crate::store::HoldState;
use crate::store::row_statement::{RowStatement, Type};
use crate::store::sql::{self, Row, Sql, values};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
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
    /// The rates that it counts in, and with how much.
    pub(super) rates: Vec<(i64, u64)>,
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
        concat!(
            "SELECT hold, state, digest, model, fallback_models, bounds, service_tier, speed, inference_geo, amount,
                provider, api, balances, posted, overrun, created_at, expires_at, sequence,
                input, cache_read, cache_write_5m, cache_write_1h, output, web_searches, price_revision, rates, id
             FROM hold ",
            $rest
        )
    };
}
pub(super) use select_hold;

/// Writes what changes while a hold is open.
static KEEP_OPEN: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::update(
        "hold",
        &[
            ("amount", Type::Int),
            ("overrun", Type::Int),
            ("expires_at", Type::Int),
            ("sequence", Type::Int),
            ("input", Type::Int),
            ("cache_read", Type::Int),
            ("cache_write_5m", Type::Int),
            ("cache_write_1h", Type::Int),
            ("output", Type::Int),
            ("web_searches", Type::Int),
            ("hold", Type::Int),
        ],
    )
});

/// Writes what an ended hold is charged.
static CHARGE_INSTEAD: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::update(
        "hold",
        &[("posted", Type::Int), ("overrun", Type::Int), ("sequence", Type::Int), ("hold", Type::Int)],
    )
});

/// Writes how a hold has ended.
static CLOSE: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::update(
        "hold",
        &[
            ("state", Type::Int),
            ("posted", Type::Int),
            ("overrun", Type::Int),
            ("sequence", Type::Int),
            ("priced_model", Type::Text),
            ("estimated", Type::Flag),
            ("end_reason", Type::Text),
            ("status", Type::Int),
            ("first_byte_at", Type::Int),
            ("ended_at", Type::Int),
            ("input", Type::Int),
            ("cache_read", Type::Int),
            ("cache_write_5m", Type::Int),
            ("cache_write_1h", Type::Int),
            ("output", Type::Int),
            ("web_searches", Type::Int),
            ("hold", Type::Int),
        ],
    )
});

/// Makes a hold.
static INSERT_HOLD: LazyLock<RowStatement> = LazyLock::new(|| {
    RowStatement::insert(
        "hold",
        &[
            ("hold", Type::Int),
            ("id", Type::Blob),
            ("state", Type::Int),
            ("digest", Type::Blob),
            ("key", Type::Int),
            ("organization", Type::Int),
            ("team", Type::Int),
            ("\"user\"", Type::Int),
            ("model", Type::Text),
            ("provider", Type::Text),
            ("api", Type::Text),
            ("fallback_models", Type::Text),
            ("bounds", Type::Blob),
            ("service_tier", Type::Text),
            ("speed", Type::Text),
            ("inference_geo", Type::Text),
            ("tags", Type::Text),
            ("session", Type::Text),
            ("end_user", Type::Text),
            ("client", Type::Text),
            ("price_revision", Type::Int),
            ("balances", Type::Blob),
            ("amount", Type::Int),
            ("would_deny", Type::Text),
            ("created_at", Type::Int),
            ("expires_at", Type::Int),
            ("binding_tags", Type::Int),
            ("rates", Type::Blob),
            ("tags_digest", Type::Int),
        ],
    )
});

impl HoldRow {
    pub(super) fn find(db: &dyn Sql, id: &HoldId) -> sql::Result<Option<Self>> {
        let rows = db.query(select_hold!("WHERE id = $1"), &values![id.as_bytes()])?;
        rows.first().map(Self::of).transpose()
    }

    /// Open holds whose time is up, the oldest first.
    pub(super) fn due(db: &dyn Sql, now: Timestamp, at_most: i64) -> sql::Result<Vec<HoldId>> {
        let rows = db.query(
            "SELECT id FROM hold WHERE state = 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
            &values![now.unix_ms(), at_most],
        )?;
        rows.iter().map(|row| super::code::fixed("hold id", row.blob(0)?).map(HoldId::new)).collect()
    }

    /// The id in a row of [`select_hold`].
    pub(super) fn id(row: &Row) -> sql::Result<HoldId> {
        super::code::fixed("hold id", row.blob(26)?).map(HoldId::new)
    }

    /// A row of [`select_hold`].
    pub(super) fn of(row: &Row) -> sql::Result<Self> {
        let fallback_models = match row.maybe_text(4)? {
            Some(json) => list::<String>("fallback models", json)?,
            None => Vec::new(),
        };
        let terms = Terms {
            model: ModelName::new(row.text(3)?.to_owned()),
            fallback_models: fallback_models.into_iter().map(ModelName::new).collect(),
            bounds: unpack_bounds(row.blob(5)?)?,
            modifiers: Modifiers {
                service_tier: row.maybe_string(6)?,
                speed: row.maybe_string(7)?,
                inference_geo: row.maybe_string(8)?,
            },
            amount: money(row, 9)?,
        };
        Ok(Self {
            hold: row.int(0)?,
            state: state(row.int(1)?)?,
            digest: digest(row, 2)?,
            terms,
            provider: provider(row.text(10)?)?,
            api: api(row.text(11)?)?,
            balances: unpack_ids(row.blob(12)?)?,
            rates: row.maybe_blob(25)?.map(unpack_rates).transpose()?.unwrap_or_default(),
            posted: money(row, 13)?,
            overrun: money(row, 14)?,
            created_at: instant(row, 15)?,
            expires_at: instant(row, 16)?,
            sequence: unsigned(row.int(17)?)?,
            usage: usage(row, 18)?,
            price_revision: row.int(24)?.cast_unsigned(),
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
}

impl Books<'_> {
    /// Writes what changes while the hold is open.
    pub(super) fn keep_open(&mut self, row: &HoldRow) -> sql::Result<()> {
        let [input, cache_read, cache_write_5m, cache_write_1h, output, web_searches] =
            columns(row.usage.as_ref());
        self.write_row(
            &KEEP_OPEN,
            &values![
                row.terms.amount.get(),
                row.overrun.get(),
                row.expires_at.unix_ms(),
                signed(row.sequence),
                input,
                cache_read,
                cache_write_5m,
                cache_write_1h,
                output,
                web_searches,
                row.hold,
            ],
        )
    }

    /// Writes what an ended hold is charged now. Its row is another one after that, whatever it was charged before: who has read
    /// it knows that its lines are not all there are.
    pub(super) fn charge_instead(
        &mut self,
        row: &HoldRow,
        posted: Nanodollars,
        overrun: Nanodollars,
    ) -> sql::Result<()> {
        let sequence = signed(row.sequence.saturating_add(1));
        self.write_row(&CHARGE_INSTEAD, &values![posted.get(), overrun.get(), sequence, row.hold])
    }

    /// Writes how the hold has ended.
    pub(super) fn close(&mut self, row: &HoldRow, closing: &Closing<'_>) -> sql::Result<()> {
        let [input, cache_read, cache_write_5m, cache_write_1h, output, web_searches] =
            columns(row.usage.as_ref());
        self.write_row(
            &CLOSE,
            &values![
                state_code(row.state),
                row.posted.get(),
                row.overrun.get(),
                signed(row.sequence),
                closing.priced_model,
                closing.estimated,
                closing.end_reason,
                closing.status.map(i64::from),
                closing.first_byte_at.map(Timestamp::unix_ms),
                closing.ended_at.unix_ms(),
                input,
                cache_read,
                cache_write_5m,
                cache_write_1h,
                output,
                web_searches,
                row.hold,
            ],
        )
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
fn columns(usage: Option<&Usage>) -> [Option<i64>; 6] {
    usage.map_or([None; 6], |usage| super::code::classes(usage).map(|tokens| Some(signed(tokens))))
}

/// A hold to be made.
pub(super) struct NewHold<'a> {
    pub(super) hold: i64,
    pub(super) ask: &'a HoldAsk,
    pub(super) owners: OwnerRows,
    /// The request's tags, each once: first those that bind.
    pub(super) tags: &'a [&'a Tag],
    pub(super) binding_tags: usize,
    pub(super) price_revision: u64,
    pub(super) balances: &'a [i64],
    pub(super) rates: Vec<(i64, u64)>,
    pub(super) amount: Nanodollars,
    pub(super) would_deny: Option<DenialReason>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl NewHold<'_> {
    pub(super) fn insert(&self, books: &mut Books<'_>) -> sql::Result<()> {
        let ask = self.ask;
        let fallback_models: Vec<&str> = ask.fallback_models.iter().map(ModelName::as_str).collect();
        let fallback_models = (!fallback_models.is_empty()).then(|| json_list(&fallback_models));
        let tags: Vec<&str> = self.tags.iter().map(|tag| tag.as_str()).collect();
        let tags = (!tags.is_empty()).then(|| json_list(&tags));
        let rates = (!self.rates.is_empty()).then(|| pack_rates(&self.rates));
        books.write_row(
            &INSERT_HOLD,
            &values![
                self.hold,
                ask.id.as_bytes(),
                state_code(HoldState::Pending),
                ask.key.as_bytes(),
                self.owners.key,
                self.owners.organization,
                self.owners.team,
                self.owners.user,
                ask.model.as_str(),
                ask.provider.as_str(),
                ask.api.as_str(),
                fallback_models.as_deref(),
                &pack_bounds(&ask.bounds),
                ask.modifiers.service_tier.as_deref(),
                ask.modifiers.speed.as_deref(),
                ask.modifiers.inference_geo.as_deref(),
                tags.as_deref(),
                ask.session.as_deref(),
                ask.end_user.as_deref(),
                ask.client.as_deref(),
                self.price_revision.cast_signed(),
                &pack_ids(self.balances),
                self.amount.get(),
                self.would_deny.map(reason_name),
                self.created_at.unix_ms(),
                self.expires_at.unix_ms(),
                signed(self.binding_tags as u64),
                rates.as_ref(),
                tags.as_deref().map_or(0, digest_of),
            ],
        )
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
            rates: self.rates.clone(),
            posted: Nanodollars::ZERO,
            overrun: Nanodollars::ZERO,
            created_at: self.created_at,
            expires_at: self.expires_at,
            sequence: 0,
            usage: None,
            price_revision: self.price_revision,
        }
    }
}

/// Only money and rates are ever observed.
const fn reason_name(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::BudgetSpent => "budget_spent",
        DenialReason::BudgetTooSmall => "budget_too_small",
        DenialReason::RateLimited => "rate_limited",
        _ => "other",
    }
}

/// The provider of a stored hold.
pub(super) fn provider(text: &str) -> sql::Result<Provider> {
    Provider::ALL.into_iter().find(|provider| provider.as_str() == text).ok_or_else(|| corrupt("provider"))
}

/// The API of a stored hold.
pub(super) fn api(text: &str) -> sql::Result<Api> {
    Api::ALL.into_iter().find(|api| api.as_str() == text).ok_or_else(|| corrupt("API"))
}

/// The beginning of the SHA-256 of a text.
pub(super) fn digest_of(text: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(text).into();
    i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

fn pack_rates(rates: &[(i64, u64)]) -> Vec<u8> {
    pack(rates.iter().flat_map(|(row, units)| [row.cast_unsigned(), *units]))
}

fn unpack_rates(bytes: &[u8]) -> sql::Result<Vec<(i64, u64)>> {
    let numbers = unpack(bytes).ok_or_else(|| corrupt("list of rates"))?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(corrupt("list of rates"));
    }
    Ok(pairs.iter().map(|[row, units]| (row.cast_signed(), *units)).collect())
}
