use super::*;
use proptest::prelude::*;

/// 2026-12-01T00:00:00Z.
const NOW: Timestamp = Timestamp::new(1_796_083_200_000);
const KINDS_OVER_TIME: [RateKind; 3] =
    [RateKind::RequestsPerMinute, RateKind::TokensPerMinute, RateKind::TokensPerDay];

const fn rpm(limit: u64) -> Rate {
    Rate { kind: RateKind::RequestsPerMinute, limit }
}

const fn tpm(limit: u64) -> Rate {
    Rate { kind: RateKind::TokensPerMinute, limit }
}

const fn parallel(limit: u64) -> Rate {
    Rate { kind: RateKind::Parallel, limit }
}

/// A state so many nanoseconds ahead of [`NOW`].
fn ahead(ns: i64) -> i64 {
    NOW.unix_ms() * 1_000_000 + ns
}

fn refused(ms: u64) -> Result<i64, RetryAfter> {
    Err(RetryAfter { ms })
}

#[test]
fn kinds_survive_their_words() {
    for kind in RateKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert_eq!("RPM".parse::<RateKind>(), Err(NotARate));
    assert_eq!("".parse::<RateKind>(), Err(NotARate));
}

#[test]
fn a_unit_passes_or_says_when_it_would() {
    const SECOND: i64 = 1_000_000_000;
    const MINUTE: i64 = 60 * SECOND;
    let tpd = Rate { kind: RateKind::TokensPerDay, limit: 86_400 };
    // (case, rate, state, units, expected)
    let table = [
        ("never used", rpm(60), 0, 1, Ok(ahead(SECOND))),
        ("long unused", rpm(60), ahead(-MINUTE), 1, Ok(ahead(SECOND))),
        ("some used", rpm(60), ahead(7), 1, Ok(ahead(SECOND + 7))),
        ("the last of it", rpm(60), ahead(59 * SECOND), 1, Ok(ahead(MINUTE))),
        ("a nanosecond too early", rpm(60), ahead(59 * SECOND + 1), 1, refused(1)),
        ("all used", rpm(60), ahead(MINUTE), 1, refused(1_000)),
        ("one a minute", rpm(1), ahead(MINUTE), 1, refused(60_000)),
        ("a wait is rounded up to whole milliseconds", rpm(60), ahead(MINUTE + 1), 1, refused(1_001)),
        ("debt", rpm(60), ahead(3 * MINUTE), 1, refused(121_000)),
        ("an interval is rounded up", rpm(7), 0, 1, Ok(ahead(8_571_428_572))),
        ("tokens", tpm(60), 0, 60, Ok(ahead(MINUTE))),
        ("tokens that do not fit yet", tpm(60), ahead(2 * SECOND), 59, refused(1_000)),
        ("no tokens, where none are left", tpm(60), ahead(MINUTE), 0, Ok(ahead(MINUTE))),
        ("no tokens, in debt", tpm(60), ahead(MINUTE + 1), 0, refused(1)),
        ("more than the whole limit, unused", tpm(60), 0, 180, Ok(ahead(3 * MINUTE))),
        ("more than the whole limit, used", tpm(60), ahead(SECOND), 180, refused(1_000)),
        ("by the day", tpd, ahead(0), 2, Ok(ahead(2 * SECOND))),
        ("by the day, all used", tpd, ahead(86_400 * SECOND), 1, refused(1_000)),
        ("nothing is allowed", rpm(0), 0, 1, refused(60_000)),
        ("nothing is allowed, and nothing asked", tpm(0), 0, 0, refused(60_000)),
        ("the first open request", parallel(2), 0, 1, Ok(1)),
        ("the last open request", parallel(2), 1, 1, Ok(2)),
        ("one too many", parallel(2), 2, 1, refused(1_000)),
        ("many too many, after the limit was lowered", parallel(2), 9, 1, refused(1_000)),
        ("a count that cannot be", parallel(2), -3, 1, Ok(1)),
        ("none may be open", parallel(0), 0, 1, refused(60_000)),
    ];
    for (case, rate, state, units, expected) in table {
        assert_eq!(rate.take(state, units, NOW), expected, "{case}");
    }
}

#[test]
fn exactly_the_limit_passes_at_once_and_then_one_for_each_interval() {
    for limit in [1, 2, 7, 60, 1_000] {
        let rate = rpm(limit);
        let mut state = 0;
        for n in 1..=limit {
            state = rate.take(state, 1, NOW).unwrap_or_else(|_| panic!("{n} of {limit}"));
        }
        let interval_ms = 60_000_u64.div_ceil(limit);
        let mut now = NOW;
        for _ in 0..3 {
            let RetryAfter { ms } = rate.take(state, 1, now).unwrap_err();
            assert!((1..=interval_ms).contains(&ms), "{limit}: {ms}");
            now = now.plus_ms(i64::try_from(ms).unwrap());
            state = rate.take(state, 1, now).unwrap();
        }
    }
}

