//! The issuer: families of refresh tokens, as `mock-auth0` keeps them (`refresh.rs`).

use crate::bounds::{Overlap, Reach};

/// No token, no family, nobody.
pub(crate) const NONE: u8 = u8::MAX;

/// The most tokens that one search issues.
const TOKENS: usize = 12;

/// What an answer turns out to be worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Worth {
    Good,
    /// What is in memory shows that it must not be used, such as another `sub`.
    Refused,
    /// Its id token needs a key that has to be fetched, and is good.
    GoodLater,
    /// The same, and is not.
    RefusedLater,
}

/// A refresh token, with the access token that came with it: both have one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Issued {
    pub(crate) family: u8,
    generation: u8,
    is_revoked: bool,
    pub(crate) worth: Worth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Family {
    user: u8,
    generation: u8,
    is_revoked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Issuer {
    tokens: [Option<Issued>; TOKENS],
    pub(crate) issued: u8,
    families: [Option<Family>; 4],
    /// Refresh requests that have reached it.
    pub(crate) requests: u8,
    /// Families in which it has seen reuse.
    pub(crate) reused: u8,
    /// Tokens that somebody else has revoked.
    pub(crate) revoked_elsewhere: u16,
}

pub(crate) fn bit(token: u8) -> u16 {
    1_u16.checked_shl(u32::from(token)).unwrap_or(0)
}

impl Issuer {
    /// With one sign-in of user 0, whose token is number 0.
    pub(crate) fn new() -> Self {
        let mut issuer = Self {
            tokens: [None; TOKENS],
            issued: 0,
            families: [None; 4],
            requests: 0,
            reused: 0,
            revoked_elsewhere: 0,
        };
        issuer.sign_in(0, 0);
        issuer
    }

    pub(crate) fn sign_in(&mut self, family: u8, user: u8) -> u8 {
        self.families[usize::from(family)] = Some(Family { user, generation: 0, is_revoked: false });
        self.mint(family, 0, Worth::Good)
    }

    fn mint(&mut self, family: u8, generation: u8, worth: Worth) -> u8 {
        let token = self.issued;
        assert!(usize::from(token) < TOKENS, "the bounds allow more tokens than the model has");
        self.tokens[usize::from(token)] = Some(Issued { family, generation, is_revoked: false, worth });
        self.issued += 1;
        token
    }

    pub(crate) fn token(&self, token: u8) -> Option<Issued> {
        self.tokens.get(usize::from(token)).copied().flatten()
    }

    fn family(&self, token: u8) -> Option<(Issued, Family)> {
        let issued = self.token(token)?;
        Some((issued, self.families[usize::from(issued.family)]?))
    }

    /// Whether a refresh with this token would get an answer now.
    pub(crate) fn takes(&self, token: u8, overlap: Overlap) -> bool {
        self.family(token).is_some_and(|(issued, family)| {
            let behind = family.generation - issued.generation;
            !self.is_dead(token) && (behind == 0 || (behind == 1 && overlap == Overlap::Window))
        })
    }

    pub(crate) fn is_dead(&self, token: u8) -> bool {
        self.family(token).is_none_or(|(issued, family)| issued.is_revoked || family.is_revoked)
    }

    /// A refresh request: the next token, or `invalid_grant`.
    pub(crate) fn refresh(&mut self, token: u8, overlap: Overlap, reach: Reach, worth: Worth) -> Option<u8> {
        self.requests = self.requests.saturating_add(1);
        let (issued, family) = self.family(token)?;
        if self.is_dead(token) {
            return None;
        }
        if !self.takes(token, overlap) {
            self.reused |= 1 << issued.family;
            if reach != Reach::Token {
                self.revoke(token, reach);
            }
            return None;
        }
        let generation = family.generation.max(issued.generation + 1);
        self.families[usize::from(issued.family)] = Some(Family { generation, ..family });
        Some(self.mint(issued.family, generation, worth))
    }

    /// A revocation (RFC 7009).
    pub(crate) fn revoke(&mut self, token: u8, reach: Reach) {
        let Some((issued, family)) = self.family(token) else { return };
        match reach {
            Reach::Token => {
                self.tokens[usize::from(token)] = Some(Issued { is_revoked: true, ..issued });
            }
            Reach::Family => {
                self.families[usize::from(issued.family)] = Some(Family { is_revoked: true, ..family });
            }
            Reach::Grant => {
                for other in self.families.iter_mut().flatten().filter(|other| other.user == family.user) {
                    other.is_revoked = true;
                }
            }
        }
    }

    /// Whether somebody else has revoked this token or, by it, its family.
    pub(crate) fn is_revoked_elsewhere(&self, token: u8) -> bool {
        let family = self.token(token).map(|issued| issued.family);
        (0..self.issued).any(|other| {
            self.revoked_elsewhere & bit(other) != 0 && self.token(other).map(|other| other.family) == family
        })
    }

    /// The tokens of a family that are alive, and of its newest generation: the one before, in an overlap, is good for
    /// whoever has a copy, and nobody has.
    pub(crate) fn alive(&self, family: u8) -> impl Iterator<Item = u8> + '_ {
        (0..self.issued).filter(move |token| {
            self.token(*token).is_some_and(|issued| issued.family == family)
                && self.takes(*token, Overlap::None)
        })
    }
}
