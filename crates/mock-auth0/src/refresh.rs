//! Refresh tokens: families, rotation, overlap, reuse detection. No HTTP, no clock of its own.
//!
//! Every sign-in starts a family. Each rotation mints a token of the next generation. A token of the newest generation
//! is good; one of the generation before it is good while the overlap lasts, and gives another token of the newest
//! generation; anything older, or later, is reuse and ends the family.

use std::collections::HashMap;

use crate::secrets::{fingerprint, random_token};
use crate::settings::{Revocation, Settings};

/// Identifies a family.
pub(crate) type FamilyId = u64;

/// All refresh tokens that descend from one sign-in.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) id: FamilyId,
    pub(crate) sub: String,
    pub(crate) client: String,
    pub(crate) audience: Option<String>,
    /// What was granted at sign-in; a refresh can ask for less, not for more.
    pub(crate) scope: Vec<String>,
    /// Unix seconds of the sign-in.
    pub(crate) auth_time: i64,
    pub(crate) sid: String,
    born_ms: i64,
    used_ms: i64,
    generation: u32,
    /// When the newest generation began, which is when the one before it was superseded.
    advanced_ms: i64,
    revoked: bool,
}

#[derive(Debug)]
struct Token {
    family: FamilyId,
    generation: u32,
    revoked: bool,
}

/// Why a refresh token got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Never issued, issued to another client, revoked or expired.
    Unknown,
    /// Used before; its family is revoked now.
    Reused,
}

/// The refresh tokens of a tenant.
#[derive(Debug, Default)]
pub(crate) struct RefreshTokens {
    families: HashMap<FamilyId, Family>,
    /// By fingerprint: the token itself is not kept.
    tokens: HashMap<String, Token>,
    next_family: FamilyId,
}

/// What a new family starts with.
pub(crate) struct SignIn {
    pub(crate) sub: String,
    pub(crate) client: String,
    pub(crate) audience: Option<String>,
    pub(crate) scope: Vec<String>,
    pub(crate) auth_time: i64,
    pub(crate) sid: String,
}

impl RefreshTokens {
    /// Starts a family and gives its first token. The user's oldest families beyond the limit are revoked.
    pub(crate) fn start(&mut self, sign_in: SignIn, now_ms: i64, settings: &Settings) -> (FamilyId, String) {
        self.next_family += 1;
        let id = self.next_family;
        let SignIn { sub, client, audience, scope, auth_time, sid } = sign_in;
        let family = Family {
            id,
            sub,
            client,
            audience,
            scope,
            auth_time,
            sid,
            born_ms: now_ms,
            used_ms: now_ms,
            generation: 0,
            advanced_ms: now_ms,
            revoked: false,
        };
        let mut alive: Vec<FamilyId> = self.alive_of(&family.sub, &family.client).map(|f| f.id).collect();
        alive.sort_unstable();
        let surplus = (alive.len() + 1).saturating_sub(settings.max_refresh_tokens.max(1));
        for oldest in alive.into_iter().take(surplus) {
            self.revoke_family(oldest);
        }
        self.families.insert(id, family);
        (id, self.mint(id, 0))
    }

