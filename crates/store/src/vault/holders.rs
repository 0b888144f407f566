//! Which processes hold leases. The system says of a lock on an open file description only that it is held; who has such
//! a description open stands under `/proc`, as far as this user may look there.

use super::disk::Facts;

/// The processes that hold any lease of the vault with this lock file.
#[cfg(target_os = "linux")]
pub(super) fn of_leases(lock_file: &Facts) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut holders: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|process| holds_lease(*process, lock_file.id.inode))
        .collect();
    holders.sort_unstable();
    holders
}

#[cfg(target_os = "linux")]
fn holds_lease(process: u32, inode: u64) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fdinfo")) else { return false };
    descriptors
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .any(|info| info.lines().any(|line| is_lease(line, inode)))
}

/// `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 1 1`: byte 1 of the file with this inode.
#[cfg(target_os = "linux")]
fn is_lease(line: &str, inode: u64) -> bool {
    let Some(lock) = line.strip_prefix("lock:") else { return false };
    let [_, "OFDLCK", _, "READ", _, file, "1", "1"] = lock.split_whitespace().collect::<Vec<_>>()[..] else {
        return false;
    };
    file.rsplit(':').next().is_some_and(|found| found == inode.to_string())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn of_leases(_lock_file: &Facts) -> Vec<u32> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::disk::Disk;
    use super::super::frame::Tag;
    use super::super::lock::{Held, LEASES, Range, WRITER};
    use super::*;

    #[test]
    fn who_holds_a_lease_is_found_and_a_writer_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let disk = Disk::default();
        let writer = Held::try_take(&disk, &path, &[WRITER]).unwrap().unwrap();
        let facts = disk.facts(&path).unwrap();
        assert_eq!(of_leases(&facts), Vec::<u32>::new());
        let lease = Held::try_take(&disk, &path, &[LEASES, Range::lease(&Tag([4; 16]))]).unwrap().unwrap();
        assert_eq!(of_leases(&facts), [std::process::id()]);
        drop((writer, lease));
        assert_eq!(of_leases(&facts), Vec::<u32>::new());
    }
}
