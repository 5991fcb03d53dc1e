//! Figures, and the page that is printed of them.

use crate::Plan;
use crate::load::Seen;
use std::fmt;

/// How long things took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Latency {
    /// `None`: nothing was measured.
    pub(crate) fn of(mut times_us: Vec<u32>) -> Option<Self> {
        times_us.sort_unstable();
        // The smallest that so many in a hundred do not exceed.
        let percentile = |percent: usize| {
            let rank = (times_us.len() * percent).div_ceil(100).max(1);
            times_us.get(rank - 1).map(|time| f64::from(*time) / 1_000.0)
        };
        Some(Self { p50_ms: percentile(50)?, p99_ms: percentile(99)? })
    }
}

/// The one in the middle, and how far the others are from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Median {
    pub(crate) value: f64,
    least: f64,
    most: f64,
}

impl Median {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { value: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&grouped(self.value))?;
        if self.least < self.most {
            write!(f, " ({} to {})", grouped(self.least), grouped(self.most))?;
        }
        Ok(())
    }
}

/// What several rounds of the same saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rate: Median,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us: f64,
}

impl Rounds {
    pub(crate) fn of(rounds: &[Seen]) -> Self {
        let median = |of: fn(&Seen) -> f64| Median::of(rounds.iter().map(of)).value;
        Self {
            rate: Median::of(rounds.iter().map(|seen| seen.pairs_per_second)),
            p50_ms: median(|seen| seen.hold.p50_ms),
            p99_ms: median(|seen| seen.hold.p99_ms),
            cpu_us: median(|seen| seen.cpu_us_each),
        }
    }
}

/// A whole number, in groups of three.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The page.
pub(crate) struct Report {
    facts: Vec<String>,
    tables: Vec<(&'static str, Vec<Vec<String>>)>,
    aims: Vec<[String; 3]>,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let rounds = format!(
            "{cores} cores, shared by load, ledger and database; {} rounds of {:.0} s each, in turns; a value is the median, in \
             brackets the least and the most.",
            plan.rounds,
            plan.round.as_secs_f64()
        );
        Self { facts: vec![rounds], tables: Vec::new(), aims: Vec::new() }
    }

    pub(crate) fn fact(&mut self, text: String) {
        self.facts.push(text);
    }

    /// A table under a line of names, parted by `|`.
    pub(crate) fn table(&mut self, names: &'static str, rows: Vec<Vec<String>>) {
        self.tables.push((names, rows));
    }

    pub(crate) fn aim(&mut self, aim: impl Into<String>, found: impl Into<String>, is_reached: bool) {
        let reached = if is_reached { "yes" } else { "**no**" };
        self.aims.push([aim.into(), found.into(), reached.into()]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.facts.iter().try_for_each(|fact| writeln!(f, "- {fact}"))?;
        for (names, rows) in &self.tables {
            writeln!(f, "\n| {names} |")?;
            writeln!(f, "|{}", " --- |".repeat(names.split('|').count()))?;
            rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))?;
        }
        writeln!(f, "\n| aim | found | reached |\n| --- | --- | --- |")?;
        self.aims.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
