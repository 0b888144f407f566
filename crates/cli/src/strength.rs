//! How weak a passphrase is, by zxcvbn's estimate. A warning, never a refusal.
//!
//! zxcvbn copies what it judges into memory that is not wiped. The commands that ask it end soon after, and their memory
//! with them.

use tokenkeep::Secret;

/// Fewer guesses than these, as a power of ten, are weak: at a thousand a second they take less than four months.
const WEAK_BELOW: f64 = 10.0;

/// What a vault's costs let one attacker's machine try in a second.
const GUESSES_A_SECOND: f64 = 1_000.0;

/// An estimate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strength {
    guesses_log10: f64,
}

impl Strength {
    /// Judges `passphrase`, and warns if it is weak. `None` if it is not text, which is not what people choose.
    pub(crate) fn judge(passphrase: &Secret) -> Option<Self> {
        let text = std::str::from_utf8(passphrase.expose()).ok()?;
        let strength = Self { guesses_log10: zxcvbn::zxcvbn(text, &[]).guesses_log10() };
        if strength.is_weak() {
            tracing::warn!("{}", strength.words());
        }
        Some(strength)
    }

    /// The estimate: guesses as a power of ten, to a tenth.
    pub(crate) fn guesses_log10(self) -> f64 {
        (self.guesses_log10 * 10.0).round() / 10.0
    }

    fn is_weak(self) -> bool {
        self.guesses_log10 < WEAK_BELOW
    }

    fn words(self) -> String {
        let guesses = 10_f64.powf(self.guesses_log10);
        format!(
            "the passphrase is weak: about {} guesses find it, {} at a thousand a second; take five random words \
             (`tokenkeep vault passphrase` replaces it)",
            rounded(guesses),
            time(guesses / GUESSES_A_SECOND)
        )
    }
}

/// One digit and zeros: an estimate has no more.
fn rounded(number: f64) -> String {
    let zeros = number.max(1.0).log10().floor();
    let leading = (number / 10_f64.powf(zeros)).round();
    format!("{:.0}", leading * 10_f64.powf(zeros))
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "less than a second".to_owned(),
        s if s < 120.0 => format!("{s:.0} seconds"),
        s if s < 7_200.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} hours", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Strength {
        Strength::judge(&Secret::from(text.as_bytes())).unwrap()
    }

    #[test]
    fn weak_passphrases_are_told_from_strong_ones() {
        for weak in ["hunter2", "password", "Password1!", "correct horse", "12345678901234567890"] {
            assert!(judged(weak).is_weak(), "{weak}: {:?}", judged(weak));
        }
        for strong in ["tavern-gazing-spool-undrawn-camper", "kX8#vQ2!mZr9pL"] {
            assert!(!judged(strong).is_weak(), "{strong}: {:?}", judged(strong));
        }
        assert!(Strength::judge(&Secret::from(&[0xff, 0xfe][..])).is_none());
    }

    #[test]
    fn the_estimate_says_how_many_and_how_long_and_never_what() {
        let words = judged("hunter2").words();
        assert!(words.contains("guesses find it") && !words.contains("hunter2"), "{words}");
        assert_eq!(rounded(12_345.0), "10000");
        assert_eq!(rounded(1.0), "1");
        assert_eq!((time(0.2), time(90.0)), ("less than a second".to_owned(), "90 seconds".to_owned()));
        assert_eq!((time(7_000.0), time(172_000.0)), ("117 minutes".to_owned(), "48 hours".to_owned()));
        assert_eq!(time(8_640_000.0), "100 days");
    }
}
