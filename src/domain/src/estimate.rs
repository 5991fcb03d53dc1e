//! What an answer that never came to its end has cost, as well as one can tell: neither nothing nor the worst case.
//!
//! A developer who presses Esc is charged what the provider had already produced. Every estimate is marked as one.

use crate::bounds::Bounds;
use crate::meter::Reading;
use crate::usage::Usage;

/// Bytes of text that make one token: a little less than the four of English prose, because code and JSON run shorter.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens that a model puts out in a second while nobody can see them: what fast current models do.
const OUTPUT_TOKENS_PER_SECOND: u64 = 80;

/// What is known of an unfinished answer.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// What the meter read.
    pub reading: &'a Reading,
    /// What the request may use at most.
    pub bounds: &'a Bounds,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// Milliseconds since the request was forwarded.
    pub elapsed_ms: u64,
}

/// The usage that an unfinished answer is charged: what the provider named, else what the body's bytes suggest; and
/// the output that went by, or, where none could be seen, as much as the time allows.
pub fn usage(observed: Observed<'_>) -> Usage {
    let Observed { reading, bounds, body_bytes, elapsed_ms } = observed;
    let known = reading.usage.unwrap_or_else(|| Usage {
        input: body_bytes.div_ceil(BYTES_PER_TOKEN).min(bounds.input),
        ..Usage::default()
    });
    let unseen = elapsed_ms.saturating_mul(OUTPUT_TOKENS_PER_SECOND).div_ceil(1000);
    let output = if reading.output_bytes > 0 { output_seen(reading) } else { unseen };
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
        // (named usage, bytes seen, body bytes, elapsed) -> (input, output)
        let table = [
            ("the client left at once", None, 0, 300, 0, (100, 0)),
            ("nothing seen in two seconds", None, 0, 300, 2_000, (100, 160)),
            ("nothing seen for an hour: the bound", None, 0, 300, 3_600_000, (100, 500)),
            ("text seen, so time says nothing", None, 31, 300, 60_000, (100, 11)),
            ("a body beyond the bound", None, 0, 30_000, 0, (1_000, 0)),
            ("input named", Some(started), 300, 30_000, 60_000, (7, 100)),
            ("input named, output hidden", Some(started), 0, 300, 1_000, (7, 80)),
            ("output named beyond what was seen", Some(Usage { output: 40, ..started }), 3, 300, 0, (7, 40)),
        ];
        for (case, named, output_bytes, body_bytes, elapsed_ms, expected) in table {
            let reading = reading(named, output_bytes);
            let usage = usage(Observed { reading: &reading, bounds: &bounds, body_bytes, elapsed_ms });
            assert_eq!((usage.input, usage.output), expected, "{case}");
            assert_eq!(usage.cache_read, named.map_or(0, |usage| usage.cache_read), "{case}");
        }
    }
}
