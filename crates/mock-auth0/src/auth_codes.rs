//! Authorization codes with PKCE (RFC 6749 4.1, RFC 7636). No HTTP.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::refresh::FamilyId;
use crate::secrets::{fingerprint, random_token};
use crate::settings::Settings;

/// What `/authorize` was asked for.
#[derive(Clone, Debug)]
pub(crate) struct AuthRequest {
    pub(crate) client: String,
    pub(crate) redirect_uri: String,
    pub(crate) state: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) connection: Option<String>,
    /// S256; `None` only for a confidential client.
    pub(crate) challenge: Option<String>,
}

/// A code that was redeemed well.
#[derive(Debug)]
pub(crate) struct Redeemed {
    pub(crate) request: AuthRequest,
    pub(crate) sub: String,
    pub(crate) auth_time: i64,
}

/// Why a code got nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadCode {
    Unknown,
    /// Redeemed before; what it gave then is to be revoked (RFC 6749, 4.1.2).
    Reused(Option<FamilyId>),
    WrongVerifier,
    WrongRedirect,
}

#[derive(Debug)]
struct Code {
    request: AuthRequest,
    sub: String,
    issued_ms: i64,
    used: bool,
    gave: Option<FamilyId>,
}

/// By fingerprint of the code.
#[derive(Debug, Default)]
pub(crate) struct AuthCodes(HashMap<String, Code>);

impl AuthCodes {
    pub(crate) fn issue(&mut self, request: AuthRequest, sub: &str, now_ms: i64) -> String {
        let code = random_token("");
        let entry = Code { request, sub: sub.to_owned(), issued_ms: now_ms, used: false, gave: None };
        self.0.insert(fingerprint(&code), entry);
        code
    }

    /// Uses a code up, whatever comes of it.
    pub(crate) fn redeem(
        &mut self,
        code: &str,
        client: &str,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
        now_ms: i64,
        settings: &Settings,
    ) -> Result<Redeemed, BadCode> {
        let lifetime =
            i64::try_from(settings.authorization_code_secs).unwrap_or(i64::MAX).saturating_mul(1000);
        let entry = self.0.get_mut(&fingerprint(code)).filter(|c| c.request.client == client);
        let entry = entry.ok_or(BadCode::Unknown)?;
        if entry.used {
            return Err(BadCode::Reused(entry.gave));
        }
        entry.used = true;
        if now_ms.saturating_sub(entry.issued_ms) >= lifetime {
            return Err(BadCode::Unknown);
        }
        if redirect_uri != Some(&entry.request.redirect_uri) {
            return Err(BadCode::WrongRedirect);
        }
        let proven = match (&entry.request.challenge, verifier) {
            (Some(challenge), Some(verifier)) => is_verifier(verifier) && *challenge == s256(verifier),
            (None, None) => true,
            // A verifier without a challenge is refused too: it is how a downgrade looks (RFC 9700, 2.1.1).
            _ => false,
        };
        if !proven {
            return Err(BadCode::WrongVerifier);
        }
        let request = entry.request.clone();
        Ok(Redeemed { request, sub: entry.sub.clone(), auth_time: entry.issued_ms.div_euclid(1000) })
    }

    /// Remembers what a code gave, so that its reuse can take that back.
    pub(crate) fn gave(&mut self, code: &str, family: Option<FamilyId>) {
        if let Some(entry) = self.0.get_mut(&fingerprint(code)) {
            entry.gave = family;
        }
    }
}

/// 43 to 128 unreserved characters (RFC 7636, 4.1).
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
}

fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const BACK: &str = "http://127.0.0.1/callback";

    fn issue(codes: &mut AuthCodes) -> String {
        let request = AuthRequest {
            client: "c".to_owned(),
            redirect_uri: BACK.to_owned(),
            state: None,
            scope: None,
            audience: None,
            nonce: None,
            connection: None,
            challenge: Some(CHALLENGE.to_owned()),
        };
        codes.issue(request, "ada", 5_000)
    }

    #[test]
    fn a_code_is_good_once_for_its_client_redirect_and_verifier() {
        let settings = Settings::default();
        let mut codes = AuthCodes::default();
        let mut try_with = |client: &str, back: Option<&str>, verifier: Option<&str>, at: i64| {
            let code = issue(&mut codes);
            let first =
                codes.redeem(&code, client, back, verifier, at, &settings).map(|r| (r.sub, r.auth_time));
            codes.gave(&code, Some(7));
            (first, codes.redeem(&code, "c", Some(BACK), Some(VERIFIER), at, &settings).map(|_| ()))
        };
        let (first, again) = try_with("c", Some(BACK), Some(VERIFIER), 6_000);
        assert_eq!(first, Ok(("ada".to_owned(), 5)));
        assert_eq!(again, Err(BadCode::Reused(Some(7))));
        let wrong = "wBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(try_with("c", Some(BACK), Some(wrong), 6_000).0, Err(BadCode::WrongVerifier));
        assert_eq!(try_with("c", Some(BACK), None, 6_000).0, Err(BadCode::WrongVerifier));
        assert_eq!(try_with("c", Some(BACK), Some("short"), 6_000).0, Err(BadCode::WrongVerifier));
        assert_eq!(try_with("c", None, Some(VERIFIER), 6_000).0, Err(BadCode::WrongRedirect));
        assert_eq!(try_with("c", Some(BACK), Some(VERIFIER), 65_000).0, Err(BadCode::Unknown));
        assert_eq!(try_with("thief", Some(BACK), Some(VERIFIER), 6_000).0, Err(BadCode::Unknown));
        // A failed attempt has used the code up.
        assert_eq!(try_with("c", Some(BACK), Some(wrong), 6_000).1, Err(BadCode::Reused(Some(7))));
    }
}
