//! Whether the clock can be believed at a start.
//!
//! While the ledger runs its clock is steady; at the start it takes the time as it is given. A clock that is behind the
//! journal would book into windows that are over, and one that is far ahead would open windows early and forget the old
//! ones. Either stays out of service until somebody has looked.

use tollgate_domain::time::Timestamp;

/// Other replicas, and slewed clocks, may be this far ahead.
const BEHIND_MS_MAX: i64 = 1_000;

/// Longer than any ordinary pause of a ledger in use, and shorter than it takes to run through two months.
const AHEAD_MS_MAX: i64 = 31 * 86_400_000;

/// Why a clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockError {
    /// The books know of a later time.
    #[error(
        "the clock says {}, but the books were last written at {}, which is later: set the clock right, or start once with \
         --accept-clock if it is",
        text(*now),
        text(*latest)
    )]
    Behind {
        /// What the clock says.
        now: Timestamp,
        /// When the books were last written.
        latest: Timestamp,
    },
    /// The books have nothing of the last 31 days.
    #[error(
        "the clock says {}, but the books were last written at {}, more than 31 days earlier: set the clock right, or \
         start once with --accept-clock if it is",
        text(*now),
        text(*latest)
    )]
    Ahead {
        /// What the clock says.
        now: Timestamp,
        /// When the books were last written.
        latest: Timestamp,
    },
}

/// Judges `now` by the latest moment that the books know of. Where they know of none there is nothing to judge it by.
///
/// # Errors
/// [`ClockError`].
pub(super) fn check(now: Timestamp, latest: Option<Timestamp>) -> Result<(), ClockError> {
    let Some(latest) = latest else { return Ok(()) };
    match now.since_ms(latest) {
        ahead_ms if ahead_ms < -BEHIND_MS_MAX => Err(ClockError::Behind { now, latest }),
        ahead_ms if ahead_ms > AHEAD_MS_MAX => Err(ClockError::Ahead { now, latest }),
        _ => Ok(()),
    }
}

/// A time that no calendar has is told as it is stored.
fn text(at: Timestamp) -> String {
    at.to_rfc3339().unwrap_or_else(|| format!("{} ms after 1970", at.unix_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_the_journal() {
        /// 2026-12-01T00:00:00Z.
        const LATEST: i64 = 1_796_083_200_000;
        const DAY: i64 = 86_400_000;
        let latest = Timestamp::new(LATEST);
        let behind = |now| Err(ClockError::Behind { now, latest });
        let ahead = |now| Err(ClockError::Ahead { now, latest });
        let fine = |_| Ok(());
        let table: [(i64, &dyn Fn(Timestamp) -> Result<(), ClockError>); 10] = [
            (0, &fine),
            (1, &fine),
            (-1_000, &fine),
            (-1_001, &behind),
            (-365 * DAY, &behind),
            (31 * DAY, &fine),
            (31 * DAY + 1, &ahead),
            (365 * DAY, &ahead),
            (i64::MIN, &behind),
            (i64::MAX, &ahead),
        ];
        for (off_ms, expected) in table {
            let now = Timestamp::new(LATEST.saturating_add(off_ms));
            assert_eq!(check(now, Some(latest)), expected(now), "{off_ms}");
            assert_eq!(check(now, None), Ok(()), "{off_ms}, nothing in the journal");
        }
    }

    #[test]
    fn the_sentence_names_both_times_and_the_way_out() {
        let latest = Timestamp::new(1_796_083_200_000);
        let table = [
            (
                1_790_000_000_000,
                "the clock says 2026-09-21T14:13:20Z, but the books were last written at 2026-12-01T00:00:00Z, which is \
                 later: set the clock right, or start once with --accept-clock if it is",
            ),
            (
                1_800_000_000_000,
                "the clock says 2027-01-15T08:00:00Z, but the books were last written at 2026-12-01T00:00:00Z, more than \
                 31 days earlier: set the clock right, or start once with --accept-clock if it is",
            ),
        ];
        for (unix_ms, expected) in table {
            let refused = check(Timestamp::new(unix_ms), Some(latest)).unwrap_err();
            assert_eq!(refused.to_string(), expected);
        }
    }
}
