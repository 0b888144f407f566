//! The `age` of the system opens a vault's ways in, as `docs/vault-format.md` says.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod scene;

use std::process::{Command, Stdio};

use age_core::primitives::hkdf;
use scene::{IDENTITY, Scene};

#[tokio::test]
async fn it_reads_the_master_key_in_a_way_in() {
    let version = Command::new("age").arg("--version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("TOKENKEEP_REQUIRE_SUITES").is_none(),
            "age is missing: install the package age"
        );
        return eprintln!("skipped: age is missing (package age)");
    }
    let scene = Scene::new().await;
    let file = scene.bytes();
    // The first frame behind the header: its length, and its body behind 40 bytes of head.
    let len = u32::from_le_bytes(file[47 + 4..47 + 8].try_into().unwrap()) as usize;
    let [message, identity] = ["way-in.age", "identity"].map(|name| scene.folder.path().join(name));
    std::fs::write(&message, &file[47 + 40..47 + 40 + len]).unwrap();
    std::fs::write(&identity, IDENTITY).unwrap();
    let output = Command::new("age").arg("-d").arg("-i").args([&identity, &message]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), 32);
    assert_eq!(
        hkdf(&[], b"tokenkeep/key-id", &output.stdout)[..16],
        file[19..35],
        "it is the key of this vault"
    );
}
