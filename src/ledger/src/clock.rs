//! The one door to the time of day.
//!
//! Windows open and close by this clock, so it must not do what wall clocks do: jump. The wall clock (the machine's, or the
//! database's, on which all its ledgers agree) is believed once, at the start, where the store judges it by its
//! journal. From then on the machine's steady clock decides, which also counts while the machine sleeps. The wall clock
//! is followed only slowly, by at most a thousandth of the time that passes, and only while it is at most ten seconds
//! away: that is enough for an ordinary drift. A wall clock that jumps by a year, goes back or stands still is therefore
//! not followed; [`Clock::drift_ms`] says how far it is away, and a restart takes it as it is. The time never goes back.
//!
//! A ledger that is alone goes on by its steady clock meanwhile. Ledgers that share a database must agree on the time, and one that
//! was started after the jump goes by the new one: so a ledger whose time is out of reach of the database's writes nothing
//! until the database's clock is set right, or the ledger is restarted ([`OutOfStep`]).

use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tollgate_domain::time::Timestamp;

/// Says what time it is: by the machine, by a database, or what a test says. Its clones go with it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Arc<Mutex<Steady>>),
    Followed(Arc<Mutex<Steady>>),
    Set(Arc<AtomicI64>),
}

/// The clock that is followed is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database's clock has jumped, or stands still, and is {} s {} the ledger's: set it right, or restart the ledger to take it",
    drift_ms.unsigned_abs() / 1_000,
    if *drift_ms < 0 { "behind" } else { "ahead of" }
)]
pub struct OutOfStep {
    /// How far it is ahead of this one.
    drift_ms: i64,
}

impl Clock {
    /// The machine's clock, steady from now on.
    pub fn system() -> Self {
        Self(Source::System(Arc::new(Mutex::new(Steady::new(wall_ms(), steady_ms())))))
    }

    /// A clock that goes by another one, which was just read and will be [observed](Self::observe) again; in between, and
    /// where it jumps, the machine's steady clock goes on.
    pub fn following(reading: Timestamp) -> Self {
        Self(Source::Followed(Arc::new(Mutex::new(Steady::new(reading.unix_ms(), steady_ms())))))
    }

    /// A clock that stands still until it is [set](Self::set).
    pub fn stopped(at: Timestamp) -> Self {
        Self(Source::Set(Arc::new(AtomicI64::new(at.unix_ms()))))
    }

    /// Sets a stopped clock, also backwards. The others are not ours to set.
    pub fn set(&self, at: Timestamp) {
        if let Source::Set(unix_ms) = &self.0 {
            unix_ms.store(at.unix_ms(), Ordering::SeqCst);
        }
    }

    /// What the clock that this one [follows](Self::following) shows now. Any other clock follows none.
    ///
    /// # Errors
    /// [`OutOfStep`] as long as it is too far away to be followed.
    pub fn observe(&self, wall_ms: i64) -> Result<(), OutOfStep> {
        let Source::Followed(steady) = &self.0 else { return Ok(()) };
        let mut steady = lock(steady);
        steady.reading(wall_ms, steady_ms());
        let (follows, drift_ms) = (steady.follows, steady.drift_ms);
        tell(steady);
        if follows { Ok(()) } else { Err(OutOfStep { drift_ms }) }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Set(unix_ms) => Timestamp::new(unix_ms.load(Ordering::SeqCst)),
            Source::Followed(steady) => lock(steady).advance(steady_ms()),
            Source::System(steady) => {
                // Both clocks are read under the lock: a reading that waited would look like a clock that went back.
                let mut steady = lock(steady);
                let now = steady.reading(wall_ms(), steady_ms());
                tell(steady);
                now
            }
        }
    }

    /// How far the wall clock is ahead of this one, when it was last looked at; negative where it is behind.
    pub fn drift_ms(&self) -> i64 {
        match &self.0 {
            Source::Set(_) => 0,
            Source::Followed(steady) => lock(steady).drift_ms,
            Source::System(steady) => {
                self.now();
                lock(steady).drift_ms
            }
        }
    }
}

/// Each state of it is whole, so a panic elsewhere does no harm.
fn lock(steady: &Mutex<Steady>) -> MutexGuard<'_, Steady> {
    steady.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs, once, that the wall clock has gone out of reach, or has come back.
fn tell(steady: MutexGuard<'_, Steady>) {
    let (turned, follows, drift_ms) = (steady.turned, steady.follows, steady.drift_ms);
    drop(steady);
    match (turned, follows) {
        (true, false) => tracing::warn!(
            drift_ms,
            "the wall clock has jumped, stands still or runs badly: it is not followed; set it right, or restart to take it"
        ),
        (true, true) => tracing::info!(drift_ms, "the wall clock is followed again"),
        (false, _) => {}
    }
}

/// A machine that believes to live before 1970 is at its beginning.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since some moment; nobody can set this clock, and it goes on while the machine sleeps.
fn steady_ms() -> i64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;
    let since = clock_gettime(STEADY).expect("every supported system has this clock");
    since.tv_sec() * 1000 + since.tv_nsec() / 1_000_000
}

