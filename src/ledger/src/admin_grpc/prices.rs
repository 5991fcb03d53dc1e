//! What an operator says of prices.

use super::{invalid, manager, read, unavailable};
use crate::store::{Applied, Manager, Operated, PricesSet};
use tollgate_domain::price::{Overlay, SheetErrorKind, SheetFault};
use tollgate_proto::v1;
use tonic::Status;

pub(super) async fn set<S: Operated>(
    store: &S,
    request: v1::SetPricesRequest,
) -> Result<v1::SetPricesResponse, Status> {
    let v1::SetPricesRequest { managed_by, owner_scope, overlay } = request;
    let name = manager(managed_by)?;
    let scope = read::required_text("owner_scope", owner_scope).map_err(|fault| invalid(&fault))?;
    let overlay =
        Overlay::parse(&overlay).map_err(|error| Status::invalid_argument(format!("overlay: {error}")))?;
    let set = store.set_prices(Manager { name, scope }, overlay).await;
    Ok(response(set.map_err(|error| unavailable(&error))?))
}

fn response(PricesSet { outcome, revision }: PricesSet) -> v1::SetPricesResponse {
    use v1::set_prices_response::{Outcome, Refused, Taken};
    let outcome = match outcome {
        Ok(applied) => {
            let result = match applied {
                Applied::Created | Applied::Changed => v1::SetPricesResult::Changed,
                Applied::Unchanged => v1::SetPricesResult::Unchanged,
            };
            Outcome::Taken(Taken { result: result.into() })
        }
        Err(faults) => Outcome::Refused(Refused { faults: faults.into_iter().map(fault).collect() }),
    };
    v1::SetPricesResponse { outcome: Some(outcome), revision }
}

fn fault(fault: SheetFault) -> v1::PriceFault {
    let reason = match fault.error.kind() {
        SheetErrorKind::Unknown => v1::PriceFaultReason::NotFound,
        SheetErrorKind::Conflict => v1::PriceFaultReason::Conflict,
        SheetErrorKind::Invalid => v1::PriceFaultReason::Invalid,
    };
    let message = fault.error.to_string();
    v1::PriceFault { sheet: fault.sheet, reason: reason.into(), field: fault.field, message }
}