#[test]
fn a_settle_corrects_what_was_held() {
    const SECOND: i64 = 1_000_000_000;
    // (case, rate, state, held, used, expected); a unit of tpm(60) takes a second.
    let table = [
        ("as much", tpm(60), ahead(9), 5, 5, ahead(9)),
        ("as much, long ago", tpm(60), ahead(-9), 5, 5, ahead(-9)),
        ("less", tpm(60), ahead(9 * SECOND), 5, 2, ahead(6 * SECOND)),
        ("less, and most came back by itself", tpm(60), ahead(SECOND), 5, 0, ahead(0)),
        ("less, and all came back by itself", tpm(60), ahead(-SECOND), 5, 0, ahead(-SECOND)),
        ("nothing was ever held", tpm(60), 0, 5, 0, 0),
        ("more", tpm(60), ahead(SECOND), 5, 9, ahead(5 * SECOND)),
        ("more, and all came back by itself", tpm(60), ahead(-SECOND), 5, 9, ahead(4 * SECOND)),
        ("more than there is: debt", tpm(60), ahead(60 * SECOND), 5, 500, ahead(555 * SECOND)),
        ("a request stays one", rpm(60), ahead(SECOND), 1, 1, ahead(SECOND)),
        ("a request that never was", rpm(60), ahead(SECOND), 1, 0, ahead(0)),
        ("an open request ends", parallel(2), 2, 1, 0, 1),
        ("the last one ends", parallel(2), 1, 1, 0, 0),
        ("none was open", parallel(2), 0, 1, 0, 0),
        ("one opens that was not asked for", parallel(2), 2, 0, 1, 3),
        ("a count that cannot be", parallel(2), -3, 1, 0, 0),
    ];
    for (case, rate, state, held, used, expected) in table {
        assert_eq!(rate.correct(state, held, used, NOW), expected, "{case}");
    }
}

#[test]
fn a_rate_tells_how_it_stands() {
    const SECOND: i64 = 1_000_000_000;
    // (case, rate, state, remaining, milliseconds to the reset)
    let table = [
        ("never used", rpm(60), 0, 60, 0),
        ("one used", rpm(60), ahead(SECOND), 59, 1_000),
        ("one and a bit used", rpm(60), ahead(SECOND + 1), 58, 1_001),
        ("all used", rpm(60), ahead(60 * SECOND), 0, 60_000),
        ("debt", rpm(60), ahead(90 * SECOND), 0, 90_000),
        ("nothing is allowed", rpm(0), 0, 0, 0),
        ("two are open", parallel(3), 2, 1, 0),
        ("more than the limit are open", parallel(3), 5, 0, 0),
    ];
    for (case, rate, state, remaining, resets_in_ms) in table {
        assert_eq!(rate.standing(state, NOW), (remaining, NOW.plus_ms(resets_in_ms)), "{case}");
    }
}

#[test]
fn what_is_used_stays_used_when_the_limit_changes() {
    const SECOND: i64 = 1_000_000_000;
    let tpd = Rate { kind: RateKind::TokensPerDay, limit: 60 };
    // (case, to, state, from, expected)
    let table = [
        ("the same", rpm(60), ahead(7), rpm(60), ahead(7)),
        ("unused", rpm(120), ahead(-7), rpm(60), ahead(-7)),
        ("never used", rpm(120), 0, rpm(60), 0),
        ("raised: ten used of twice as many", rpm(120), ahead(10 * SECOND), rpm(60), ahead(5 * SECOND)),
        ("lowered: ten used of half as many", rpm(30), ahead(10 * SECOND), rpm(60), ahead(20 * SECOND)),
        ("lowered below what is used: debt", rpm(6), ahead(10 * SECOND), rpm(60), ahead(100 * SECOND)),
        ("a part of a nanosecond is used", rpm(120), ahead(1), rpm(60), ahead(1)),
        ("open requests", parallel(1), 7, parallel(9), 7),
        ("a limit on something else", tpd, ahead(SECOND), tpm(60), 0),
        ("open requests are no time", rpm(60), 7, parallel(9), 0),
    ];
    for (case, to, state, from, expected) in table {
        assert_eq!(to.rescaled(state, from, NOW), expected, "{case}");
    }
    let used = rpm(60).take(0, 1, NOW).unwrap();
    let none = rpm(0).rescaled(used, rpm(60), NOW);
    assert_eq!(rpm(60).rescaled(none, rpm(0), NOW), used, "by way of a limit of zero");
}

