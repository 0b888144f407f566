//! C2SP's test vectors for age (`vectors/age/README.md`), each as the way in of a vault.
//!
//! A way in is an age v1 message to one X25519 key, in binary, with 32 bytes in it. None of the vectors holds a master key, so
//! that as they are none may open. To see that it is not for that alone, each vector's header is also put before a master
//! key that is sealed as its payload under the vector's file key: then those whose header is sound must open, and the others
//! must not, however good what follows is.
//!
//! | left out | why |
//! |---|---|
//! | `armor_…` (33) | a way in is binary; text in its place does not begin as a message does, as in `version_unsupported` |
//! | `hybrid…` (18) | keys of that kind open no vault, and their text is no identity that is read |
//! | `scrypt…` (25) | a passphrase has a stanza of its own, whose costs are bounded over all ways in; `ways_in.rs` is about it |
//! | `stream_…`, compressed (19) | payloads of more than one chunk, 64 KiB: a way in has at most 16 KiB, which `unwrap.rs` checks |
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(feature = "vault")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod scene;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use age_core::primitives::{aead_encrypt, hkdf};
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use rmpv::Value;
use sha2::{Digest as _, Sha256};
use tokenkeep_store::{SecretStore, StoreError, Unlock, Vault, WayKind};

const MASTER: [u8; 32] = [0x42; 32];

/// What a vector says of itself, and the message.
struct Vector {
    name: String,
    fields: BTreeMap<String, String>,
    message: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/age");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_none()).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let fields = std::str::from_utf8(&bytes[..end]).unwrap().lines();
        let fields = fields.map(|line| line.split_once(": ").unwrap());
        Vector {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            message: bytes[end + 2..].to_vec(),
        }
    };
    files.iter().map(read).collect()
}

impl Vector {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The vector's header, its checksum included, and behind it the master key under the vector's file key.
    fn with_master_key(&self) -> Vec<u8> {
        let header = self.message.windows(4).position(|at| at == b"\n---").and_then(|dashes| {
            let rest = self.message.iter().skip(dashes + 1).position(|byte| *byte == b'\n')?;
            self.message.get(..=dashes + 1 + rest)
        });
        let digits =
            self.field("file key").as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let file_key: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        let nonce = [7; 16];
        let key = hkdf(&nonce, b"payload", &file_key);
        let mut last_chunk = [0; 12];
        last_chunk[11] = 1;
        let cipher = ChaCha20Poly1305::new(Key::from_slice(&key));
        let sealed = cipher.encrypt(Nonce::from_slice(&last_chunk), &MASTER[..]).unwrap();
        [header.unwrap_or(&self.message), &nonce, &sealed].concat()
    }
}

fn frame(kind: u8, seq: u64, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    let head = [b"tkf", &[kind][..], &len.to_le_bytes(), &seq.to_le_bytes(), &[0; 16]].concat();
    let head = [&head[..], &crc32c::crc32c(body).to_le_bytes()].concat();
    [&head[..], &crc32c::crc32c(&head).to_le_bytes(), body].concat()
}

/// An empty vault with this way in, by the format's document.
fn vault_with(way: &[u8]) -> Vec<u8> {
    let way = frame(1, 0, way);
    let listed = Value::Map(vec![
        ("kind".into(), "x25519".into()),
        ("label".into(), "".into()),
        ("recipient".into(), Value::Nil),
        ("created".into(), 0.into()),
        ("costs".into(), Value::Nil),
        ("sha256".into(), Value::Binary(Sha256::digest(&way).to_vec())),
    ]);
    let list = Value::Map(vec![("v".into(), 1.into()), ("ways".into(), Value::Array(vec![listed]))]);
    let encoded = |value: &Value| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    };
    let record = Value::Map(vec![
        ("seq".into(), 1.into()),
        ("kind".into(), 5.into()),
        ("key".into(), "".into()),
        ("value".into(), Value::Binary(encoded(&list))),
    ]);
    let nonce = [9; 16];
    let key = hkdf(&nonce, b"tokenkeep/record", &hkdf(&[], b"tokenkeep/seal", &MASTER));
    let sealed = [&nonce[..], &aead_encrypt(&key, &encoded(&record))].concat();
    let key_id = hkdf(&[], b"tokenkeep/key-id", &MASTER);
    let header = [&b"tokenkeep-vault-v1\n"[..], &key_id[..16], &2_u64.to_le_bytes()].concat();
    let crc = crc32c::crc32c(&header).to_le_bytes();
    [&header[..], &crc, &way, &frame(5, 1, &sealed)].concat()
}

/// What becomes of a way in.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Opens,
    /// It is somebody else's.
    NoMatch,
    Damaged,
}

async fn outcome(vector: &Vector, way: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    std::fs::write(&path, vault_with(way)).unwrap();
    scene::set_mode(&path, 0o600);
    let identity = match vector.field("identity") {
        "" => scene::IDENTITY,
        identity => identity,
    };
    match Vault::open(&path, &Unlock::identity(identity, "the vector")).await {
        Ok(vault) => {
            assert_eq!(vault.status().await.unwrap().ways[0].kind, WayKind::X25519);
            assert!(vault.keys().await.unwrap().is_empty());
            Outcome::Opens
        }
        Err(StoreError::WrongIdentity { .. }) => Outcome::NoMatch,
        Err(StoreError::Corrupt { .. }) => Outcome::Damaged,
        Err(error) => panic!("{}: {error}", vector.name),
    }
}

#[tokio::test]
async fn a_way_in_opens_if_its_header_is_sound_and_a_master_key_is_in_it() {
    let mut seen = BTreeMap::new();
    for vector in vectors() {
        let expect = vector.field("expect");
        *seen.entry(expect.to_owned()).or_insert(0) += 1;
        let (as_it_is, with_master_key) = match expect {
            // It opens as a message does, and what is in it is no master key.
            "success" => (Outcome::Damaged, Outcome::Opens),
            "no match" => (Outcome::NoMatch, Outcome::NoMatch),
            "header failure" if vector.name.starts_with("stream_") => (Outcome::Damaged, Outcome::Opens),
            "header failure" | "HMAC failure" => (Outcome::Damaged, Outcome::Damaged),
            // With another payload there is nothing wrong with it.
            "payload failure" => (Outcome::Damaged, Outcome::Opens),
            other => panic!("{}: {other}", vector.name),
        };
        assert_eq!(outcome(&vector, &vector.message).await, as_it_is, "{}, as it is", vector.name);
        let way = vector.with_master_key();
        assert_eq!(outcome(&vector, &way).await, with_master_key, "{}, with a master key", vector.name);
    }
    let counts = ["success", "no match", "header failure", "HMAC failure", "payload failure"];
    assert_eq!(counts.map(|expect| seen.get(expect).copied().unwrap_or(0)), [7, 3, 31, 1, 6], "{seen:?}");
}
