//! The mock's own time: the system's, plus an offset that a test moves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time with an offset for everything the issuer decides, and monotonic time for the request log.
#[derive(Debug)]
pub(crate) struct MockClock {
    started: Instant,
    offset_ms: AtomicI64,
}

impl MockClock {
    pub(crate) fn new() -> Self {
        Self { started: read().1, offset_ms: AtomicI64::new(0) }
    }

    /// Milliseconds since 1970 as the issuer sees them.
    pub(crate) fn now_ms(&self) -> i64 {
        let wall = read().0.duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(wall).saturating_add(self.offset_ms.load(Ordering::SeqCst))
    }

    /// Milliseconds since the mock started, on a clock that nothing moves.
    pub(crate) fn since_start_ms(&self) -> u64 {
        u64::try_from(read().1.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }

    pub(crate) fn set_offset_ms(&self, offset: i64) {
        self.offset_ms.store(offset, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.offset_ms.fetch_add(millis(by), Ordering::SeqCst);
    }
}

/// `duration` in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Unix milliseconds as the date of an HTTP header (RFC 9110, 5.6.7). What lies before 1970 or after 9999 is cut there.
pub(crate) fn http_date(unix_ms: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let secs = u64::try_from(unix_ms.div_euclid(1000)).unwrap_or(0).min(LAST);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where time enters the mock")]
fn read() -> (SystemTime, Instant) {
    (SystemTime::now(), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_moves_wall_time_and_not_the_log() {
        let clock = MockClock::new();
        let before = clock.now_ms();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now_ms() >= before + 3_600_000);
        assert!(clock.since_start_ms() < 3_600_000);
        clock.set_offset_ms(-7_200_000);
        assert!(clock.now_ms() < before);
    }

    #[test]
    fn dates_have_the_form_of_http() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(-5), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
