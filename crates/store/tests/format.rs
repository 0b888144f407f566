//! A second reader, written from `docs/vault-format.md` alone: what the document says is what the file is.
#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    missing_docs,
    reason = "tests"
)]

mod scene;

use std::collections::BTreeMap;
use std::time::Duration;

use age_core::primitives::{aead_decrypt, hkdf};
use hmac::{Hmac, Mac};
use scene::{IDENTITY, RECIPIENT, Scene, cheap_passphrase, key, value};
use sha2::{Digest, Sha256};
use tokenkeep_store::{Expected, NewWayIn, Note, Secret, SecretStore};

#[derive(Debug)]
struct Frame<'a> {
    kind: u8,
    seq: u64,
    tag: &'a [u8],
    whole: &'a [u8],
    body: &'a [u8],
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn check_header(file: &[u8]) -> (&[u8], u64) {
    assert_eq!(&file[..19], b"tokenkeep-vault-v1\n");
    assert_eq!(number(&file[43..47]), u64::from(crc32c::crc32c(&file[..43])));
    (&file[19..35], number(&file[35..43]))
}

fn frames(file: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    let mut rest = &file[47..];
    while !rest.is_empty() {
        let (head, after) = rest.split_at(40);
        assert_eq!(&head[..3], b"tkf");
        assert_eq!(number(&head[36..40]), u64::from(crc32c::crc32c(&head[..36])));
        let len = usize::try_from(number(&head[4..8])).unwrap();
        let body = &after[..len];
        assert_eq!(number(&head[32..36]), u64::from(crc32c::crc32c(body)));
        frames.push(Frame {
            kind: head[3],
            seq: number(&head[8..16]),
            tag: &head[16..32],
            whole: &rest[..40 + len],
            body,
        });
        rest = &after[len..];
    }
    frames
}

fn open_record(master: &[u8], frame: &Frame<'_>) -> BTreeMap<String, rmpv::Value> {
    let seal_key = hkdf(b"", b"tokenkeep/seal", master);
    let (nonce, sealed) = frame.body.split_at(16);
    let record_key = hkdf(nonce, b"tokenkeep/record", &seal_key);
    let plain = aead_decrypt(&record_key, sealed.len() - 16, sealed).unwrap();
    let mut rest = &plain[..];
    let fields = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    let fields = fields.as_map().unwrap().iter();
    fields.map(|(name, value)| (name.as_str().unwrap().to_owned(), value.clone())).collect()
}

