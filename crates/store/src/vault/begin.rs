//! How every reading of a vault file begins: it is opened, and its header is read.

use super::disk::{Disk, DiskFile, Facts};
use super::frame::{BadHeader, HEAD_LEN, HEADER_LEN, Header};
use super::place::{self, Place};
use super::record::Keys;
use super::view::open_file;
use crate::StoreError;

/// A vault file that was opened.
pub(super) struct Begun {
    pub(super) file: DiskFile,
    pub(super) facts: Facts,
    /// Its header, or what is wrong with it.
    pub(super) header: Result<Header, &'static str>,
    start: [u8; HEADER_LEN + HEAD_LEN],
    read: usize,
}

impl Begun {
    /// Its first bytes, as far as it has them: a head that begins on the last byte of the header is whole within these.
    pub(super) fn start(&self) -> &[u8] {
        &self.start[..self.read]
    }
}

/// Opens the file at `place`. A header that is damaged is no error here; one that names other keys than `keys` is.
pub(super) fn begin(disk: &Disk, place: &Place, keys: Option<&Keys>) -> Result<Begun, StoreError> {
    let (file, facts) = open_file(disk, place)?;
    let mut start = [0; HEADER_LEN + HEAD_LEN];
    let read = file.read_at(&mut start, 0).map_err(|error| place::io("reading", &place.file, error))?;
    let header = match Header::decode(&start[..read]) {
        Ok(header) if keys.is_some_and(|keys| keys.id() != header.key_id) => {
            return Err(StoreError::KeysChanged { path: place.file.clone() });
        }
        Ok(header) => Ok(header),
        Err(BadHeader::Damaged(what)) => Err(what),
        Err(BadHeader::NewerVersion) => {
            return Err(StoreError::NewerVersion { what: format!("the vault at {}", place.file.display()) });
        }
    };
    Ok(Begun { file, facts, header, start, read })
}
