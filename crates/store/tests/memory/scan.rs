//! Looking for patterns in this process's own memory, without the patterns ever standing in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of one pattern: short enough to find what is left of a key when half of it was overwritten, long enough to
/// meet nothing by chance.
pub(crate) const WINDOW: usize = 8;
const BUFFER: usize = 1 << 20;
const PAGE: usize = 4096;
const BITS: u32 = 20;

/// What is looked for, every pattern XORed with a mask.
pub(crate) struct Wanted {
    mask: u64,
    /// Sorted.
    patterns: Vec<(u64, u32)>,
    names: Vec<String>,
    /// One bit a hash, so that most of the memory costs one look.
    filter: Vec<u64>,
}

/// Where some of a secret was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) windows: usize,
}

fn bit(masked: u64) -> usize {
    (masked.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as usize
}

impl Wanted {
    /// Reads what [`write`] writes.
    pub(crate) fn read(lines: impl Iterator<Item = String>) -> Self {
        let mut wanted =
            Self { mask: 0, patterns: Vec::new(), names: Vec::new(), filter: vec![0; 1 << (BITS - 6)] };
        for line in lines {
            match line.split_once(' ').unwrap() {
                ("mask", mask) => wanted.mask = u64::from_str_radix(mask, 16).unwrap(),
                ("name", name) => wanted.names.push(name.to_owned()),
                ("find", masked) => {
                    let masked = u64::from_str_radix(masked, 16).unwrap();
                    wanted.patterns.push((masked, wanted.names.len() as u32 - 1));
                    wanted.filter[bit(masked) / 64] |= 1 << (bit(masked) % 64);
                }
                ("end", _) => break,
                other => panic!("{other:?}"),
            }
        }
        wanted.patterns.sort_unstable();
        wanted
    }

    /// Everything of it that stands in this process's memory: all that is private to it and can be read, but for code.
    pub(crate) fn find(&self) -> Vec<Found> {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut buffer = vec![0; BUFFER];
        // What is read stands in the buffer too.
        let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + BUFFER as u64;
        let mut found: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for line in maps.lines() {
            let mut fields = line.split_whitespace();
            let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
            let region = fields.nth(3).unwrap_or("unnamed");
            if !mode.starts_with('r') || !mode.ends_with('p') || mode.contains('x') {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let (mut at, end) =
                (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
            while at < end {
                // Up to the buffer, or past it.
                let until = if at < own.start { end.min(own.start) } else { end };
                if own.contains(&at) {
                    at = own.end;
                    continue;
                }
                let len = BUFFER.min((until - at) as usize);
                // The kernel's own pages at the top of the address space cannot be read this way.
                let Ok(read) = memory.read_at(&mut buffer[..len], at) else { break };
                if read < WINDOW {
                    break;
                }
                self.find_in(&buffer[..read], |name| *found.entry((name, region)).or_default() += 1);
                at += read as u64;
                if at < until {
                    at -= WINDOW as u64 - 1;
                }
            }
        }
        found
            .into_iter()
            .map(|((name, region), windows)| Found {
                name: self.names[name as usize].clone(),
                region: region.to_owned(),
                windows,
            })
            .collect()
    }

    fn find_in(&self, bytes: &[u8], mut met: impl FnMut(u32)) {
        const ZEROS: [u8; PAGE] = [0; PAGE];
        for start in (0..bytes.len()).step_by(PAGE) {
            let end = bytes.len().min(start + PAGE);
            // Most of memory is this.
            if bytes[start..end] == ZEROS[..end - start] {
                continue;
            }
            for window in bytes[start..bytes.len().min(end + WINDOW - 1)].windows(WINDOW) {
                let masked = u64::from_le_bytes(window.try_into().unwrap()) ^ self.mask;
                if self.filter[bit(masked) / 64] >> (bit(masked) % 64) & 1 == 0 {
                    continue;
                }
                let from = self.patterns.partition_point(|(pattern, _)| *pattern < masked);
                let same = self.patterns[from..].iter().take_while(|(pattern, _)| *pattern == masked);
                same.for_each(|(_, name)| met(*name));
            }
        }
    }
}

/// What another process needs to look for `secrets`, which must not look like text or zeros anywhere.
pub(crate) fn write(secrets: &[(String, Vec<u8>)], mask: u64) -> String {
    let mut text = format!("mask {mask:x}\n");
    for (name, secret) in secrets {
        assert!(secret.len() >= WINDOW, "{name}");
        text += &format!("name {name}\n");
        // Every second byte is enough for keys: whatever stands in memory of nine bytes of one is met. Long values
        // are met by any 39 bytes of them.
        let step = if secret.len() <= 256 { 2 } else { 32 };
        for window in secret.windows(WINDOW).step_by(step) {
            text += &format!("find {:x}\n", u64::from_le_bytes(window.try_into().unwrap()) ^ mask);
        }
    }
    text + "end .\n"
}
