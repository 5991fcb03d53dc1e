//! What an operator says of prices, over the wire.

use crate::world::{NOON, World};
use tollgate_ledger::store::Store;
use tollgate_proto::v1;
use tollgate_proto::v1::set_prices_response::{Outcome, Refused, Taken};
use tonic::{Code, Status};

async fn set(
    world: &World,
    managed_by: &str,
    scope: &str,
    overlay: &str,
) -> Result<v1::SetPricesResponse, Status> {
    let request = v1::SetPricesRequest {
        managed_by: managed_by.into(),
        owner_scope: scope.into(),
        overlay: overlay.into(),
    };
    Ok(world.client().set_prices(request).await?.into_inner())
}

fn overlay(sheets: &str) -> String {
    format!(r#"{{"format": "tollgate-price-overlay/1", "sheets": [{sheets}]}}"#)
}

fn taken(result: v1::SetPricesResult) -> Option<Outcome> {
    Some(Outcome::Taken(Taken { result: result.into() }))
}

pub(crate) async fn prices_are_set_refused_and_cleared(world: World) {
    assert_eq!(world.clock.now(), NOON);
    let revision = || world.store().prices().revision();
    let before = revision();
    let good = overlay(r#"{"name": "a", "aliases": [{"alias": "fast", "model": "m"}]}"#);
    let set = async |overlay: &str| set(&world, "kubernetes", "cluster", overlay).await.unwrap();
    let answer = set(&good).await;
    assert_eq!(answer.outcome, taken(v1::SetPricesResult::Changed));
    assert_eq!(answer.revision, revision());
    assert_ne!(answer.revision, before);
    assert!(world.store().prices().catalogue().resolve("fast").is_some());
    assert_eq!(set(&good).await.outcome, taken(v1::SetPricesResult::Unchanged));
    let bad = overlay(
        r#"{"name": "a", "aliases": [{"alias": "fast", "model": "z"}]},
           {"name": "b", "models": [{"name": "gemini/m", "prices": [{"input": "1", "output": "1"}]}],
            "discounts": [{"model": "m", "percent": "100"}]}"#,
    );
    let answer = set(&bad).await;
    let Some(Outcome::Refused(Refused { faults })) = answer.outcome else { panic!("{answer:?}") };
    let said: Vec<_> =
        faults.iter().map(|one| (one.sheet.as_str(), one.reason(), one.field.as_str())).collect();
    assert_eq!(
        said,
        [
            ("b", v1::PriceFaultReason::Conflict, "models[0].name"),
            ("a", v1::PriceFaultReason::NotFound, "aliases[0].model"),
            ("b", v1::PriceFaultReason::Invalid, "discounts[0].percent"),
        ]
    );
    assert!(faults.iter().all(|fault| fault.message.contains("write")), "{faults:?}");
    assert_eq!(answer.revision, revision(), "as it was");
    assert!(world.store().prices().catalogue().resolve("fast").is_some());
    assert_eq!(set(&overlay("")).await.outcome, taken(v1::SetPricesResult::Changed));
    assert_eq!(revision(), before);
}

pub(crate) async fn absurd_prices_are_refused_whole(world: World) {
    let good = overlay("");
    let table = [
        (set(&world, "", "c", &good).await, "managed_by"),
        (set(&world, "api", "c", &good).await, "managed_by"),
        (set(&world, "kubernetes", "", &good).await, "owner_scope"),
        (set(&world, "kubernetes", "c", "{}").await, "overlay"),
        (set(&world, "kubernetes", "c", &good.replace("/1", "/2")).await, "overlay"),
        (set(&world, "kubernetes", "c", &overlay(r#"{"name": "a", "discount": []}"#)).await, "overlay"),
    ];
    for (answer, field) in table {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().starts_with(field), "{} {field}", status.message());
    }
}
