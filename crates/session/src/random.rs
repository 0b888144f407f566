//! Randomness for ids and jitter.

/// 16 random bytes in hex, or `None` where the system gives none.
pub(crate) fn id() -> Option<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A number from 0 to 1. Jitter is no secret: without randomness it is simply the middle.
pub(crate) fn fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