#[tokio::test]
async fn a_reader_that_knows_the_document_alone_reads_the_vault() {
    let scene = Scene::with(vec![
        NewWayIn::Recipient { recipient: RECIPIENT.to_owned(), label: "recovery".to_owned() },
        cheap_passphrase("p"),
    ])
    .await;
    let vault = &scene.vault;
    let (long, big) = ("k".repeat(200), vec![3; 70_000]);
    vault.put(&key("a"), &value("one"), Expected::Absent).await.unwrap();
    let lease = vault.lease(&key("a"), Duration::ZERO).await.unwrap();
    lease.set_note(&Note::new(b"noted".to_vec()).unwrap()).await.unwrap();
    vault.put(&key(&long), &Secret::from(&big[..]), Expected::Absent).await.unwrap();

    let file = scene.bytes();
    let (key_id, next_seq) = check_header(&file);
    assert_eq!(key_id, vault.key_id().as_bytes());
    let frames = frames(&file);
    assert_eq!(frames.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [1, 1, 5, 2, 4, 2]);
    assert!(frames[..2].iter().all(|way| way.seq == 0 && way.tag == [0; 16]));
    assert_eq!(next_seq, 2, "the list of ways in took seq 1; what was appended since is not counted");
    assert_eq!(frames[2..].iter().map(|frame| frame.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);

    let identity: age::x25519::Identity = IDENTITY.parse().unwrap();
    let master = age::decrypt(&identity, frames[0].body).unwrap();
    assert_eq!(master.len(), 32);
    assert_eq!(&hkdf(b"", b"tokenkeep/key-id", &master)[..16], key_id);

    let tag_key = hkdf(b"", b"tokenkeep/tag", &master);
    for (frame, name, content) in
        [(&frames[3], "a", &b"one"[..]), (&frames[4], "a", b"noted"), (&frames[5], &long, &big)]
    {
        let record = open_record(&master, frame);
        assert_eq!(record["seq"].as_u64(), Some(frame.seq));
        assert_eq!(record["kind"].as_u64(), Some(u64::from(frame.kind)));
        assert_eq!(record["key"].as_str(), Some(name));
        assert_eq!(record["value"].as_slice(), Some(content));
        let mut mac = Hmac::<Sha256>::new_from_slice(&tag_key).unwrap();
        mac.update(name.as_bytes());
        assert_eq!(&mac.finalize().into_bytes()[..16], frame.tag);
    }

    let record = open_record(&master, &frames[2]);
    assert_eq!((record["key"].as_str(), frames[2].tag), (Some(""), &[0; 16][..]));
    let list = rmpv::decode::read_value(&mut record["value"].as_slice().unwrap()).unwrap();
    let field = |map: &rmpv::Value, name: &str| {
        map.as_map().unwrap().iter().find(|(field, _)| field.as_str() == Some(name)).unwrap().1.clone()
    };
    assert_eq!(field(&list, "v").as_u64(), Some(1));
    let ways = field(&list, "ways");
    let [recovery, passphrase] = &ways.as_array().unwrap()[..] else { panic!("{ways}") };
    for (way, frame) in [recovery, passphrase].into_iter().zip(&frames) {
        assert_eq!(field(way, "sha256").as_slice(), Some(&Sha256::digest(frame.whole)[..]));
    }
    assert_eq!(field(recovery, "kind").as_str(), Some("x25519"));
    assert_eq!(field(recovery, "label").as_str(), Some("recovery"));
    assert_eq!(field(recovery, "recipient").as_str(), Some(RECIPIENT));
    assert!(field(recovery, "costs").is_nil());
    assert_eq!(field(passphrase, "kind").as_str(), Some("passphrase"));
    assert!(field(passphrase, "recipient").is_nil());
    let costs = field(passphrase, "costs");
    assert_eq!(["m", "t", "p"].map(|cost| field(&costs, cost).as_u64().unwrap()), [64, 1, 1]);
    assert_eq!(field(&costs, "chosen").as_bool(), Some(true));
    assert!(field(passphrase, "created").as_u64().unwrap() > 1_700_000_000);

    // The passphrase's stanza, by hand.
    let message = frames[1].body;
    let header =
        std::str::from_utf8(&message[..message.windows(4).position(|at| at == b"\n---").unwrap()]).unwrap();
    let mut lines = header.lines().skip_while(|line| !line.starts_with("-> tokenkeep/argon2id "));
    let arguments: Vec<_> = lines.next().unwrap().split(' ').skip(2).collect();
    let [salt, "64", "1", "1"] = arguments[..] else { panic!("{arguments:?}") };
    use base64::Engine as _;
    let decode = |text: &str| base64::prelude::BASE64_STANDARD_NO_PAD.decode(text).unwrap();
    let salt = [b"tokenkeep/argon2id", &decode(salt)[..]].concat();
    let params = argon2::Params::new(64, 1, 1, Some(32)).unwrap();
    let mut wrap_key = [0; 32];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(b"p", &salt, &mut wrap_key)
        .unwrap();
    let file_key = aead_decrypt(&wrap_key, 16, &decode(lines.next().unwrap())).unwrap();
    let mac_line = header.len() + 1;
    let mac_key = hkdf(b"", b"header", &file_key);
    let mut mac = Hmac::<Sha256>::new_from_slice(&mac_key).unwrap();
    mac.update(&message[..mac_line + 3]);
    let said = &message[mac_line + 4..mac_line + 4 + 43];
    assert_eq!(decode(std::str::from_utf8(said).unwrap()), &mac.finalize().into_bytes()[..]);
}
