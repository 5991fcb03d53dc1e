//! What an answer that never came to its end has cost, as well as one can tell: neither nothing nor the worst case.
//!
//! A developer who presses Esc is charged what the provider had already produced. Every estimate is marked as one.

use crate::bounds::{BYTES_PER_TOKEN, Bounds};
use crate::meter::Reading;
use crate::usage::Usage;

/// Tokens that a model puts out in a second while nobody can see them: what fast current models do.
const OUTPUT_TOKENS_PER_SECOND: u64 = 80;
/// How long a model that hides nothing may take to its first visible word; what is longer was thinking.
const FIRST_WORD_MS: u64 = 3_000;

/// What is known of an unfinished answer.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What the meter read.
    pub reading: &'a Reading,
    /// What the request may use at most.
    pub bounds: &'a Bounds,
    /// What its input is, as an estimate.
    pub input_estimate: u64,
    /// Milliseconds from forwarding to the first visible output, or to now where none came.
    pub unseen_ms: u64,
}

/// The usage that an unfinished answer is charged: the input that the provider named, else the estimate; and the output that
/// went by, and for the time in which none could be seen as much as that allows.
pub fn usage(observed: Observed<'_>) -> Usage {
    let Observed { reading, bounds, input_estimate, unseen_ms } = observed;
    let known = reading
        .usage
        .unwrap_or_else(|| Usage { input: input_estimate.min(bounds.input), ..Usage::default() });
    let seen = output_seen(reading);
    let words = reading.output_bytes > 0;
    let thinking_ms = if words { unseen_ms.saturating_sub(FIRST_WORD_MS) } else { unseen_ms };
    let thinking = thinking_ms.saturating_mul(OUTPUT_TOKENS_PER_SECOND).div_ceil(1000);
    let output = if words { seen.saturating_add(thinking) } else { thinking };
    Usage { output: output.min(bounds.output).max(known.output), ..known }
}

/// Output tokens that the text which went by must have been, at least roughly.
pub fn output_seen(reading: &Reading) -> u64 {
    let named = reading.usage.map_or(0, |usage| usage.output);
    reading.output_bytes.div_ceil(BYTES_PER_TOKEN).max(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_answer_costs_what_is_known_of_it() {
        let bounds = Bounds { input: 1_000, output: 500, ..Bounds::default() };
        let started = Usage { input: 7, cache_read: 900, output: 1, ..Usage::default() };
        let reading = |usage, output_bytes| Reading { usage, output_bytes, ..Reading::default() };
        // (named usage, bytes seen, input estimate, milliseconds without a visible word) -> (input, output)
        let table = [
            ("the client left at once", None, 0, 100, 0, (100, 0)),
            ("nothing seen in two seconds", None, 0, 100, 2_000, (100, 160)),
            ("nothing seen for an hour: the bound", None, 0, 100, 3_600_000, (100, 500)),
            ("text seen soon", None, 31, 100, 3_000, (100, 11)),
            ("text seen after thinking", None, 31, 100, 5_000, (100, 171)),
            ("an estimate beyond the bound", None, 0, 30_000, 0, (1_000, 0)),
            ("input named", Some(started), 300, 30_000, 1_000, (7, 100)),
            ("input named, output hidden", Some(started), 0, 100, 4_000, (7, 320)),
            ("output named beyond what was seen", Some(Usage { output: 40, ..started }), 3, 100, 0, (7, 40)),
        ];
        for (case, named, output_bytes, input_estimate, unseen_ms, expected) in table {
            let reading = reading(named, output_bytes);
            let usage = usage(Observed { reading: &reading, bounds: &bounds, input_estimate, unseen_ms });
            assert_eq!((usage.input, usage.output), expected, "{case}");
            assert_eq!(usage.cache_read, named.map_or(0, |usage| usage.cache_read), "{case}");
        }
    }
}