/// How far away a wall clock may be that is still followed.
const FOLLOWED_MS: i64 = 10_000;

/// A time that goes on with a steady clock and leans towards a wall clock.
#[derive(Debug)]
struct Steady {
    /// In microseconds: the wall clock is followed by up to one of them in each millisecond.
    now_us: i64,
    /// What the steady clock showed then.
    steady_ms: i64,
    /// How much of the wall clock's distance is still to be made up.
    lean_us: i64,
    /// The wall clock's distance when it was last read.
    drift_ms: i64,
    /// Whether it is near enough to be followed.
    follows: bool,
    /// Whether the last reading has changed that.
    turned: bool,
}

impl Steady {
    fn new(wall_ms: i64, steady_ms: i64) -> Self {
        let now_us = wall_ms.saturating_mul(1000);
        Self { now_us, steady_ms, lean_us: 0, drift_ms: 0, follows: true, turned: false }
    }

    /// The time, given what the steady clock shows.
    fn advance(&mut self, steady_ms: i64) -> Timestamp {
        let elapsed_ms = steady_ms.saturating_sub(self.steady_ms).max(0);
        let lean_us = self.lean_us.clamp(-elapsed_ms, elapsed_ms);
        self.lean_us -= lean_us;
        self.steady_ms = self.steady_ms.max(steady_ms);
        self.now_us = self.now_us.saturating_add(elapsed_ms.saturating_mul(1000)).saturating_add(lean_us);
        Timestamp::new(self.now_us.div_euclid(1000))
    }

