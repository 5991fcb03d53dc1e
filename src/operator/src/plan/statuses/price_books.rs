//! The status of price books, which stand and fall together.

use super::{About, Reach, Statuses};
use crate::plan::conditions::{ACCEPTED, Conditions, PROGRAMMED, REFUSED_BY_LEDGER, Word, find};
use crate::plan::prices::{PricesState, sheet_name};
use crate::plan::program::State;
use crate::plan::verdict::{Problem, Verdict, is_alive};
use crate::plan::{Kind, ObjectName, PriceFault, RefusalReason, Status};
use crate::resources::{PriceBook, PriceBookStatus};
use std::collections::BTreeSet;

impl Statuses<'_> {
    pub(super) fn price_book(&mut self, name: &ObjectName, book: &PriceBook, verdict: Option<&Verdict>) {
        let meta = &book.metadata;
        let Some(verdict) = verdict.filter(|_| is_alive(meta)) else { return };
        let about = About { kind: Kind::PriceBook, name, meta };
        let before = book.status.clone().unwrap_or_default();
        let faults = match &self.prices.state {
            PricesState::Refused(faults) if verdict.counts && self.reach == Reach::Synced => {
                faults.as_slice()
            }
            _ => &[],
        };
        let refused = of_price_book(faults, &sheet_name(name));
        let verdict = match refused {
            Some(refused) => &Verdict { accepted: Some(refused), ..Verdict::default() },
            None => verdict,
        };
        let Some(programmed) = self.prices_programmed(verdict, faults) else { return };
        let mut conditions = Conditions::new(&before.conditions, meta.generation, self.now);
        match (self.reach, &self.prices.state) {
            // While nobody judges it, the last judgement stands.
            (Reach::Away, _) if verdict.counts && find(&before.conditions, ACCEPTED).is_some() => {
                conditions.keep(ACCEPTED);
            }
            _ => conditions.accept(verdict.accepted.as_ref()),
        }
        conditions.add(PROGRAMMED, programmed);
        let count = |length: usize| i64::try_from(length).ok();
        let spec = &book.spec;
        let of_models: usize = spec.models.iter().map(|model| model.aliases.len()).sum();
        let after = PriceBookStatus {
            observed_generation: meta.generation,
            conditions: conditions.finish(None),
            models: count(spec.models.len()),
            discounts: count(spec.discounts.len()),
            aliases: count(spec.aliases.len().saturating_add(of_models)),
        };
        self.set(&about, &Status::PriceBook(before), Status::PriceBook(after));
    }

    /// Price books are in force together, or none of them as it is written now.
    fn prices_programmed(&self, verdict: &Verdict, faults: &[PriceFault]) -> Option<Word> {
        let state = match &self.prices.state {
            PricesState::Programmed => State::Programmed,
            PricesState::Asked => State::Asked,
            PricesState::Away => State::Away,
            PricesState::Refused(_) if !verdict.counts => State::Asked,
            PricesState::Refused(_) => {
                if let Some(fault) = faults.iter().find(|fault| fault.sheet.is_empty()) {
                    let message = format!(
                        "The ledger does not take the price books, which count together: {}. What was in force before stays so.",
                        fault.message
                    );
                    return Some(Word::new(false, REFUSED_BY_LEDGER, message));
                }
                let others: BTreeSet<&str> = faults.iter().map(|fault| fault.sheet.as_str()).collect();
                let others = others.into_iter().collect::<Vec<_>>().join(", ");
                let message = format!(
                    "All price books count together, and there is a fault in {others}: what was in force before stays so until it is corrected."
                );
                return Some(Word::new(false, "OthersRefused", message));
            }
        };
        self.programmed(verdict, Some(&state))
    }
}

/// What is wrong with one price book.
fn of_price_book(faults: &[PriceFault], sheet: &str) -> Option<Problem> {
    let own: Vec<&PriceFault> = faults.iter().filter(|fault| fault.sheet == sheet).collect();
    let reason = match own.first()?.reason {
        RefusalReason::NotFound => "ModelNotFound",
        RefusalReason::Conflict => "Conflict",
        RefusalReason::Invalid => "InvalidPrices",
    };
    let said = own.iter().map(|fault| match fault.field.as_str() {
        "" => fault.message.clone(),
        field => format!("spec.{field}: {}", fault.message),
    });
    Some(Problem::new(reason, said.collect::<Vec<_>>().join("; ")))
}
