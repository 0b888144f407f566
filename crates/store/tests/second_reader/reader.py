#!/usr/bin/env python3
"""Reads a tokenkeep vault. Written from docs/vault-format.md alone, to see that the page says all that is needed.

    reader.py VAULT (--identity FILE | --passphrase FILE) [KEY ...]

Prints a line of JSON for each KEY, or for every entry if none is named:
{"key": hex, "state": "entry" | "none" | "damaged", "revision": number, "value": base64, "note": base64 or null}

Needs the packages python3-cryptography and python3-argon2 of Debian 12, or a `cryptography` of 44 or newer alone.
`reader.py --check` says whether they are there. It is no program to keep secrets with: nothing is wiped.
"""

import base64
import hashlib
import hmac
import json
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

try:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    def argon2id(passphrase, salt, memory, passes, lanes):
        kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
        return kdf.derive(passphrase)

except ImportError:
    from argon2.low_level import Type, hash_secret_raw

    def argon2id(passphrase, salt, memory, passes, lanes):
        return hash_secret_raw(passphrase, salt, passes, memory, lanes, 32, Type.ID, 0x13)


HEADER, HEAD, MAX_BODY = 47, 40, 4 * 1024 * 1024
WAY_IN, PUT, REMOVED, NOTE, WAYS = 1, 2, 3, 4, 5
AGE = b"age-encryption.org/v1\n"
NO_TAG = bytes(16)


class Damaged(Exception):
    pass


class Newer(Exception):
    pass


# Checksums and keys


def _crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # 0x1EDC6F41, reflected
        yield byte


