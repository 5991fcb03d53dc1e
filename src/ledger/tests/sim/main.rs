//! The ledger against a naive model, step by step, in random runs that a seed repeats.
//!
//! A run makes accounts, limits and rates, asks for holds, reports on them, changes what admins change, loses, repeats and
//! reorders messages, lets time pass, and stops and starts the ledger. After every step the ledger and the oracle must agree. Over
//! PostgreSQL two ledgers share the books, and what they are told at once must be explained by some order of it.
//!
//! `make soak SEEDS=n` tries any number of seeds; `SEED=n` begins with another one. A failure is told by its seed and by the
//! steps that are left when all that can be left out is.

mod books;
mod bucket;
#[allow(dead_code, reason = "other tests stop and start it")]
#[path = "../postgres/cluster.rs"]
mod cluster;
mod dice;
mod ledger;
mod oracle;
mod plan;
#[path = "../tables/rows.rs"]
mod rows;
mod run;
mod shrink;
mod spans;

use run::Over;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs that share nothing, at once: most of a run is waiting.
const WORKERS: usize = 4;

/// Runs the seeds from `first` on, and fails with the shrunk case of one that fails.
fn simulate(over: Over, first: u64, count: u64) {
    let next = AtomicU64::new(first);
    let end = first + count;
    let work = || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= end {
                return None;
            }
            let steps = plan::plan(seed);
            if let Err(failed) = runtime.block_on(run::run(over, seed, &steps)) {
                // The others stop after what they are at.
                next.store(end, Ordering::SeqCst);
                return Some(tell(over, seed, runtime.block_on(shrink::shrink(over, seed, steps, failed))));
            }
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn tell(over: Over, seed: u64, case: shrink::Case) -> String {
    let steps: Vec<String> = case.steps.iter().map(|step| format!("  {step:?}")).collect();
    let run::Failed { step, why } = case.failed;
    format!(
        "seed {seed} over {over:?} fails at step {step} of what is left of it:
{}
  => {why}",
        steps.join(
            "
"
        )
    )
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_runs_over_sqlite_agree_with_a_naive_model() {
    simulate(Over::Sqlite, number("SEED", 1), 200);
}

#[test]
fn random_runs_over_postgres_agree_with_a_naive_model() {
    simulate(Over::Postgres, number("SEED", 1), 20);
}

#[test]
#[ignore = "soak: as many runs as SEEDS says, over both"]
fn many_random_runs_agree_with_a_naive_model() {
    let (first, count) = (number("SEED", 1_000), number("SEEDS", 1_000));
    simulate(Over::Sqlite, first, count);
    simulate(Over::Postgres, first, count.div_ceil(10));
}
