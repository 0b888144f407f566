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

/// Reads `90`, `90s`, `5m`, `1h`, `2d`, `500ms`, or several of them in a row, such as `1h30m`.
///
/// # Errors
///
/// What a duration looks like. The text itself is not repeated.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const SHAPE: &str =
        "a duration is a number of seconds, or numbers with ms, s, m, h or d: 90, 90s, 5m, 1h30m";
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(SHAPE.to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| SHAPE.to_owned())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let millis_each = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            // A bare number is seconds, but only by itself: `1h30` could mean either.
            "" if digits == text.trim().len() => 1_000,
            _ => return Err(SHAPE.to_owned()),
        };
        let millis = number.checked_mul(millis_each).ok_or_else(|| SHAPE.to_owned())?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(|| SHAPE.to_owned())?;
        rest = &rest[unit_end..];
    }
    Ok(total)
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
    fn durations_are_read_in_every_form() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600), ("2d", 172_800), ("1h30m", 5400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration(" 0 "), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_without_being_repeated() {
        for text in
            ["", " ", "s", "-1", "1.5", "5 m", "1h30", "5x", "99999999999999999999", "99999999999999999d"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.starts_with("a duration is"), "{text}: {error}");
        }
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
