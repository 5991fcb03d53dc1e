//! One ledger on SQLite, beside the disk that it writes to.

use crate::accounts::{self, Sizes};
use crate::disk::{OPERATION_BYTES, commits, raw_loop};
use crate::figures::{Median, Report, Rounds, grouped};
use crate::ledger::Ledger;
use crate::load::{self, Settles};
use crate::{CLIENTS, Failure, Plan};
use std::sync::Arc;
use tollgate_ledger::store::sqlite;

const SIZES: Sizes = Sizes { teams: 10, users: 100, keys: 1_000 };
/// Of what the disk could do.
const SHARE_MIN: f64 = 0.5;
const CPU_US_MAX: f64 = 60.0;
/// At how many clients its CPU time is judged.
const CPU_CLIENTS: usize = 64;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let file = folder.path().join("ledger.db");
    let (store, keeper) = sqlite::open(&file, accounts::settings()?)?;
    accounts::make(store, keeper, SIZES).await?;
    let ledgers = [Ledger::on_file(plan, &file)?];
    let keys = Arc::new(load::look_up(&ledgers[0], 0..SIZES.keys).await?);
    let mut rows = Vec::new();
    for clients in CLIENTS {
        for settles in [Settles::Alone, Settles::Riding] {
            let (mut seen, mut raw, mut batches) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..plan.rounds {
                let before = commits(&file)?;
                let round = load::run(&ledgers, &keys, clients, settles, plan.round).await?;
                let batch = 2.0 * round.pairs / f64::from(commits(&file)?.wrapping_sub(before));
                seen.push(round);
                batches.push(batch);
                raw.push(raw_loop(folder.path(), (batch.round() as usize).max(1), plan.round / 2)?);
            }
            let share = seen.iter().zip(&raw).map(|(seen, raw)| 200.0 * seen.pairs_per_second / raw);
            let (share, batch) = (Median::of(share), Median::of(batches.into_iter()).value);
            let (of, raw) = (Rounds::of(&seen), Median::of(raw.into_iter()));
            let how = if settles == Settles::Alone { "alone" } else { "with the next hold" };
            rows.push(vec![
                clients.to_string(),
                how.to_owned(),
                of.rate.to_string(),
                format!("{:.2} / {:.2}", of.p50_ms, of.p99_ms),
                format!("{:.0}", of.cpu_us),
                format!("{batch:.1}"),
                grouped(raw.value / 2.0),
                format!("{:.0} %", share.value),
            ]);
            report.aim(
                format!("SQLite, c = {clients}, settles {how}: >= 50 % of append + fdatasync"),
                format!("{share} %"),
                share.value >= 100.0 * SHARE_MIN,
            );
            if clients == CPU_CLIENTS {
                report.aim(
                    format!("SQLite, c = {clients}, settles {how}: CPU of hold + settle <= {CPU_US_MAX} us"),
                    format!("{:.0} us", of.cpu_us),
                    of.cpu_us <= CPU_US_MAX,
                );
            }
        }
    }
    report.fact(format!(
        "SQLite: {} keys of {} users in {} teams of one organization. The raw loop appends {OPERATION_BYTES} bytes for each hold \
         and each settle, as many at a time as the ledger committed at a time, and syncs.",
        SIZES.keys, SIZES.users, SIZES.teams
    ));
    report.table(
        "SQLite: c | settles | hold + settle /s | hold p50 / p99 ms | CPU us | operations a commit | raw loop pairs/s | share",
        rows,
    );
    Ok(())
}