    /// The time, given what both clocks show.
    fn reading(&mut self, wall_ms: i64, steady_ms: i64) -> Timestamp {
        let now = self.advance(steady_ms);
        self.drift_ms = wall_ms.saturating_sub(now.unix_ms());
        let follows = (-FOLLOWED_MS..=FOLLOWED_MS).contains(&self.drift_ms);
        self.turned = follows != self.follows;
        self.follows = follows;
        self.lean_us = if follows { wall_ms.saturating_mul(1000).saturating_sub(self.now_us) } else { 0 };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// When the tests start.
    const START: i64 = 1_790_000_000_000;
    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    /// Each row: what the wall and the steady clock show, what the time is, how far the wall clock is away. All since the
    /// start, in milliseconds.
    #[test]
    fn only_a_wall_clock_that_is_near_is_followed() {
        let table: [(&str, &[(i64, i64, i64, i64)]); 10] = [
            ("in step", &[(0, 0, 0, 0), (1, 1, 1, 0), (HOUR, HOUR, HOUR, 0), (HOUR, HOUR, HOUR, 0)]),
            (
                "a year forward",
                &[(1000, 1000, 1000, 0), (YEAR + 2000, 2000, 2000, YEAR), (YEAR + HOUR, HOUR, HOUR, YEAR)],
            ),
            (
                "a year back",
                &[(1000, 1000, 1000, 0), (2000 - YEAR, 2000, 2000, -YEAR), (HOUR - YEAR, HOUR, HOUR, -YEAR)],
            ),
            (
                "a year forward and back again",
                &[(YEAR + 1000, 1000, 1000, YEAR), (HOUR, HOUR, HOUR, 0), (2 * HOUR, 2 * HOUR, 2 * HOUR, 0)],
            ),
            // Followed for ten seconds: a hundredth of a second is lost.
            (
                "standing still",
                &[
                    (0, 1000, 1000, -1000),
                    (0, 5000, 4996, -4996),
                    (0, 10_000, 9991, -9991),
                    (0, 11_000, 10_990, -10_990),
                    (0, HOUR, HOUR - 10, 10 - HOUR),
                    (0, YEAR, YEAR - 10, 10 - YEAR),
                ],
            ),
            // The lean begins with the reading that found the distance.
            (
                "five seconds ahead",
                &[
                    (5000, 0, 0, 5000),
                    (6000, 1000, 1001, 4999),
                    (1_005_000, 1_000_000, 1_001_000, 4000),
                    (5_005_000, 5_000_000, 5_005_000, 0),
                    (9_005_000, 9_000_000, 9_005_000, 0),
                ],
            ),
            (
                "five seconds behind",
                &[
                    (-5000, 0, 0, -5000),
                    (-4000, 1000, 999, -4999),
                    (995_000, 1_000_000, 999_000, -4000),
                    (4_995_000, 5_000_000, 4_995_000, 0),
                    (8_995_000, 9_000_000, 8_995_000, 0),
                ],
            ),
            ("ten seconds ahead", &[(10_000, 0, 0, 10_000), (11_000, 1000, 1001, 9999)]),
            ("ten seconds and a bit ahead", &[(10_001, 0, 0, 10_001), (11_001, 1000, 1000, 10_001)]),
            // Both clocks have gone on.
            (
                "a laptop that slept",
                &[(1000, 1000, 1000, 0), (8 * HOUR, 8 * HOUR, 8 * HOUR, 0), (YEAR, YEAR, YEAR, 0)],
            ),
        ];
        for (name, readings) in table {
            let mut steady = Steady::new(START, 77);
            for (wall_ms, steady_ms, now_ms, drift_ms) in readings {
                let now = steady.reading(START + wall_ms, 77 + steady_ms);
                assert_eq!(
                    (now.unix_ms() - START, steady.drift_ms),
                    (*now_ms, *drift_ms),
                    "{name}, {steady_ms}"
                );
            }
        }
    }

    #[test]
    fn an_ordinary_drift_is_followed_closely() {
        for millionths in [-500, -20, 20, 500] {
            let mut steady = Steady::new(START, 0);
            for steady_ms in (0..24 * HOUR).step_by(333) {
                let wall_ms = START + steady_ms + steady_ms * millionths / 1_000_000;
                let now = steady.reading(wall_ms, steady_ms);
                assert!(
                    (now.unix_ms() - wall_ms).abs() <= 1,
                    "{millionths} at {steady_ms}: {}",
                    steady.drift_ms
                );
            }
            assert!(!steady.turned);
        }
    }

    /// Readings that come faster than the clock's milliseconds lose nothing.
    #[test]
    fn it_leans_at_the_same_rate_however_often_it_is_read() {
        let mut steady = Steady::new(START, 0);
        for steady_ms in 0..=100_000 {
            for _ in 0..2 {
                steady.reading(START + steady_ms + 5000, steady_ms);
            }
        }
        assert_eq!(steady.advance(100_000).unix_ms(), START + 100_100);
    }

    #[test]
    fn a_jump_is_told_once() {
        let mut steady = Steady::new(START, 0);
        // Wall clock, whether somebody is to be told, whether it is followed.
        let table = [
            (1, false, true),
            (YEAR, true, false),
            (YEAR + 1, false, false),
            (-YEAR, false, false),
            (4, true, true),
            (5, false, true),
            (-YEAR, true, false),
        ];
        for (steady_ms, (wall_ms, turned, follows)) in (1..).zip(table) {
            steady.reading(START + wall_ms, steady_ms);
            assert_eq!((steady.turned, steady.follows), (turned, follows), "{steady_ms}");
        }
    }

    #[test]
    fn a_followed_clock_goes_on_between_observations_and_does_not_jump() {
        let mut steady = Steady::new(START, 0);
        assert_eq!(steady.advance(2000).unix_ms(), START + 2000);
        steady.reading(START + 2500, 2000);
        assert_eq!(steady.advance(102_000).unix_ms(), START + 102_100);
        assert_eq!(steady.advance(HOUR).unix_ms(), START + HOUR + 500);
        steady.reading(START + YEAR, HOUR);
        assert_eq!(steady.advance(2 * HOUR).unix_ms(), START + 2 * HOUR + 500);

        let clock = Clock::following(Timestamp::new(START));
        let other = clock.clone();
        assert_eq!(other.observe(START + YEAR).unwrap_err(), OutOfStep { drift_ms: YEAR });
        assert!(clock.drift_ms() > FOLLOWED_MS);
        let now = clock.now();
        assert!(Timestamp::new(START) <= now && now < Timestamp::new(START + YEAR));
        assert!(clock.now() >= now);
    }

    #[test]
    fn a_stopped_clock_is_set_at_will_and_the_others_are_not() {
        let clock = Clock::stopped(Timestamp::new(5));
        clock.observe(9).unwrap();
        assert_eq!((clock.now(), clock.drift_ms()), (Timestamp::new(5), 0));
        clock.clone().set(Timestamp::new(3));
        assert_eq!(clock.now(), Timestamp::new(3));

        let clock = Clock::system();
        let now = clock.now();
        clock.set(Timestamp::new(3));
        clock.observe(3).unwrap();
        assert!(clock.now() >= now && now > Timestamp::new(3));
    }

    proptest! {
        /// Whatever the wall clock shows, and even if the steady one were not.
        #[test]
        fn the_time_goes_with_the_steady_clock_and_never_back(
            readings in proptest::collection::vec((
                prop_oneof![any::<i64>(), START - 20_000..START + 20_000],
                prop_oneof![-5000_i64..100_000, 0_i64..3],
                any::<bool>(),
            ), 1..60),
        ) {
            let mut steady = Steady::new(START, 0);
            let (mut steady_ms, mut latest_ms, mut last) = (0, 0, Timestamp::new(START));
            for (wall_ms, step_ms, reads) in readings {
                steady_ms += step_ms;
                latest_ms = latest_ms.max(steady_ms);
                let now = if reads { steady.reading(wall_ms, steady_ms) } else { steady.advance(steady_ms) };
                prop_assert!(now >= last);
                let lean_ms = now.unix_ms() - START - latest_ms;
                prop_assert!(lean_ms.abs() <= latest_ms / 1000 + 1, "{} after {}", lean_ms, latest_ms);
                last = now;
            }
        }

        /// Neither a start before the epoch nor one at the end of time overflows.
        #[test]
        fn no_clock_overflows(start_ms in any::<i64>(), wall_ms in any::<i64>(), steady_ms in any::<i64>()) {
            let mut steady = Steady::new(start_ms, 0);
            let first = steady.reading(wall_ms, steady_ms);
            prop_assert!(steady.reading(wall_ms, i64::MAX) >= first);
        }
    }
}