    /// Checks a presented token without using it up. Reuse ends the family here.
    pub(crate) fn check(
        &mut self,
        token: &str,
        client: &str,
        now_ms: i64,
        settings: &Settings,
    ) -> Result<Family, Refused> {
        let presented = self.tokens.get(&fingerprint(token)).ok_or(Refused::Unknown)?;
        let family = self.families.get(&presented.family).ok_or(Refused::Unknown)?;
        if family.client != client || presented.revoked || family.revoked {
            return Err(Refused::Unknown);
        }
        let over = |since: i64, secs: Option<u64>| {
            secs.is_some_and(|secs| {
                now_ms.saturating_sub(since) >= i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1000)
            })
        };
        if over(family.born_ms, settings.refresh_absolute_secs)
            || over(family.used_ms, settings.refresh_idle_secs)
        {
            return Err(Refused::Unknown);
        }
        let behind = family.generation.saturating_sub(presented.generation);
        let overlap = i64::try_from(settings.overlap_ms).unwrap_or(i64::MAX);
        let good = behind == 0 || (behind == 1 && now_ms.saturating_sub(family.advanced_ms) < overlap);
        if good {
            return Ok(family.clone());
        }
        let id = family.id;
        self.revoke_family(id);
        Err(Refused::Reused)
    }

    /// Uses a token that [`RefreshTokens::check`] found good. With rotation it gives the next one.
    pub(crate) fn advance(&mut self, token: &str, now_ms: i64, rotation: bool) -> Option<String> {
        let presented = self.tokens.get(&fingerprint(token))?;
        let (id, generation) = (presented.family, presented.generation);
        let family = self.families.get_mut(&id)?;
        family.used_ms = now_ms;
        if !rotation {
            return None;
        }
        if generation == family.generation {
            family.generation += 1;
            family.advanced_ms = now_ms;
        }
        let next = family.generation;
        Some(self.mint(id, next))
    }

    /// Revokes by a token of `client`. Gives the families that lost something; none for an unknown token.
    pub(crate) fn revoke(&mut self, token: &str, client: Option<&str>, kind: Revocation) -> Vec<FamilyId> {
        let Some(presented) = self.tokens.get_mut(&fingerprint(token)) else { return Vec::new() };
        let Some(family) = self.families.get(&presented.family) else { return Vec::new() };
        if client.is_some_and(|client| client != family.client) {
            return Vec::new();
        }
        let hit = match kind {
            Revocation::Token => {
                presented.revoked = true;
                return vec![family.id];
            }
            Revocation::Family => vec![family.id],
            Revocation::Grant => self.alive_of(&family.sub, &family.client).map(|f| f.id).collect(),
        };
        for id in &hit {
            self.revoke_family(*id);
        }
        hit
    }

    pub(crate) fn revoke_family(&mut self, id: FamilyId) {
        if let Some(family) = self.families.get_mut(&id) {
            family.revoked = true;
        }
    }

    /// Revokes every family of a user. Gives them.
    pub(crate) fn revoke_user(&mut self, sub: &str) -> Vec<FamilyId> {
        let hit: Vec<_> =
            self.families.values().filter(|f| f.sub == sub && !f.revoked).map(|f| f.id).collect();
        for id in &hit {
            self.revoke_family(*id);
        }
        hit
    }

    /// Whether a refresh with `token` would succeed now.
    pub(crate) fn is_alive(&self, token: &str, now_ms: i64, settings: &Settings) -> bool {
        let Some(presented) = self.tokens.get(&fingerprint(token)) else { return false };
        let Some(family) = self.families.get(&presented.family) else { return false };
        let client = family.client.clone();
        // On a copy: asking must not count as reuse.
        let mut copy = Self {
            families: HashMap::from([(family.id, family.clone())]),
            tokens: HashMap::from([(
                fingerprint(token),
                Token { family: family.id, generation: presented.generation, revoked: presented.revoked },
            )]),
            next_family: 0,
        };
        copy.check(token, &client, now_ms, settings).is_ok()
    }

    fn alive_of<'a>(&'a self, sub: &'a str, client: &'a str) -> impl Iterator<Item = &'a Family> {
        self.families.values().filter(move |f| f.sub == sub && f.client == client && !f.revoked)
    }

    fn mint(&mut self, family: FamilyId, generation: u32) -> String {
        let token = random_token("v1.");
        self.tokens.insert(fingerprint(&token), Token { family, generation, revoked: false });
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "c";

    fn start(tokens: &mut RefreshTokens, settings: &Settings) -> String {
        let sign_in = SignIn {
            sub: "ada".to_owned(),
            client: CLIENT.to_owned(),
            audience: None,
            scope: vec!["openid".to_owned()],
            auth_time: 0,
            sid: "s".to_owned(),
        };
        tokens.start(sign_in, 0, settings).1
    }

    fn exchange(
        tokens: &mut RefreshTokens,
        token: &str,
        now_ms: i64,
        settings: &Settings,
    ) -> Result<String, Refused> {
        tokens.check(token, CLIENT, now_ms, settings)?;
        Ok(tokens.advance(token, now_ms, settings.rotation).unwrap_or_default())
    }

    #[test]
    fn rotation_reuse_and_overlap() {
        // (overlap, what is presented and when, whether it is good). 0 is the first token; each success mints the next.
        type Step = (usize, i64, bool);
        let table: &[(u64, &[Step])] = &[
            // Without an overlap the second use is reuse, and takes the whole family along.
            (0, &[(0, 0, true), (0, 0, false), (1, 0, false)]),
            (0, &[(0, 0, true), (1, 0, true), (2, 9_000, true)]),
            // Inside the overlap each reuse of the previous one gives another new token.
            (1_000, &[(0, 0, true), (0, 10, true), (0, 999, true), (3, 5_000, true)]),
            // The overlap is counted from the rotation, not from the last reuse.
            (1_000, &[(0, 0, true), (0, 999, true), (0, 1_000, false), (1, 1_001, false)]),
            // The one before the previous one is reuse even inside the overlap.
            (1_000, &[(0, 0, true), (1, 10, true), (0, 20, false), (2, 30, false)]),
            // A sibling that was never used is the previous generation once the other has moved on.
            (1_000, &[(0, 0, true), (0, 10, true), (2, 20, true), (1, 30, true)]),
            (1_000, &[(0, 0, true), (0, 10, true), (2, 20, true), (1, 1_020, false), (3, 1_021, false)]),
        ];
        for (row, (overlap_ms, steps)) in table.iter().enumerate() {
            let settings = Settings { overlap_ms: *overlap_ms, ..Settings::default() };
            let mut tokens = RefreshTokens::default();
            let mut minted = vec![start(&mut tokens, &settings)];
            for (step, (which, at, good)) in steps.iter().enumerate() {
                assert_eq!(tokens.is_alive(&minted[*which], *at, &settings), *good, "row {row} step {step}");
                let result = exchange(&mut tokens, &minted[*which], *at, &settings);
                assert_eq!(result.is_ok(), *good, "row {row} step {step}");
                minted.extend(result);
            }
        }
    }

    #[test]
    fn reuse_says_so_once_and_the_dead_family_is_unknown_afterwards() {
        let settings = Settings::default();
        let mut tokens = RefreshTokens::default();
        let first = start(&mut tokens, &settings);
        let second = exchange(&mut tokens, &first, 0, &settings).unwrap();
        assert_eq!(exchange(&mut tokens, &first, 1, &settings), Err(Refused::Reused));
        assert_eq!(exchange(&mut tokens, &first, 2, &settings), Err(Refused::Unknown));
        assert_eq!(exchange(&mut tokens, &second, 2, &settings), Err(Refused::Unknown));
    }

    #[test]
    fn without_rotation_one_token_serves_until_it_expires() {
        let settings = Settings {
            rotation: false,
            refresh_absolute_secs: Some(100),
            refresh_idle_secs: Some(60),
            ..Settings::default()
        };
        let mut tokens = RefreshTokens::default();
        let only = start(&mut tokens, &settings);
        assert_eq!(exchange(&mut tokens, &only, 50_000, &settings).unwrap(), "");
        // Idle time counts from the last use, the absolute limit from the sign-in.
        assert!(exchange(&mut tokens, &only, 99_999, &settings).is_ok());
        assert_eq!(exchange(&mut tokens, &only, 100_000, &settings), Err(Refused::Unknown));

        let idle = start(&mut tokens, &settings);
        assert_eq!(exchange(&mut tokens, &idle, 60_000, &settings), Err(Refused::Unknown));
    }

    #[test]
    fn rotation_does_not_prolong_the_absolute_lifetime() {
        let settings = Settings { refresh_absolute_secs: Some(100), ..Settings::default() };
        let mut tokens = RefreshTokens::default();
        let first = start(&mut tokens, &settings);
        let second = exchange(&mut tokens, &first, 90_000, &settings).unwrap();
        assert_eq!(exchange(&mut tokens, &second, 100_000, &settings), Err(Refused::Unknown));
    }

    #[test]
    fn a_revocation_kills_token_family_or_grant() {
        let settings = Settings { overlap_ms: 1_000, ..Settings::default() };
        for (kind, previous_lives, other_lives) in [
            (Revocation::Token, true, true),
            (Revocation::Family, false, true),
            (Revocation::Grant, false, false),
        ] {
            let mut tokens = RefreshTokens::default();
            let previous = start(&mut tokens, &settings);
            let other = start(&mut tokens, &settings);
            let current = exchange(&mut tokens, &previous, 0, &settings).unwrap();
            assert!(tokens.revoke(&current, Some("someone else"), kind).is_empty());
            assert!(tokens.is_alive(&current, 1, &settings));
            assert!(!tokens.revoke(&current, Some(CLIENT), kind).is_empty());
            assert!(!tokens.is_alive(&current, 1, &settings), "{kind:?}");
            assert_eq!(tokens.is_alive(&previous, 1, &settings), previous_lives, "{kind:?}");
            assert_eq!(tokens.is_alive(&other, 1, &settings), other_lives, "{kind:?}");
        }
        assert!(RefreshTokens::default().revoke("nonsense", None, Revocation::Family).is_empty());
    }

    #[test]
    fn the_oldest_family_goes_beyond_the_limit() {
        let settings = Settings { max_refresh_tokens: 2, ..Settings::default() };
        let mut tokens = RefreshTokens::default();
        let three: Vec<_> = (0..3).map(|_| start(&mut tokens, &settings)).collect();
        let alive: Vec<_> = three.iter().map(|t| tokens.is_alive(t, 0, &settings)).collect();
        assert_eq!(alive, [false, true, true]);
    }

    #[test]
    fn another_clients_token_is_unknown_and_stays_good() {
        let settings = Settings::default();
        let mut tokens = RefreshTokens::default();
        let token = start(&mut tokens, &settings);
        assert_eq!(tokens.check(&token, "thief", 0, &settings).unwrap_err(), Refused::Unknown);
        assert!(tokens.check(&token, CLIENT, 0, &settings).is_ok());
    }
}
