//! The vault file as anybody sees it who has no key: sizes and kinds of frames.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use tokenkeep_store::{FrameKind, Vault};

/// How long a frame's head is, and what it begins with.
const HEAD_BYTES: usize = 40;
const MAGIC: &[u8] = b"tkf";

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    bytes: u64,
    frames: Vec<(FrameKind, usize)>,
}

impl Contents {
    /// Reads it. Nothing, if there is no file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let probe = Vault::probe(path).context("the vault cannot be looked at")?;
        Ok(Self { bytes: probe.bytes, frames: probe.frames })
    }

    fn count(&self, kind: FrameKind) -> usize {
        self.frames.iter().filter(|(known, _)| *known == kind).map(|(_, count)| count).sum()
    }

    /// What became of it, in one line.
    pub(crate) fn change_to(&self, after: &Self) -> String {
        if self == after {
            return format!("{} bytes, untouched", after.bytes);
        }
        let mut line = match self.bytes {
            0 => format!("new, {} bytes", after.bytes),
            before => format!("{before} -> {} bytes", after.bytes),
        };
        let mut separator = ": ";
        for (kind, count) in &after.frames {
            let before = self.count(*kind);
            let shown = match count.checked_sub(before) {
                Some(0) => continue,
                Some(more) => format!("+{more} {}", name(*kind)),
                None => format!("-{} {}", before - count, name(*kind)),
            };
            let _ = write!(line, "{separator}{shown}");
            separator = ", ";
        }
        line
    }
}

fn name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::WayIn => "way in",
        FrameKind::Put => "put",
        FrameKind::Removed => "removed",
        FrameKind::Note => "note",
        FrameKind::Ways => "list of ways in",
        _ => "of a kind unknown here",
    }
}

/// Copies a vault and flips one bit in the body of its newest entry. Gives the byte it is in.
pub(crate) fn copy_with_a_flipped_bit(from: &Path, to: &Path) -> anyhow::Result<usize> {
    let mut bytes = std::fs::read(from).context("the vault cannot be read")?;
    let put = [MAGIC, &[FrameKind::Put.code()]].concat();
    let head =
        bytes.windows(put.len()).rposition(|window| window == put).context("the vault has no entry")?;
    let at = head + HEAD_BYTES + HEAD_BYTES;
    *bytes.get_mut(at).context("the newest entry is too short")? ^= 1;
    std::fs::write(to, bytes).context("the copy cannot be written")?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_tells_sizes_and_kinds() {
        let before = Contents { bytes: 100, frames: vec![(FrameKind::Put, 1), (FrameKind::Note, 2)] };
        let after = Contents { bytes: 160, frames: vec![(FrameKind::Put, 2), (FrameKind::Note, 0)] };
        assert_eq!(before.change_to(&after), "100 -> 160 bytes: +1 put, -2 note");
        assert_eq!(before.change_to(&before), "100 bytes, untouched");
        assert_eq!(Contents::default().change_to(&before), "new, 100 bytes: +1 put, +2 note");
    }
}
