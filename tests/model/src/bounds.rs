//! How much of everything a search allows, and what it breaks on purpose.

/// Whether an issuer takes a refresh token that it has rotated once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a test tool, not published")]
pub enum Overlap {
    /// Never: a second use is reuse.
    None,
    /// While it is the last one but one, for as long as the search lasts.
    Window,
}

/// What a revocation takes with it, by request or after reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a test tool, not published")]
pub enum Reach {
    /// The token alone; reuse is refused and has no other consequence.
    Token,
    /// All that descend from one sign-in.
    Family,
    /// All sign-ins of one user.
    Grant,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a test tool, not published")]
pub enum Want {
    /// `access_token()`.
    Token,
    /// `renew()`.
    Renewal,
    /// `rejected()`, of the token that was stored at the beginning.
    Rejected,
}

/// What a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a test tool, not published")]
pub enum Deed {
    /// Signs in once more as the same user.
    SignIn,
    /// Signs in as another user.
    SignInAsAnother,
    /// Signs out.
    SignOut,
}

/// A rule of the protocol that a search leaves out, to see that a check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a test tool, not published")]
pub enum Break {
    /// A renewal does not take the lease.
    TakesNoLease,
    /// The lease of a stopped process is taken over.
    RobsAStoppedHolder,
    /// Under the lease entry and note are not read again.
    NoSecondLook,
    /// The callers are answered after the append, before the sync.
    PublishesBeforeSync,
    /// Who looks at the store while this process writes to it is shown what is not synced.
    LooksPastAWriteUnderWay,
    /// What was seen at a higher revision counts more than what is stored now.
    KeepsTheHighestRevision,
    /// An answer that cannot be judged yet is used.
    ServesUnjudged,
    /// An answer that is refused is thrown away with its refresh token.
    JudgesBeforeSaving,
    /// After a put that failed the lease is released and the answer dropped.
    DropsWhatIsNotSaved,
    /// Who was refused ends whatever is stored.
    LoserClears,
    /// What a renewal brought too late is revoked.
    LoserRevokes,
    /// What was brought is put over whatever is stored.
    PutsBlindly,
    /// A failure that is not final ends the session.
    EndsOnAnyFailure,
    /// A tombstone does not keep a renewal from putting what it brought.
    OverridesSignOut,
    /// What was brought after a sign-out is left alive.
    LeavesBroughtAlive,
    /// A tombstone is put over whatever is stored by now.
    SignsOutBlindly,
    /// A renewal does not look whether the session has ended.
    SendsAfterSignOut,
    /// No note is written before a request leaves.
    NoNoteBeforeSending,
    /// After an exchange that was cut off the next rotation may start at once.
    NoHold,
    /// A request that gets no answer is sent again beside the first.
    ResendsIntoSilence,
    /// The renewal ends with the caller that started it.
    EndsWithItsCaller,
    /// The renewal's outcome is told to the caller alone that started it.
    TellsOneCaller,
    /// A renewal that failed keeps its lease.
    KeepsTheLease,
    /// A token that an API has rejected is served again.
    ServesRejected,
    /// A forced renewal is satisfied by what is stored.
    ForcedTakesAny,
}

/// What a search allows.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a test tool, not published")]
pub struct Bounds {
    /// The calls of each process that keeps the session.
    pub calls: [&'static [Want]; 3],
    /// What people do, each in a process of that number.
    pub deeds: &'static [(u8, Deed)],
    /// The issuer's overlap.
    pub overlap: Overlap,
    /// What a revocation takes with it.
    pub reach: Reach,
    /// Whether the access token that is stored at the beginning has expired.
    pub has_expired: bool,
    /// Processes that are killed.
    pub kills: u8,
    /// Power cuts: all processes die, and what is not synced may be gone.
    pub power_cuts: u8,
    /// Processes that are stopped, and perhaps continued.
    pub stops: u8,
    /// Answers that are lost, before or after the issuer has heard the request.
    pub losses: u8,
    /// Answers that do not come within the limit, though the connection stands.
    pub silences: u8,
    /// Requests that the issuer refuses for now: nothing was processed.
    pub outages: u8,
    /// Writes that fail, before or in the sync.
    pub bad_writes: u8,
    /// Answers that cannot be judged from memory, or are refused.
    pub odd_answers: u8,
    /// Revocations at the issuer by somebody else.
    pub revocations: u8,
    /// Times at which half a minute passes: every backoff and every hold is over.
    pub half_minutes: u8,
    /// Changes of the vault's keys.
    pub rekeys: u8,
    /// Callers that give up.
    pub drops: u8,
    /// The most requests that may reach the issuer.
    pub most_requests: u8,
    /// What is broken on purpose.
    pub breaks: Option<Break>,
    /// The most states to look at.
    pub limit: usize,
}

impl Bounds {
    /// Nothing goes wrong, nobody calls, and the issuer is as strict as any.
    pub const QUIET: Self = Self {
        calls: [&[], &[], &[]],
        deeds: &[],
        overlap: Overlap::None,
        reach: Reach::Family,
        has_expired: true,
        kills: 0,
        power_cuts: 0,
        stops: 0,
        losses: 0,
        silences: 0,
        outages: 0,
        bad_writes: 0,
        odd_answers: 0,
        revocations: 0,
        half_minutes: 0,
        rekeys: 0,
        drops: 0,
        most_requests: u8::MAX,
        breaks: None,
        limit: 4_000_000,
    };

    /// Whether this rule is left out.
    pub fn breaks(&self, rule: Break) -> bool {
        self.breaks == Some(rule)
    }
}