CRC_TABLE = list(_crc_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def hkdf(salt, info, key):
    extracted = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def opened(key, sealed, nonce=bytes(12)):
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return None


class Keys:
    def __init__(self, master):
        self.seal = hkdf(b"", b"tokenkeep/seal", master)
        self.tag = hkdf(b"", b"tokenkeep/tag", master)
        self.id = hkdf(b"", b"tokenkeep/key-id", master)[:16]

    def tag_of(self, name):
        return hmac.new(self.tag, name, hashlib.sha256).digest()[:16]

    def open(self, body):
        """A sealed record as (kind, seq, tag, key, value)."""
        if len(body) < 32:
            raise Damaged("shorter than any sealed record")
        plain = opened(hkdf(body[:16], b"tokenkeep/record", self.seal), body[16:])
        if plain is None:
            raise Damaged("does not open")
        record = MessagePack(plain).whole()
        kind, seq, key, value = (record.get(name) for name in ("kind", "seq", "key", "value"))
        numbers = all(type(number) is int and number >= 0 for number in (kind, seq))
        if not numbers or kind not in (PUT, REMOVED, NOTE, WAYS) or type(key) is not str or type(value) is not bytes:
            raise Damaged("opens, and is not a record")
        if kind == WAYS and key:
            raise Damaged("a list of ways in with a key")
        return kind, seq, NO_TAG if kind == WAYS else self.tag_of(key.encode()), key, value


# MessagePack


class Map(list):
    """Pairs: what is skipped may have names of any type, and names that come twice."""


def fields(value):
    if type(value) is not Map or any(type(name) is not str for name, _ in value):
        raise Damaged("not a map of named fields")
    known = ("seq", "kind", "key", "value", "v", "ways", "sha256")
    names = [name for name, _ in value if name in known]
    if len(names) != len(set(names)):
        raise Damaged("a field is given twice")
    return dict(value)


class MessagePack:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        if self.at + length > len(self.data):
            raise Damaged("MessagePack ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, width, signed=False):
        return int.from_bytes(self.take(width), "big", signed=signed)

    def text(self, length):
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise Damaged("text that is not UTF-8") from None

    def map(self, length):
        return Map((self.value(), self.value()) for _ in range(length))

    def whole(self):
        """The fields of a map that is all there is."""
        value = self.value()
        if self.at != len(self.data):
            raise Damaged("bytes are left over")
        return fields(value)

    def value(self):
        marker = self.number(1)
        if marker <= 0x7F:
            return marker
        if marker <= 0x8F:
            return self.map(marker & 0x0F)
        if marker <= 0x9F:
            return [self.value() for _ in range(marker & 0x0F)]
        if marker <= 0xBF:
            return self.text(marker & 0x1F)
        if marker >= 0xE0:
            return marker - 0x100
        wide = {
            0xC0: lambda: None,
            0xC2: lambda: False,
            0xC3: lambda: True,
            0xC4: lambda: self.take(self.number(1)),
            0xC5: lambda: self.take(self.number(2)),
            0xC6: lambda: self.take(self.number(4)),
            0xC7: lambda: ("extension", self.take(self.number(1) + 1)),
            0xC8: lambda: ("extension", self.take(self.number(2) + 1)),
            0xC9: lambda: ("extension", self.take(self.number(4) + 1)),
            0xCA: lambda: ("float", self.take(4)),
            0xCB: lambda: ("float", self.take(8)),
            0xCC: lambda: self.number(1),
            0xCD: lambda: self.number(2),
            0xCE: lambda: self.number(4),
            0xCF: lambda: self.number(8),
            0xD0: lambda: ("signed", self.take(1)),
            0xD1: lambda: ("signed", self.take(2)),
            0xD2: lambda: ("signed", self.take(4)),
            0xD3: lambda: ("signed", self.take(8)),
            0xD4: lambda: ("extension", self.take(2)),
            0xD5: lambda: ("extension", self.take(3)),
            0xD6: lambda: ("extension", self.take(5)),
            0xD7: lambda: ("extension", self.take(9)),
            0xD8: lambda: ("extension", self.take(17)),
            0xD9: lambda: self.text(self.number(1)),
            0xDA: lambda: self.text(self.number(2)),
            0xDB: lambda: self.text(self.number(4)),
            0xDC: lambda: [self.value() for _ in range(self.number(2))],
            0xDD: lambda: [self.value() for _ in range(self.number(4))],
            0xDE: lambda: self.map(self.number(2)),
            0xDF: lambda: self.map(self.number(4)),
        }
        if marker not in wide:
            raise Damaged("not MessagePack")
        return wide[marker]()


# Ways in: age v1


def base64_of(text):
    """Canonical base64 without padding."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise Damaged("not base64") from None
    if base64.b64encode(decoded).decode().rstrip("=") != text:
        raise Damaged("base64 that is not canonical")
    return decoded


def bech32_secret(line):
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    prefix, _, data = line.lower().rpartition("1")
    values = [alphabet.index(character) for character in data]
    check = 1
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in expanded + values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    if prefix != "age-secret-key-" or check != 1:
        raise SystemExit("not an age identity")
    number = 0
    for value in values[:-6]:
        number = number << 5 | value
    return (number >> (len(values) - 6) * 5 % 8).to_bytes((len(values) - 6) * 5 // 8, "big")


class Message:
    """An age message's header, read strictly."""

    def __init__(self, body):
        if len(body) > 16 * 1024 or not body.startswith(AGE):
            raise Damaged("not an age message, or longer than a way in")
        header, dashes, rest = body.partition(b"\n---")
        mac, newline, self.payload = rest.partition(b"\n")
        if not dashes or not newline or mac[:1] != b" ":
            raise Damaged("no end of an age header")
        self.covered = header + dashes
        try:
            self.mac = base64_of(mac[1:].decode("ascii"))
            lines = header.decode("ascii").split("\n")[1:]
        except UnicodeDecodeError:
            raise Damaged("an age header is ASCII") from None
        self.stanzas = []
        while lines:
            first, text = lines.pop(0), ""
            if not first.startswith("-> "):
                raise Damaged("not a stanza")
            while lines:
                line = lines.pop(0)
                text += line
                if len(line) != 64:
                    break
            else:
                raise Damaged("a stanza without its last, short line")
            if len(line) > 64:
                raise Damaged("a line of more than 64 columns")
            self.stanzas.append((first[3:].split(" "), base64_of(text)))
        if not 1 <= len(self.stanzas) <= 16:
            raise Damaged("no stanza, or too many")

    def master(self, file_key):
        wanted = hmac.new(hkdf(b"", b"header", file_key), self.covered, hashlib.sha256).digest()
        if not hmac.compare_digest(wanted, self.mac):
            raise Damaged("the header is not what was written")
        key = hkdf(self.payload[:16], b"payload", file_key)
        # One chunk, the last: a master key is far below 64 KiB.
        plain = opened(key, self.payload[16:], bytes(11) + b"\x01")
        if plain is None or len(plain) != 32:
            raise Damaged("no master key in it")
        return plain


def by_identity(secrets):
    def unwrap(message):
        for (kind, *arguments), body in message.stanzas:
            if kind != "X25519":
                continue
            if len(arguments) != 1 or len(body) != 32:
                raise Damaged("not age's stanza")
            share = base64_of(arguments[0])
            for secret in secrets:
                private = X25519PrivateKey.from_private_bytes(secret)
                public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                shared = private.exchange(X25519PublicKey.from_public_bytes(share))
                file_key = opened(hkdf(share + public, b"age-encryption.org/v1/X25519", shared), body)
                if file_key is not None:
                    return file_key
        return None

    return unwrap


def argon2id_stanza(message):
    """Salt, costs and body; None if the message is by no passphrase."""
    asked = [(arguments, body) for (kind, *arguments), body in message.stanzas if kind == "tokenkeep/argon2id"]
    if not asked:
        return None
    (arguments, body), *more = asked
    if more or len(arguments) != 4 or len(body) != 32:
        raise Damaged("not one stanza of the exact form")
    salt = base64_of(arguments[0])
    costs = [int(text) for text in arguments[1:] if text.isdigit() and text.isascii() and text[0] != "0"]
    if len(salt) != 16 or len(costs) != 3 or max(costs) >= 1 << 32:
        raise Damaged("not one stanza of the exact form")
    return salt, costs, body


def by_passphrase(passphrase, messages):
    total, count = [0, 0, 0], 0
    for message in messages:
        try:
            stanza = argon2id_stanza(message)
        except Damaged:
            continue
        if stanza:
            total, count = [sum(pair) for pair in zip(total, stanza[1])], count + 1
    if count > 4 or any(asked > most for asked, most in zip(total, (1024 * 1024, 16, 16))):
        raise SystemExit("the ways in ask for more work than any vault may")

    def unwrap(message):
        stanza = argon2id_stanza(message)
        if stanza is None:
            return None
        salt, costs, body = stanza
        return opened(argon2id(passphrase, b"tokenkeep/argon2id" + salt, *costs), body)

    return unwrap


# The file


class Frame:
    def __init__(self, offset, kind, seq, tag, body, whole):
        self.offset, self.kind, self.seq, self.tag = offset, kind, seq, tag
        self.body, self.whole = body, whole

    def record(self, keys):
        if not self.whole or len(self.body) > MAX_BODY:
            raise Damaged("its body is not what its head says")
        kind, seq, tag, key, value = keys.open(self.body)
        if (kind, seq, tag) != (self.kind, self.seq, self.tag):
            raise Damaged("it holds something else than its head says")
        return key, value

    def sha256(self):
        head = b"tkf" + bytes([self.kind]) + len(self.body).to_bytes(4, "little")
        head += self.seq.to_bytes(8, "little") + self.tag + crc32c(self.body).to_bytes(4, "little")
        return hashlib.sha256(head + crc32c(head).to_bytes(4, "little") + self.body).digest()


def little(data):
    return int.from_bytes(data, "little")


class Vault:
    def __init__(self, data, keys=None):
        self.data = data
        self.key_id = self.header()
        self.frames, self.damage = [], []
        self.scan(keys)

    def header(self):
        start = self.data[:HEADER]
        right = b"tokenkeep-vault-v1\n" + start[19:43]
        sound = len(start) == HEADER and little(start[43:]) == crc32c(right)
        if sound and start[:19] == right[:19]:
            return start[19:35]
        if not sound and len(start) == HEADER and start[:19] != right[:19] and start[:17] == right[:17]:
            raise Newer("a newer version of the format")
        raise Damaged("the header")

    def head(self, at):
        """The head at a place, if there is a valid one: kind, length, seq, tag, CRC of the body."""
        head = self.data[at : at + HEAD]
        if len(head) < HEAD or head[:3] != b"tkf" or little(head[36:]) != crc32c(head[:36]):
            return None
        return head[3], little(head[4:8]), little(head[8:16]), head[16:32], little(head[32:36])

    def next_head(self, at):
        while (at := self.data.find(b"tkf", at)) >= 0:
            if self.head(at):
                return at
            at += 1
        return None

    def is_torn(self, at):
        rest = self.data[at:]
        return len(rest) < HEAD or (len(self.data) % 4096 == 0 and not any(rest))

    def scan(self, keys):
        at, size = HEADER, len(self.data)
        while at < size:
            head = self.head(at)
            if head:
                kind, length, seq, tag, crc = head
                if kind not in (WAY_IN, PUT, REMOVED, NOTE, WAYS):
                    raise Newer("a frame of a newer version")
                end = at + HEAD + length
                if end > size:
                    end = self.next_head(at + HEAD)
                    if end is None:
                        return
                body = self.data[at + HEAD : end]
                self.frames.append(Frame(at, kind, seq, tag, body, len(body) == length and crc == crc32c(body)))
            else:
                following = self.next_head(at + 1)
                if following is None and self.is_torn(at):
                    return
                end = following or size
                frame = self.rebuilt(at, end, keys)
                if frame:
                    self.frames.append(frame)
                    end = at + HEAD + len(frame.body)
                else:
                    self.damage.append(at)
            at = end

    def rebuilt(self, at, end, keys):
        """The frame of a head that is not valid, found again from the body behind it."""
        space = end - at - HEAD
        for length in (space, little(self.data[at + 4 : at + 8])):
            if not 0 < length <= min(space, MAX_BODY):
                continue
            body = self.data[at + HEAD : at + HEAD + length]
            if body.startswith(AGE) and all(frame.kind == WAY_IN for frame in self.frames):
                return Frame(at, WAY_IN, 0, NO_TAG, body, True)
            try:
                kind, seq, tag, _, _ = keys.open(body) if keys else (None,) * 5
            except Damaged:
                continue
            if kind:
                return Frame(at, kind, seq, tag, body, True)
        return None

    def ways_in(self):
        for frame in self.frames:
            if frame.kind != WAY_IN:
                return
            if frame.whole:
                try:
                    yield frame, Message(frame.body)
                except Damaged:
                    pass

    def newest(self, tag, *kinds):
        found = [frame for frame in self.frames if frame.tag == tag and frame.kind in kinds]
        return max(found, key=lambda frame: frame.seq, default=None)

    def is_doubtful(self, frame):
        """Whether bytes that belong to nobody known may have held something newer."""
        return bool(self.damage) and (frame is None or frame.offset < self.damage[-1])

    def listed(self, keys):
        """The SHA-256 of each way in that is listed; None if the list is damaged."""
        newest = self.newest(NO_TAG, WAYS)
        if newest is None:
            if self.damage:
                return None
            raise Damaged("cut short: there is no list of ways in")
        try:
            listed = MessagePack(newest.record(keys)[1]).whole()
            if listed["v"] > 1:
                raise Newer("a list of ways in of a newer version")
            return [fields(way)["sha256"] for way in listed["ways"]]
        except (Damaged, KeyError, TypeError):
            return None

    def opened_by(self, unwrap):
        """The keys in the first way in that opens and is listed."""
        for frame, message in self.ways_in():
            try:
                file_key = unwrap(message)
                if file_key is None:
                    continue
                keys = Keys(message.master(file_key))
            except (Damaged, ValueError):
                continue
            if keys.id != self.key_id:
                continue
            listed = Vault(self.data, keys).listed(keys)
            if listed is None or frame.sha256() in listed:
                return keys
        raise SystemExit("no way in opens")

    def read(self, keys, name):
        tag = keys.tag_of(name)
        answer = {"key": name.hex(), "state": "none", "revision": None, "value": None, "note": None}
        newest = self.newest(tag, PUT, REMOVED)
        try:
            if self.is_doubtful(newest):
                raise Damaged("what cannot be read may be newer")
            if newest:
                _, value = newest.record(keys)
                if newest.kind == PUT:
                    answer.update(state="entry", revision=newest.seq, value=base64.b64encode(value).decode())
        except Damaged:
            answer["state"] = "damaged"
        note, removal = self.newest(tag, NOTE), self.newest(tag, REMOVED)
        if note and not self.is_doubtful(note) and not (removal and removal.seq > note.seq):
            try:
                answer["note"] = base64.b64encode(note.record(keys)[1]).decode()
            except Damaged:
                pass
        return answer

    def names(self, keys):
        """The keys of all entries that can be read."""
        for tag in {frame.tag for frame in self.frames if frame.kind == PUT}:
            newest = self.newest(tag, PUT, REMOVED)
            if newest.kind == PUT:
                try:
                    yield newest.record(keys)[0].encode()
                except Damaged:
                    pass


def main(arguments):
    if arguments == ["--check"]:
        return
    path, how, secret, *names = arguments
    with open(path, "rb") as file:
        vault = Vault(file.read())
    with open(secret, "rb") as file:
        secret = file.read()
    if how == "--passphrase":
        unwrap = by_passphrase(secret, [message for _, message in vault.ways_in()])
    elif how == "--identity":
        lines = (line.strip() for line in secret.decode().splitlines())
        unwrap = by_identity([bech32_secret(line) for line in lines if line and not line.startswith("#")])
    else:
        raise SystemExit(__doc__)
    keys = vault.opened_by(unwrap)
    vault = Vault(vault.data, keys)
    for name in sorted(map(str.encode, names) if names else vault.names(keys)):
        print(json.dumps(vault.read(keys, name)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Damaged, Newer) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
