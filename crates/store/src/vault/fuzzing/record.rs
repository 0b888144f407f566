//! The record decoder behind the seal, and the list of ways in.

use super::draft::{KEYS, sealed};
use super::source::Source;
use crate::vault::frame::{FrameKind, Tag};
use crate::vault::ways::{BadList, Ways};

/// Opens records and reads lists.
pub fn record(input: &[u8]) {
    let mut source = Source::new(input);
    match source.byte() % 4 {
        0 => drop(as_record(source.all())),
        1 => as_list(source.all()),
        2 => {
            let (kind, seq) = (source.byte(), source.long());
            let (key, value) = (source.some(), source.all());
            let plaintext = super::draft::widely_encoded(kind, seq, key, value);
            let is_record = match FrameKind::from_code(kind) {
                None | Some(FrameKind::WayIn) => false,
                Some(FrameKind::Ways) => key.is_empty(),
                Some(_) => std::str::from_utf8(key).is_ok(),
            };
            assert_eq!(as_record(&plaintext), is_record, "any order of fields and any width is read");
        }
        _ => {
            // As a body that is not sealed at all.
            if let Ok(record) = KEYS.open(source.all()) {
                panic!("a record of {} bytes opened that nobody sealed", record.value().len());
            }
        }
    }
}

/// Whether it is a record; if so, another decoder reads the same, and written anew it stays the same.
fn as_record(plaintext: &[u8]) -> bool {
    let Ok(record) = KEYS.open(&sealed(7, plaintext)) else { return false };
    assert_eq!(record.tag == Tag::NONE, record.kind == FrameKind::Ways);
    let mut rest = plaintext;
    match rmpv::decode::read_value_with_max_depth(&mut rest, 100) {
        Ok(fields) => {
            assert!(rest.is_empty(), "bytes are left over");
            let field = |name: &str| {
                let mut found =
                    fields.as_map().expect("a map").iter().filter(|(field, _)| field.as_str() == Some(name));
                let value = found.next().expect("a field is missing").1.clone();
                assert!(found.next().is_none(), "{name} is given twice");
                value
            };
            assert_eq!(field("seq").as_u64(), Some(record.seq));
            assert_eq!(field("kind").as_u64(), Some(u64::from(record.kind.code())));
            assert_eq!(field("value").as_slice(), Some(record.value()));
            assert_eq!(field("key").as_str(), Some(record.key()));
        }
        // It keeps what nests on the stack.
        Err(rmpv::decode::Error::DepthLimitExceeded) => {}
        Err(error) => panic!("another decoder says: {error}"),
    }
    let again = KEYS.seal(record.kind, record.seq, record.key(), record.value()).expect("random bytes");
    let again = KEYS.open(&again).expect("what was sealed opens");
    assert_eq!((again.kind, again.seq, again.key()), (record.kind, record.seq, record.key()));
    assert_eq!((again.tag, again.value()), (record.tag, record.value()));
    true
}

fn as_list(bytes: &[u8]) {
    let list = match Ways::decode(bytes) {
        Ok(list) => list,
        Err(BadList::Malformed | BadList::NewerVersion) => return,
    };
    let written = list.encode().expect("what was read can be written");
    let again = Ways::decode(&written).expect("what was written can be read");
    assert_eq!(again.encode(), Some(written));
    assert_eq!(again.ways.len(), list.ways.len());
    for (way, again) in list.ways.iter().zip(&again.ways) {
        let (shown, shown_again) = (way.shown(way.digest()), again.shown(way.digest()));
        assert!(shown.opened_by && list.lists(way.digest()));
        assert_eq!(format!("{shown:?}"), format!("{shown_again:?}"));
    }
}
