//! Keeps other processes and core files away from this one's memory, where tokens are.

/// Makes the process not dumpable and its core files empty. Best effort: what was refused is returned, to be logged.
#[cfg(unix)]
pub(crate) fn apply() -> Vec<String> {
    use nix::sys::resource::{Resource, setrlimit};
    let mut refused = Vec::new();
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        refused.push(format!("core files cannot be switched off: {error}"));
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        refused.push(format!("the process stays dumpable: {error}"));
    }
    refused
}

/// Nothing to do here.
#[cfg(not(unix))]
pub(crate) fn apply() -> Vec<String> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_process_is_not_dumpable_afterwards() {
        use nix::sys::resource::{Resource, getrlimit};
        assert_eq!(super::apply(), Vec::<String>::new());
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }
}
