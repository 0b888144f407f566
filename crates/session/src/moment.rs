//! Points in time that survive a restart and a clock that is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokenkeep_clock::Clock;

/// How far another machine's clock may be ahead before its time counts as a time in the future.
const SKEW: Duration = Duration::from_secs(30);

/// When something happened, on both clocks, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub wall: u64,
    pub boot: u64,
    pub boot_id: String,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self::new(clock.wall(), clock.boot(), clock.boot_id())
    }

    pub(crate) fn new(wall: SystemTime, boot: Duration, boot_id: &str) -> Self {
        Self { wall: unix_ms(wall), boot: whole_ms(boot), boot_id: boot_id.to_owned() }
    }

    /// How long ago this was: by boot time within the same boot, since nobody can set that clock; by wall time
    /// otherwise. `None` if it lies in the future, so that a clock lied either then or now.
    pub(crate) fn elapsed(&self, clock: &dyn Clock) -> Option<Duration> {
        let boot_id = clock.boot_id();
        if !boot_id.is_empty() && boot_id == self.boot_id {
            return whole_ms(clock.boot()).checked_sub(self.boot).map(Duration::from_millis);
        }
        let now = unix_ms(clock.wall());
        match now.checked_sub(self.wall) {
            Some(ms) => Some(Duration::from_millis(ms)),
            None if self.wall - now <= whole_ms(SKEW) => Some(Duration::ZERO),
            None => None,
        }
    }

    /// Whether `delay` has passed since. A moment in the future does not hold anything back.
    pub(crate) fn is_past(&self, delay: Duration, clock: &dyn Clock) -> bool {
        self.elapsed(clock).is_none_or(|elapsed| elapsed >= delay)
    }

    pub(crate) fn wall_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.wall)
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    whole_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenkeep_clock::ManualClock;

    fn clock() -> ManualClock {
        ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    #[test]
    fn within_a_boot_a_stepped_wall_clock_changes_nothing() {
        let clock = clock();
        let then = Moment::now(&clock);
        clock.advance(Duration::from_secs(10));
        clock.set_wall(UNIX_EPOCH);
        assert_eq!(then.elapsed(&clock), Some(Duration::from_secs(10)));
    }

    #[test]
    fn after_a_restart_wall_time_counts() {
        let clock = clock();
        let then = Moment::now(&clock);
        clock.advance(Duration::from_secs(10));
        assert_eq!(then.elapsed(&clock.restarted()), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_moment_in_the_future_is_suspect_beyond_a_little_skew() {
        let clock = clock();
        let then = Moment::now(&clock);
        let other = clock.restarted();
        other.set_wall(clock.wall() - Duration::from_secs(20));
        assert_eq!(then.elapsed(&other), Some(Duration::ZERO));
        other.set_wall(clock.wall() - Duration::from_secs(31));
        assert_eq!(then.elapsed(&other), None);
        assert!(then.is_past(Duration::from_secs(3600), &other));
    }
}
