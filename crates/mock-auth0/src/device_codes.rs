//! Device codes (RFC 8628): from the device's request over a person's decision to the tokens. No HTTP.

use std::collections::HashMap;

use crate::secrets::{fingerprint, random_token, random_user_code};
use crate::settings::Settings;

/// A poll may come so much before its time: the interval is told in whole seconds and networks jitter.
const POLL_TOLERANCE_MS: i64 = 250;

/// A device that waits for its person.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCode {
    pub(crate) client: String,
    pub(crate) scope: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) user_code: String,
    expires_ms: i64,
    interval_ms: i64,
    polled_ms: Option<i64>,
    decision: Decision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Pending,
    Approved { sub: String, at_ms: i64 },
    Denied,
}

/// What a poll hears.
#[derive(Clone, Debug)]
pub(crate) enum Polled {
    /// The code was never issued, is spent, or belongs to another client.
    Unknown,
    Pending,
    TooSoon,
    /// Told once; after that the code is unknown.
    Expired,
    Denied,
    Approved {
        sub: String,
        code: DeviceCode,
        auth_time: i64,
    },
}

/// By fingerprint of the device code.
#[derive(Debug, Default)]
pub(crate) struct DeviceCodes(HashMap<String, DeviceCode>);

/// What the device is told.
pub(crate) struct Issued {
    pub(crate) device_code: String,
    pub(crate) user_code: String,
}

impl DeviceCodes {
    pub(crate) fn issue(
        &mut self,
        client: &str,
        scope: Option<&str>,
        audience: Option<&str>,
        now_ms: i64,
        settings: &Settings,
    ) -> Issued {
        let device_code = random_token("");
        let user_code = random_user_code();
        let ms = |secs: u64| i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1000);
        let code = DeviceCode {
            client: client.to_owned(),
            scope: scope.map(str::to_owned),
            audience: audience.map(str::to_owned),
            user_code: user_code.clone(),
            expires_ms: now_ms.saturating_add(ms(settings.device_code_secs)),
            interval_ms: ms(settings.device_interval_secs),
            polled_ms: None,
            decision: Decision::Pending,
        };
        self.0.insert(fingerprint(&device_code), code);
        Issued { device_code, user_code }
    }

    pub(crate) fn poll(&mut self, device_code: &str, client: &str, now_ms: i64) -> Polled {
        let key = fingerprint(device_code);
        let Some(code) = self.0.get_mut(&key).filter(|code| code.client == client) else {
            return Polled::Unknown;
        };
        if now_ms >= code.expires_ms {
            self.0.remove(&key);
            return Polled::Expired;
        }
        let since = code.polled_ms.map(|polled| now_ms.saturating_sub(polled));
        code.polled_ms = Some(now_ms);
        if since.is_some_and(|since| since.saturating_add(POLL_TOLERANCE_MS) < code.interval_ms) {
            return Polled::TooSoon;
        }
        match code.decision.clone() {
            Decision::Pending => Polled::Pending,
            Decision::Denied => {
                self.0.remove(&key);
                Polled::Denied
            }
            Decision::Approved { sub, at_ms } => match self.0.remove(&key) {
                Some(code) => Polled::Approved { sub, code, auth_time: at_ms.div_euclid(1000) },
                None => Polled::Unknown,
            },
        }
    }

    /// The code a person typed, whatever the case and with or without its dash, if it waits for a decision.
    pub(crate) fn waiting(&self, typed: &str, now_ms: i64) -> Option<&DeviceCode> {
        self.0.values().find(|code| code.is_waiting_for(typed, now_ms))
    }

    /// A person decides: `Some(sub)` approves. Says whether there was something to decide.
    pub(crate) fn decide(&mut self, typed: &str, approved_by: Option<&str>, now_ms: i64) -> bool {
        let Some(code) = self.0.values_mut().find(|code| code.is_waiting_for(typed, now_ms)) else {
            return false;
        };
        code.decision = match approved_by {
            Some(sub) => Decision::Approved { sub: sub.to_owned(), at_ms: now_ms },
            None => Decision::Denied,
        };
        true
    }

    /// The user codes that wait for a decision.
    pub(crate) fn all_waiting(&self, now_ms: i64) -> Vec<String> {
        let waiting = self.0.values().filter(|code| code.is_waiting_for(&code.user_code, now_ms));
        waiting.map(|code| code.user_code.clone()).collect()
    }
}

impl DeviceCode {
    fn is_waiting_for(&self, typed: &str, now_ms: i64) -> bool {
        let plain = |text: &str| {
            text.chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_uppercase())
                .collect::<String>()
        };
        self.decision == Decision::Pending
            && now_ms < self.expires_ms
            && plain(typed) == plain(&self.user_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(codes: &mut DeviceCodes) -> Issued {
        let settings = Settings { device_code_secs: 60, device_interval_secs: 5, ..Settings::default() };
        codes.issue("c", Some("openid"), None, 0, &settings)
    }

    #[test]
    fn a_device_waits_is_told_to_slow_down_and_gets_its_answer_once() {
        let mut codes = DeviceCodes::default();
        let issued = issue(&mut codes);
        let poll = |codes: &mut DeviceCodes, at| codes.poll(&issued.device_code, "c", at);
        assert!(matches!(poll(&mut codes, 1_000), Polled::Pending));
        assert!(matches!(poll(&mut codes, 5_000), Polled::TooSoon));
        // The interval counts from the last poll, the hasty one included.
        assert!(matches!(poll(&mut codes, 9_000), Polled::TooSoon));
        assert!(matches!(poll(&mut codes, 13_800), Polled::Pending));
        let typed = issued.user_code.to_lowercase().replace('-', " ");
        assert_eq!(codes.waiting(&typed, 14_000).unwrap().client, "c");
        assert!(codes.decide(&typed, Some("ada"), 14_000));
        assert!(!codes.decide(&typed, None, 14_001), "a decision is final");
        match poll(&mut codes, 20_000) {
            Polled::Approved { sub, auth_time, .. } => assert_eq!((sub.as_str(), auth_time), ("ada", 14)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(poll(&mut codes, 30_000), Polled::Unknown));
    }

    #[test]
    fn expiry_is_told_once_and_a_denial_once() {
        let mut codes = DeviceCodes::default();
        let issued = issue(&mut codes);
        assert!(codes.waiting(&issued.user_code, 60_000).is_none());
        assert!(!codes.decide(&issued.user_code, Some("ada"), 60_000));
        assert!(matches!(codes.poll(&issued.device_code, "c", 60_000), Polled::Expired));
        assert!(matches!(codes.poll(&issued.device_code, "c", 70_000), Polled::Unknown));

        let denied = issue(&mut codes);
        assert!(codes.decide(&denied.user_code, None, 0));
        assert!(matches!(codes.poll(&denied.device_code, "thief", 1), Polled::Unknown));
        assert!(matches!(codes.poll(&denied.device_code, "c", 1), Polled::Denied));
        assert!(matches!(codes.poll(&denied.device_code, "c", 9_000), Polled::Unknown));
    }
}