#[test]
fn a_clock_that_goes_back_gives_nothing_back() {
    let state = rpm(60).take(0, 1, NOW).unwrap();
    let before = NOW.plus_ms(-500);
    assert_eq!(rpm(60).standing(state, before), (58, NOW.plus_ms(1_000)));
    assert_eq!(rpm(60).correct(state, 1, 0, before), ahead(0), "the unit, and no more");
}

#[test]
fn tokens_are_counted_by_an_estimate_before_the_answer() {
    let bounds = |input_per_call, output| Bounds { input_per_call, output, ..Bounds::default() };
    // (bounds on one call's input and on the output, tokens)
    let table = [
        (0, 0, 0),
        (1, 0, 1),
        (300, 10, 110),
        (301, 10, 111),
        (30_000, 128_000, 14_096),
        (3, u64::MAX, 4_097),
    ];
    for (input, output, expected) in table {
        assert_eq!(estimated_tokens(&bounds(input, output)), expected, "{input} {output}");
    }
    let usage =
        Usage { input: 1, cache_read: 2, cache_write_5m: 4, cache_write_1h: 8, output: 16, web_searches: 32 };
    assert_eq!(used_tokens(&usage), 31);
    assert_eq!(used_tokens(&Usage { input: u64::MAX, ..usage }), u64::MAX);
    for (kind, held, used) in [
        (RateKind::RequestsPerMinute, 1, 1),
        (RateKind::Parallel, 1, 1),
        (RateKind::TokensPerMinute, 110, 31),
        (RateKind::TokensPerDay, 110, 31),
    ] {
        assert_eq!((kind.units_held(&bounds(300, 10)), kind.units_used(&usage)), (held, used), "{kind:?}");
    }
}

/// A token bucket as the textbook has it, in exact fractions: the level is counted in parts of a unit, `parts_per_unit` to each,
/// and as many come back in a nanosecond as `parts_per_ns`. It knows no arrival time, and rounds nothing.
struct Bucket {
    parts_per_unit: i128,
    parts_per_ns: i128,
    capacity: i128,
    level: i128,
    at: Timestamp,
}

impl Bucket {
    fn new(limit: u64, parts_per_unit: i128, parts_per_ns: i128) -> Self {
        let capacity = i128::from(limit) * parts_per_unit;
        Self { parts_per_unit, parts_per_ns, capacity, level: capacity, at: NOW }
    }

    fn fill(&mut self, now: Timestamp) {
        let elapsed_ns = i128::from(now.since_ms(self.at)) * 1_000_000;
        self.level = self.capacity.min(self.level + elapsed_ns * self.parts_per_ns);
        self.at = now;
    }

    fn take(&mut self, units: u64, now: Timestamp) -> bool {
        self.fill(now);
        let parts = i128::from(units) * self.parts_per_unit;
        let fits = self.level >= parts.min(self.capacity);
        self.level -= if fits { parts } else { 0 };
        fits
    }

    fn correct(&mut self, held: u64, used: u64, now: Timestamp) {
        self.fill(now);
        let back = (i128::from(held) - i128::from(used)) * self.parts_per_unit;
        self.level = self.capacity.min(self.level + back);
    }

