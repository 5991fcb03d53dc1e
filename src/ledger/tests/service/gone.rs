//! A store that is away.

use crate::serve;
use std::sync::Arc;
use tollgate_domain::hold::{HoldAsk, Outcome, Report, Verdict};
use tollgate_domain::ids::{HoldId, KeyDigest};
use tollgate_domain::money::Nanodollars;
use tollgate_domain::price::{BUILT_IN, Overlay, PriceBook};
use tollgate_ledger::counters::Counters;
use tollgate_ledger::store::{
    AccountChange, AccountFilter, AccountName, AccountRecord, AccountRef, Applied, Changes, Crossing, Cursor,
    DesiredAccount, Found, Listed, Manager, NewAccount, Operated, Page, PricesSet, Reach, Refused,
    SpendFilter, SpendRecord, Store, StoreError, TagSpend,
};
use tollgate_proto::v1;
use tonic::Code;

struct Gone;

fn gone<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("away".into()))
}

impl Store for Gone {
    async fn hold_within(
        &self,
        _: Reach,
        _: HoldAsk,
        _: Vec<Report>,
    ) -> Result<(Verdict, Vec<Outcome>), StoreError> {
        gone()
    }

    async fn report_within(&self, _: Reach, _: Vec<Report>) -> Result<Vec<Outcome>, StoreError> {
        gone()
    }

    async fn correct(&self, _: HoldId, _: Nanodollars) -> Result<Nanodollars, StoreError> {
        gone()
    }

    async fn lookup_within(&self, _: Reach, _: KeyDigest, _: Vec<u8>) -> Result<Found, StoreError> {
        gone()
    }

    fn prices(&self) -> Arc<PriceBook> {
        Arc::new(PriceBook::parse(BUILT_IN).unwrap())
    }

    async fn create(&self, _: NewAccount) -> Result<AccountRecord, StoreError> {
        gone()
    }

    async fn update(&self, _: AccountRef, _: AccountChange) -> Result<AccountRecord, StoreError> {
        gone()
    }

    async fn delete(&self, _: Vec<AccountRef>) -> Result<Vec<AccountRecord>, StoreError> {
        gone()
    }

    async fn account(&self, _: AccountRef) -> Result<Option<AccountRecord>, StoreError> {
        gone()
    }

    async fn accounts(&self, _: AccountFilter, _: Page) -> Result<(Vec<AccountRecord>, u64), StoreError> {
        gone()
    }

    async fn spend_logs(&self, _: SpendFilter, _: Page) -> Result<Vec<SpendRecord>, StoreError> {
        gone()
    }

    async fn spend_by_tag(&self, _: SpendFilter) -> Result<Vec<TagSpend>, StoreError> {
        gone()
    }

    fn counters(&self) -> Arc<Counters> {
        Arc::default()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn crossings(&self, _: i64, _: u64) -> Result<Vec<Crossing>, StoreError> {
        gone()
    }
}

impl Operated for Gone {
    async fn apply(
        &self,
        _: Vec<DesiredAccount>,
    ) -> Result<Vec<Result<(Applied, u64), Refused>>, StoreError> {
        gone()
    }

    async fn remove(&self, _: AccountName, _: Manager) -> Result<Result<bool, Refused>, StoreError> {
        gone()
    }

    async fn set_prices(&self, _: Manager, _: Overlay) -> Result<PricesSet, StoreError> {
        gone()
    }

    async fn changes(&self, _: Option<Cursor>, _: u32) -> Result<Changes, StoreError> {
        gone()
    }

    async fn listed(&self, _: i64, _: u32) -> Result<Vec<Listed>, StoreError> {
        gone()
    }

    fn epoch(&self) -> [u8; 8] {
        [0; 8]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_unavailable() {
    let mut served = serve(Arc::new(Gone)).await;
    let lookup = v1::LookupRequest { key_digest: vec![1; 32], ..v1::LookupRequest::default() };
    let error = served.client.lookup(lookup).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "the store is not available: away"));
    let error = served.client.report(v1::ReportRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}
