//! Times and durations as people and scripts write them.

use std::time::{Duration, SystemTime};

/// A time in RFC 3339, UTC, to the second: `2026-03-01T12:00:00Z`. Empty for a time that a calendar cannot hold.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_second(at.as_second()).ok())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// A duration in its two largest units: `59m 12s`, `2d 3h`, `40s`. Below a second it is `0s`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let Some(first) = parts.iter().position(|(count, _)| *count > 0) else { return "0s".to_owned() };
    let mut text = format!("{}{}", parts[first].0, parts[first].1);
    if let Some((count, unit)) = parts.get(first + 1).filter(|(count, _)| *count > 0) {
        text.push_str(&format!(" {count}{unit}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_rfc_3339_to_the_second() {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 50)), "", "no calendar holds it");
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        for (seconds, text) in
            [(0, "0s"), (40, "40s"), (60, "1m"), (3552, "59m 12s"), (183_600, "2d 3h"), (86_405, "1d")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
