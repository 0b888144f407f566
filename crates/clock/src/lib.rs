//! The only source of time in tokenkeep.
//!
//! A token's expiry is kept on two clocks, since each lies in its own way: wall time can be stepped, boot time means
//! nothing after a restart. [`Clock`] gives both, [`SystemClock`] reads them from the system, and [`ManualClock`] is
//! moved by hand in tests. Clippy bans the ambient clock everywhere else.

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall time. Can jump either way when someone sets the clock.
    fn wall(&self) -> SystemTime;

    /// Time since the machine started, suspended time included. Never goes back within a boot.
    fn boot(&self) -> Duration;

    /// What tells this boot from every other, so that a stored boot time can be judged. Empty where the system has no
    /// such thing; two empty ones are never the same boot.
    fn boot_id(&self) -> &str;
}

/// The system's clocks. On Linux boot time is `CLOCK_BOOTTIME`, which counts suspend; elsewhere it is the monotonic
/// clock and there is no boot id, so that stored times are judged by wall time alone.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemClock;

impl SystemClock {
    /// The system's clock, shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time enters")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Duration {
        // The call can fail only for a clock the kernel does not have; Linux has had this one since 2.6.39.
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time enters")]
    fn boot(&self) -> Duration {
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    fn boot_id(&self) -> &str {
        static BOOT_ID: OnceLock<String> = OnceLock::new();
        BOOT_ID.get_or_init(|| {
            // Missing on other systems and in some sandboxes; wall time alone decides there.
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default()
        })
    }
}

/// A clock that moves only by hand. Clones share the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    wall_ms: Arc<AtomicU64>,
    boot_ms: Arc<AtomicU64>,
    boot_id: Arc<str>,
}

impl ManualClock {
    /// A clock that stands at `wall` (to the millisecond, and not before 1970), an hour after boot.
    pub fn at(wall: SystemTime) -> Self {
        let wall_ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            wall_ms: Arc::new(AtomicU64::new(u64::try_from(wall_ms).unwrap_or(u64::MAX))),
            boot_ms: Arc::new(AtomicU64::new(3_600_000)),
            boot_id: Arc::from("manual-boot"),
        }
    }

    /// Lets `by` pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.boot_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets wall time alone, as an administrator or NTP does.
    pub fn set_wall(&self, to: SystemTime) {
        let ms = to.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.wall_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// The same wall time after a restart: another boot id, boot time near zero.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self {
            wall_ms: Arc::new(AtomicU64::new(self.wall_ms.load(Ordering::SeqCst))),
            boot_ms: Arc::new(AtomicU64::new(5_000)),
            boot_id: Arc::from(format!("{}-restarted", self.boot_id)),
        }
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_boot_time_never_goes_back_and_the_boot_has_a_name() {
        let clock = SystemClock;
        let first = clock.boot();
        assert!(first > Duration::ZERO);
        assert!(clock.boot() >= first);
        #[cfg(target_os = "linux")]
        assert!(!clock.boot_id().is_empty());
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let clock = ManualClock::at(start);
        let boot = clock.boot();
        clock.clone().advance(Duration::from_secs(5));
        assert_eq!(clock.wall(), start + Duration::from_secs(5));
        assert_eq!(clock.boot(), boot + Duration::from_secs(5));
        clock.set_wall(start - Duration::from_secs(3600));
        assert_eq!(clock.wall(), start - Duration::from_secs(3600));
        assert_eq!(clock.boot(), boot + Duration::from_secs(5));
        let restarted = clock.restarted();
        assert_ne!(restarted.boot_id(), clock.boot_id());
        assert_eq!(restarted.wall(), clock.wall());
    }
}
