//! Keeps what is in this process's memory, tokens among it, from other processes, core files and swap.

use std::sync::OnceLock;

/// What the system granted of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hardening {
    /// Whether no page of this process goes to swap, now or later.
    pub(crate) memory_locked: bool,
    /// Whether the system lets no other process of this user look into this one, nor write a core file of it.
    pub(crate) not_dumpable: bool,
    /// Why something was refused, one sentence each.
    pub(crate) refused: Vec<String>,
}

impl Hardening {
    /// In words for people: what holds, and what does not.
    pub(crate) fn words(&self) -> String {
        let locked =
            if self.memory_locked { "locked: never in swap" } else { "not locked: it can be in swap" };
        let open = if self.not_dumpable { "" } else { ", and open to other processes of this user" };
        format!("{locked}{open}")
    }
}

static DONE: OnceLock<Hardening> = OnceLock::new();

/// Asks the system for all of it, once. What it refuses costs nothing but the protection.
pub(crate) fn apply() -> &'static Hardening {
    DONE.get_or_init(ask)
}

#[cfg(unix)]
fn ask() -> Hardening {
    use nix::sys::resource::{Resource, setrlimit};

    let mut done = Hardening::default();
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        done.refused.push(format!("core files cannot be switched off: {error}"));
    }
    #[cfg(target_os = "linux")]
    {
        match nix::sys::prctl::set_dumpable(false) {
            Ok(()) => done.not_dumpable = true,
            Err(error) => done.refused.push(format!("the process stays dumpable: {error}")),
        }
        match memory::lock() {
            Ok(()) => done.memory_locked = true,
            Err(reason) => done.refused.push(format!(
                "memory is not locked, so that secrets can reach swap ({reason}): raise RLIMIT_MEMLOCK to unlimited, \
                 or encrypt the swap"
            )),
        }
    }
    done
}

/// Nothing to ask for here.
#[cfg(not(unix))]
fn ask() -> Hardening {
    Hardening::default()
}

/// Locking the memory.
#[cfg(target_os = "linux")]
mod memory {
    use nix::libc::RLIM_INFINITY;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use rustix::mm::{MlockAllFlags, mlockall, munlockall};

    /// What must be left of a limit once everything is locked: the most that Argon2id may take (1 GiB), and what threads
    /// reserve for their stacks and heaps.
    const HEADROOM: u64 = 1536 * 1024 * 1024;
    /// What is certainly mapped when it is asked for, not taken from the heap.
    const MAPPED: u64 = 1024 * 1024;

    /// Locks all pages as they are touched, now and later, if the process can go on as before then.
    pub(super) fn lock() -> Result<(), String> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|error| error.to_string())?;
        let raised = soft < hard && setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard).is_ok();
        lock_under(if raised { hard } else { soft })
    }

    /// Under a limit, what is mapped later counts against it and fails beyond it: Argon2id would find no memory, and
    /// threads could not start. Whether the limit holds for this process, its capabilities do not tell, which are not
    /// what they seem in a container. So more than the limit is asked for, or enough.
    pub(super) fn lock_under(limit: u64) -> Result<(), String> {
        mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
            .map_err(|error| error.to_string())?;
        if limit == RLIM_INFINITY || can_map(limit.clamp(MAPPED, HEADROOM)) {
            return Ok(());
        }
        munlockall().map_err(|error| format!("and undoing it failed: {error}"))?;
        Err("the limit leaves too little for what comes later".to_owned())
    }

    /// Maps so many bytes and gives them back, without touching them: as a stack, since what the allocator gives back
    /// is wiped.
    fn can_map(bytes: u64) -> bool {
        let Ok(bytes) = usize::try_from(bytes) else { return false };
        let thread = std::thread::Builder::new().stack_size(bytes).spawn(|| ());
        thread.is_ok_and(|thread| thread.join().is_ok())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::process::Command;

    use nix::sys::resource::{Resource, getrlimit};

    #[allow(clippy::unwrap_used, reason = "a test may panic")]
    fn kib(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    #[test]
    fn what_does_not_hold_is_said() {
        let words = |memory_locked, not_dumpable| {
            super::Hardening { memory_locked, not_dumpable, refused: Vec::new() }.words()
        };
        assert_eq!(words(true, true), "locked: never in swap");
        assert_eq!(
            words(false, false),
            "not locked: it can be in swap, and open to other processes of this user"
        );
    }

    /// All in one, since it is the whole process that is changed.
    #[test]
    fn the_process_is_not_dumpable_and_locked_only_where_that_leaves_it_enough() {
        const LITTLE: &str = "TOKENKEEP_TEST_LITTLE_MEMORY";
        if std::env::var_os(LITTLE).is_some() {
            let refused = super::memory::lock_under(1 << 30).unwrap_err();
            assert_eq!(kib("VmLck"), 0, "{refused}");
            return;
        }
        // Before it is the system's alone to read.
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        // A limit of the address space fails a mapping as one of the locked memory does.
        let test =
            "hardening::tests::the_process_is_not_dumpable_and_locked_only_where_that_leaves_it_enough";
        let run = format!("ulimit -v {} && exec \"$0\" --exact {test}", kib("VmSize") + 512 * 1024);
        let mut little = Command::new("sh");
        little.args(["-c", &run]).arg(std::env::current_exe().unwrap()).env(LITTLE, "");
        assert!(little.status().unwrap().success());

        let done = super::apply();
        assert!(done.not_dumpable && !nix::sys::prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        assert_eq!(done.refused.len(), usize::from(!done.memory_locked), "{:?}", done.refused);
        assert_eq!(done.memory_locked, kib("VmLck") > 0);

        // What is freed is wiped, whoever freed it: there is nothing left of it but what the allocator writes there.
        let freed = std::hint::black_box(vec![0x5a_u8; 4096]);
        let mut seen = [0; 4096];
        let at = freed.as_ptr() as u64;
        memory.read_exact_at(&mut seen, at).unwrap();
        assert_eq!(seen, [0x5a; 4096]);
        drop(freed);
        memory.read_exact_at(&mut seen, at).unwrap();
        assert!(seen.iter().filter(|byte| **byte == 0x5a).count() < 64);
    }
}