    fn remaining(&mut self, now: Timestamp) -> u64 {
        self.fill(now);
        u64::try_from(self.level.max(0) / self.parts_per_unit).unwrap()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Take(u64),
    Correct(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => prop_oneof![0..20_i64, 0..5_000_i64, 0..200_000_i64].prop_map(Step::Wait),
        4 => prop_oneof![0..4_u64, 0..3_000_u64].prop_map(Step::Take),
        1 => (0..2_000_u64, 0..2_000_u64).prop_map(|(held, used)| Step::Correct(held, used)),
    ];
    prop::collection::vec(step, 1..200)
}

/// Limits that divide a minute (and so a day) into whole nanoseconds: there the interval rounds nothing.
const EVEN_LIMITS: [u64; 10] = [1, 2, 3, 10, 60, 250, 1_000, 6_000, 1_000_000, 60_000_000_000];

fn period_ns(kind: RateKind) -> u64 {
    if kind == RateKind::TokensPerDay { 86_400_000_000_000 } else { 60_000_000_000 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Where an interval is whole, the integer decides like the exact bucket of `limit` units a span; where it is not, like that of
    /// one unit an interval.
    #[test]
    fn the_integer_decides_like_an_exact_bucket(
        steps in steps(),
        kind in prop::sample::select(KINDS_OVER_TIME.to_vec()),
        even in prop::sample::select(EVEN_LIMITS.to_vec()),
        odd in 1..5_000_u64,
        is_even: bool,
    ) {
        let limit = if is_even { even } else { odd };
        let rate = Rate { kind, limit };
        let period = period_ns(kind);
        let mut bucket = if is_even {
            Bucket::new(limit, i128::from(period), i128::from(limit))
        } else {
            Bucket::new(limit, i128::from(period.div_ceil(limit)), 1)
        };
        let (mut state, mut now) = (0, NOW);
        for step in steps {
            match step {
                Step::Wait(ms) => now = now.plus_ms(ms),
                Step::Take(units) => match rate.take(state, units, now) {
                    Ok(next) => {
                        prop_assert!(bucket.take(units, now));
                        state = next;
                    }
                    Err(RetryAfter { ms }) => {
                        prop_assert!(!bucket.take(units, now));
                        let after = now.plus_ms(i64::try_from(ms).unwrap());
                        prop_assert!(rate.take(state, units, after).is_ok(), "after {} ms", ms);
                        prop_assert!(rate.take(state, units, after.plus_ms(-1)).is_err(), "before {} ms", ms);
                    }
                },
                Step::Correct(held, used) => {
                    bucket.correct(held, used, now);
                    state = rate.correct(state, held, used, now);
                }
            }
            let (remaining, resets_at) = rate.standing(state, now);
            prop_assert_eq!(remaining, bucket.remaining(now));
            prop_assert_eq!(rate.standing(state, resets_at).0, limit);
            if resets_at > now {
                prop_assert!(rate.standing(state, resets_at.plus_ms(-1)).0 < limit);
            }
        }
    }

    /// However it is asked, no more passes in any span than the limit at once and the limit's share of the span.
    #[test]
    fn no_more_passes_than_the_limit_and_its_share(
        waits in prop::collection::vec(0..3_000_i64, 1..300),
        limit in 1..100_u64,
    ) {
        let rate = rpm(limit);
        let (mut state, mut now, mut passed) = (0, NOW, 0_i128);
        for wait in waits {
            now = now.plus_ms(wait);
            while let Ok(next) = rate.take(state, 1, now) {
                state = next;
                passed += 1;
            }
            let share = i128::from(limit) * i128::from(now.since_ms(NOW));
            prop_assert!(passed * 60_000 <= i128::from(limit) * 60_000 + share);
        }
    }

    /// A change of the limit keeps what is used to the unit, up to a part of one.
    #[test]
    fn units_used_survive_a_change_of_the_limit(
        from in 1..10_000_u64,
        to in 1..10_000_u64,
        used in 0..10_000_u64,
    ) {
        let used = used.min(from).min(to);
        let state = tpm(from).take(0, used, NOW).unwrap();
        let rescaled = tpm(to).rescaled(state, tpm(from), NOW);
        prop_assert_eq!(tpm(to).standing(rescaled, NOW).0, to - used);
    }

    /// Nothing overflows, and a state that went through any hands is still one.
    #[test]
    fn no_number_is_too_large(
        state: i64,
        limits in (any::<u64>(), any::<u64>()),
        units in (any::<u64>(), any::<u64>()),
        now: i64,
        kind in prop::sample::select(RateKind::ALL.to_vec()),
    ) {
        let (rate, other) = (Rate { kind, limit: limits.0 }, Rate { kind, limit: limits.1 });
        let now = Timestamp::new(now);
        if let Err(RetryAfter { ms }) = rate.take(state, units.0, now) {
            prop_assert!(ms > 0);
        }
        rate.correct(state, units.0, units.1, now);
        rate.rescaled(state, other, now);
        prop_assert!(rate.standing(state, now).0 <= rate.limit);
    }
}

#[test]
fn the_ends_of_all_ranges_are_no_ends_of_the_program() {
    let states = [i64::MIN, -1, 0, 1, i64::MAX];
    let numbers = [0, 1, u64::MAX];
    for kind in RateKind::ALL {
        for (state, now) in
            states.into_iter().flat_map(|state| states.map(|now| (state, Timestamp::new(now))))
        {
            for (limit, units) in numbers.into_iter().flat_map(|limit| numbers.map(|units| (limit, units))) {
                let rate = Rate { kind, limit };
                let _ = rate.take(state, units, now);
                let _ = (rate.correct(state, units, 0, now), rate.correct(state, 0, units, now));
                let _ = numbers.map(|from| rate.rescaled(state, Rate { kind, limit: from }, now));
                assert!(rate.standing(state, now).0 <= limit);
            }
        }
    }
}
