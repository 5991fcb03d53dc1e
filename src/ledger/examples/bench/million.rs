//! Many keys beside few.

use crate::accounts::{self, Sizes};
use crate::figures::{Report, Rounds, grouped};
use crate::ledger::Ledger;
use crate::load::{self, Key, Settles};
use crate::{Failure, Plan};
use std::sync::Arc;

const FEW: Sizes = Sizes { teams: 10, users: 10, keys: 1_000 };
const KEYS_OF_A_TEAM: u32 = 100;
const CLIENTS: usize = 16;
/// More than the clients come to in one round.
const ASKED: u32 = 40_000;
const SLOWER_MAX: f64 = 0.10;
const MEMORY_MB_MAX: f64 = 1_000.0;
const START_SECONDS_MAX: f64 = 5.0;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let (few, many) = (folder.path().join("few.db"), folder.path().join("many.db"));
    let teams = plan.keys / KEYS_OF_A_TEAM;
    accounts::fill(&few, FEW).await?;
    accounts::fill(&many, Sizes { teams, users: teams, keys: plan.keys }).await?;
    let few = [Ledger::on_file(plan, &few)?];
    let many = [Ledger::on_file(plan, &many)?];
    let few_keys = Arc::new(load::look_up(&few[0], 0..FEW.keys).await?);
    // As many as the few, all over the books: who is at work now.
    let active = Arc::new(load::look_up(&many[0], spread(0, FEW.keys, plan.keys)).await?);
    let mut seen = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..plan.rounds {
        // Each asks for the first time.
        let asked = ASKED.min(plan.keys / u32::try_from(plan.rounds + 1)?);
        let strangers = spread(1 + u32::try_from(round)? * asked, asked, plan.keys);
        let strangers = Arc::new(load::look_up(&many[0], strangers).await?);
        let run = async |ledgers: &[Ledger], keys: &Arc<Vec<Key>>| {
            load::run(ledgers, keys, CLIENTS, Settles::Alone, plan.round).await
        };
        seen[0].push(run(&few, &few_keys).await?);
        seen[1].push(run(&many, &active).await?);
        seen[2].push(run(&many, &strangers).await?);
    }
    let [base, active, strangers] = seen.map(|seen| Rounds::of(&seen));
    let row = |keys: String, rounds: &Rounds, ledger: &Ledger| -> Result<Vec<String>, Failure> {
        Ok(vec![
            keys,
            rounds.rate.to_string(),
            format!("{:.2} / {:.2}", rounds.p50_ms, rounds.p99_ms),
            format!("{:.0}", rounds.cpu_us),
            format!("{:.0}", ledger.memory_mb()?),
            format!("{:.2}", ledger.started_in.as_secs_f64()),
        ])
    };
    let keys = grouped(plan.keys.into());
    report.table(
        "Keys, c = 16 | hold + settle /s | hold p50 / p99 ms | CPU us | memory MB, at most | start s",
        vec![
            row("1,000".into(), &base, &few[0])?,
            row(format!("{keys}, of which 1,000 are at work"), &active, &many[0])?,
            row(format!("{keys}, each asks for the first time"), &strangers, &many[0])?,
        ],
    );
    for (what, rounds) in [("1,000 of them at work", active), ("each for the first time", strangers)] {
        let slower = rounds.p50_ms / base.p50_ms - 1.0;
        report.aim(
            format!(
                "{keys} keys in {} teams, {what}: p50 of a hold within 10 % of 1,000 keys",
                grouped(teams.into())
            ),
            format!("{:+.0} % ({:.2} against {:.2} ms)", slower * 100.0, rounds.p50_ms, base.p50_ms),
            slower <= SLOWER_MAX,
        );
    }
    let memory = many[0].memory_mb()?;
    report.aim(format!("{keys} keys: memory < 1 GB"), format!("{memory:.0} MB"), memory < MEMORY_MB_MAX);
    let start = many[0].started_in.as_secs_f64();
    report.aim(format!("{keys} keys: start < 5 s"), format!("{start:.2} s"), start < START_SECONDS_MAX);
    Ok(())
}

/// So many numbers below `all`, from all over it; each is another, as long as `first + count` is below `all`.
fn spread(first: u32, count: u32, all: u32) -> impl Iterator<Item = u32> {
    // A prime that divides no round number: its multiples come to every one before they repeat.
    const STEP: u64 = 7_368_787;
    (first..first.saturating_add(count))
        .map(move |index| u32::try_from(u64::from(index) * STEP % u64::from(all)).unwrap_or_default())
}
