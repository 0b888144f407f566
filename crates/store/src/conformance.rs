//! What every store must do, as tests that any store can run (feature `conformance`).
//!
//! Implement [`Subject`] for a fresh store of yours and let [`store_conformance!`](crate::store_conformance) make one
//! `#[tokio::test]` of each case:
//!
//! ```text
//! tokenkeep_store::store_conformance!(MySubject::fresh());
//! ```
//!
//! Stores that processes share also implement [`Subject::child`]: a command that opens the same store in another
//! process and passes the task to [`act`]. Each case panics with what was promised and not kept.

// This is a test suite, only in another place: a failed promise is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, reason = "a test suite")]

mod entries;
mod leases;
mod processes;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokenkeep_secret::Secret;

pub use self::entries::*;
pub use self::leases::*;
pub use self::processes::*;

use crate::{Expected, Key, Revision, SecretStore};

/// Longer than anything takes on a loaded machine; a case that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One store that was empty when it was made.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A handle to the store. Each call makes a further one, independent of those before as far as the store allows.
    async fn handle(&self) -> Arc<dyn SecretStore>;

    /// A command that opens the same store in another process, as its first act, and then calls [`act`] with `task`
    /// until that returns. Its standard input and output are the suite's. `None` if processes cannot share the store.
    fn child(&self, task: &str) -> Option<Command> {
        let _ = task;
        None
    }

    /// Whether a lease can be handed to another process.
    fn hands_over_leases(&self) -> bool {
        false
    }
}

/// Makes a `#[tokio::test]` of every case. The argument is an expression that makes a fresh [`Subject`]; it may await.
///
/// With `in turn:` before it, it runs every case where it stands, in an async block: for a store that needs something
/// around it which one test sets up.
#[macro_export]
macro_rules! store_conformance {
    (in turn: $fresh:expr) => {
        $crate::store_conformance! { @cases @turn $fresh }
    };
    ($fresh:expr) => {
        $crate::store_conformance! { @cases @each $fresh }
    };
    (@cases @$how:ident $fresh:expr) => {
        $crate::store_conformance! { @$how $fresh;
            a_missing_entry_is_none
            what_is_put_is_read_back_by_every_handle
            text_and_bytes_are_kept_alike
            put_compares_before_it_swaps
            a_lost_swap_writes_nothing
            remove_compares_before_it_removes
            revisions_grow_and_are_never_used_twice
            values_have_a_limit
            keys_are_sorted_and_of_any_text
            clear_removes_everything
            notes_stand_beside_entries
            notes_end_with_their_entry
            one_of_many_swaps_wins
            a_lease_excludes_handles_and_tasks
            a_lease_excludes_threads
            leases_of_other_keys_are_free
            a_lease_is_waited_for_and_no_longer_than_told
            a_wait_that_is_given_up_takes_nothing
            a_lease_writes_by_compare_and_swap
            writes_go_on_beside_a_lease
            processes_see_each_others_writes
            no_increment_is_lost_between_processes
            a_lease_excludes_processes_and_ends_with_its_holder
            a_child_that_was_started_meanwhile_does_not_keep_a_lease
            a_lease_can_be_handed_to_a_child
        }
    };
    (@each $fresh:expr; $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$case(&$fresh).await;
            }
        )+
    };
    (@turn $fresh:expr; $($case:ident)+) => {
        $(
            $crate::conformance::$case(&$fresh).await;
        )+
    };
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a key of the suite")
}

fn value(text: &str) -> Secret {
    Secret::from(text.as_bytes())
}

async fn stored(store: &dyn SecretStore, key: &Key) -> Option<(Vec<u8>, Revision)> {
    let entry = store.get(key).await.expect("get works");
    entry.map(|entry| (entry.value.expose().to_vec(), entry.revision))
}

async fn put(store: &dyn SecretStore, key: &Key, text: &str, expected: Expected) -> Revision {
    store.put(key, &value(text), expected).await.expect("this put has nothing against it")
}
