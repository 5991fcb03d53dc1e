//! What makes a tag's budget exact from its first moment on, where there are other ledgers: no request that carries the tag is under
//! way unseen while its past is counted.
//!
//! A hold that a tag binds charges the account that lets the tag bind: the one that pins it, or the one that lets tags of clients
//! bind. Whoever makes a tag account has the locks of all of these, so that such a hold has either been committed, and is
//! counted, or begins with the tag account. What has bound until a moment ago is found by the keys of its open holds.

use super::charges::TAGS_REVISION;
use super::memory::Books;
use super::past::binds;
use crate::store::sql::{self, values};
use crate::store::{AccountChange, AccountSpec};
use std::collections::BTreeSet;
use tollgate_domain::ids::Tag;

impl AccountSpec {
    /// Whether tags bind because of the account.
    pub(super) fn binds_tags(&self) -> bool {
        self.client_tags_bind || !self.tags.is_empty()
    }
}

impl AccountChange {
    /// Whether tags bind because of the account that did not before.
    pub(super) fn binds_tags(&self) -> bool {
        self.client_tags_bind == Some(true) || self.tags.as_ref().is_some_and(|tags| !tags.is_empty())
    }
}

impl Books<'_> {
    /// Keeps others from making tag accounts, and from letting tags bind that did not, until the transaction ends. It comes before the
    /// locks of accounts, so that no two wait for each other; a hold never takes it.
    pub(super) fn lock_tags(&self) -> sql::Result<()> {
        if !self.db.is_shared() {
            return Ok(());
        }
        // The row may be missing, and then there would be nothing to lock.
        let touch = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = meta.value";
        self.db.execute(touch, &values![TAGS_REVISION, &0_i64.to_be_bytes()]).map(drop)
    }

    /// The accounts of which every hold that this tag binds charges one, once nobody else can let it bind: the organization where the
    /// tag is of one.
    pub(super) fn payers_of_tag(&self, tag: &str, organization: Option<i64>) -> sql::Result<BTreeSet<i64>> {
        if !self.db.is_shared() {
            return Ok(BTreeSet::new());
        }
        if let Some(organization) = organization {
            return Ok(BTreeSet::from([organization]));
        }
        // `_` in a tag stands for any character here: a lock too many does no harm.
        let rows = self.db.query(
            "SELECT account FROM account WHERE deleted_at IS NULL AND (client_tags_bind OR tags LIKE $1)",
            &values![&format!("%\"{tag}\"%")],
        )?;
        let mut payers = rows.iter().map(|row| row.int(0)).collect::<sql::Result<BTreeSet<i64>>>()?;
        let Ok(tag) = tag.parse::<Tag>() else { return Ok(payers) };
        // In this order: what stops binding in between has left its holds.
        let open = self.db.query(
            "SELECT DISTINCT key, tags, binding_tags FROM hold WHERE (state = 0 AND expires_at > $1) OR state = 3",
            &values![-1_i64],
        )?;
        for row in &open {
            if binds(row, 1, 2, &tag)? {
                payers.insert(row.int(0)?);
            }
        }
        Ok(payers)
    }
}
