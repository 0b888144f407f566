//! What is said between us and a plugin: age stanzas, one after another.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use zeroize::Zeroizing;

/// The longest command in bytes. A stanza of a post-quantum key has less than 2 KiB.
pub(super) const MAX_COMMAND: usize = 64 * 1024;
/// The columns of a full line of a body.
const COLUMNS: usize = 64;
const START: &[u8] = b"-> ";

/// A command or an answer.
pub(super) struct Command {
    /// The command and its arguments.
    words: Vec<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Command {
    pub(super) fn tag(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// What is no stanza.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A command as it is sent. In one buffer of the right size, since one that grows leaves copies behind.
pub(super) fn encode(tag: &str, args: &[&str], body: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; body.len().div_ceil(3) * 4]);
    let written = BASE64.encode_slice(body, &mut text).unwrap_or_default();
    let text = &text[..written];
    let words: usize = args.iter().map(|arg| arg.len() + 1).sum();
    let length = START.len() + tag.len() + words + 1 + text.len() + text.len() / COLUMNS + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.extend_from_slice(START);
    bytes.extend_from_slice(tag.as_bytes());
    for arg in args {
        bytes.push(b' ');
        bytes.extend_from_slice(arg.as_bytes());
    }
    bytes.push(b'\n');
    for line in text.chunks(COLUMNS) {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    // The last line of a body is a short one, and be it empty.
    if text.len().is_multiple_of(COLUMNS) {
        bytes.push(b'\n');
    }
    bytes
}

/// The first command in `bytes` and its length, if it is there in full.
pub(super) fn take(bytes: &[u8]) -> Result<Option<(Command, usize)>, Malformed> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let whole = |line: Option<&'_ [u8]>| line.and_then(|line| line.strip_suffix(b"\n")).map(<[u8]>::len);
    let mut at = 0;
    let Some(length) = whole(lines.next()) else {
        let started = bytes.get(..START.len()).unwrap_or(bytes);
        return if START.starts_with(started) { Ok(None) } else { Err(Malformed) };
    };
    let words = words(&bytes[..length])?;
    at += length + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len()));
    loop {
        let Some(length) = whole(lines.next()) else { return Ok(None) };
        if length > COLUMNS {
            return Err(Malformed);
        }
        text.extend_from_slice(&bytes[at..at + length]);
        at += length + 1;
        if length < COLUMNS {
            break;
        }
    }
    let mut body = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
    let length = BASE64.decode_slice(&text[..], &mut body).map_err(|_| Malformed)?;
    body.truncate(length);
    Ok(Some((Command { words, body }, at)))
}

fn words(line: &[u8]) -> Result<Vec<String>, Malformed> {
    let rest = line.strip_prefix(START).ok_or(Malformed)?;
    let word = |word: &[u8]| {
        let visible = !word.is_empty() && word.iter().all(u8::is_ascii_graphic);
        visible.then(|| String::from_utf8_lossy(word).into_owned()).ok_or(Malformed)
    };
    rest.split(|byte| *byte == b' ').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_reads_back_and_is_what_age_reads() {
        for length in [0, 1, 47, 48, 49, 95, 96, 97, 1000] {
            let body: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let sent = encode("recipient-stanza", &["0", "a/b"], &body);
            assert_eq!(sent.capacity(), sent.len(), "no buffer grew");
            let mut two = sent.to_vec();
            two.extend_from_slice(b"-> done\n\n");
            let (command, used) = take(&two).unwrap().unwrap();
            assert_eq!(
                (command.tag(), command.args()),
                ("recipient-stanza", &["0".into(), "a/b".into()][..])
            );
            assert_eq!((&command.body[..], used), (&body[..], sent.len()));
            let (rest, stanza) = age_core::format::read::age_stanza(&two).unwrap();
            assert_eq!((stanza.body(), rest), (body, &b"-> done\n\n"[..]));
            for cut in 0..sent.len() {
                assert!(take(&sent[..cut]).unwrap().is_none(), "{cut} of {length}");
            }
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for bad in [
            &b"hello\n"[..],
            b"x",
            b"->x\n\n",
            b"-> \n\n",
            b"-> a  b\n\n",
            b"-> a \n\n",
            b"-> a\x07\n\n",
            b"-> a\nAAA\x00\n",
            // More characters than a line has, a length that base64 cannot have, and bits left over.
            &[b"-> a\n", &[b'A'; 68][..], b"\n\n"].concat(),
            b"-> a\nAAAAA\n",
            b"-> a\nAB\n",
            b"-> a\nAA==\n",
        ] {
            assert_eq!(take(bad).err(), Some(Malformed), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
