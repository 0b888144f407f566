//! What the fuzz targets in `fuzz/` call, and what the tests call with the inputs that those have found.
//!
//! Each function takes any bytes and panics if a promise of the format is broken by what they say.
#![doc(hidden)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a panic is how a fuzz target says what it found"
)]

mod draft;
mod promise;
mod reader;
mod record;
mod scan;
mod source;
mod stanza;

pub use self::reader::reader;
pub use self::record::record;
pub use self::scan::scan;
pub use self::stanza::stanza;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every fuzz target and its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 4] =
    [("reader", reader), ("record", record), ("scan", scan), ("stanza", stanza)];

/// A folder that goes away, in memory where there is such a file system.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made")
}
