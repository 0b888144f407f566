//! SSH keys as ways in: keys that `ssh-keygen` made, and stock `age` as the second reader.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "ssh", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod scene;

use std::path::{Path, PathBuf};
use std::process::Command;

use age_core::primitives::hkdf;
use scene::{IDENTITY, RECIPIENT, Scene, cheap_passphrase, key, value};
use tokenkeep_store::{
    Environment, Expected, NewWayIn, Opening, SecretStore, Sources, StoreError, Unlock, Vault, WayKind,
};

/// A folder with keys in it.
struct Keys(tempfile::TempDir);

impl Keys {
    /// `None` where a program is missing, which is said.
    fn with(programs: &[&str]) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has = |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        if let Some(missing) = programs.iter().find(|program| !has(program)) {
            eprintln!("not tested: there is no {missing}");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new key of `ssh-keygen` with these arguments, and its public key.
    fn make(&self, name: &str, arguments: &[&str]) -> (PathBuf, String) {
        let path = self.path(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", ""]).args(arguments).arg("-f").arg(&path);
        assert!(command.status().unwrap().success(), "{arguments:?}");
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        (path, public)
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn unlock(path: &Path) -> Unlock {
    Unlock::identity(text(path), "TOKENKEEP_IDENTITY")
}

fn kinds(path: &Path) -> Vec<WayKind> {
    Vault::probe(path).unwrap().ways.iter().map(|way| way.kind).collect()
}

/// The bodies of the ways in, which come first in the file.
fn ways_in(file: &[u8]) -> Vec<&[u8]> {
    let mut rest = &file[47..];
    let mut ways = Vec::new();
    while rest[3] == 1 {
        let length = u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        ways.push(&rest[40..40 + length]);
        rest = &rest[40 + length..];
    }
    ways
}

#[tokio::test]
async fn real_keys_open_what_is_wrapped_to_them_here_and_by_stock_age() {
    let Some(keys) = Keys::with(&["ssh-keygen", "age"]) else { return };
    for (name, arguments, kind) in [
        ("ed25519", &["-t", "ed25519", "-C", "root@server"][..], WayKind::SshEd25519),
        ("rsa", &["-t", "rsa", "-b", "2048", "-C", "root@server"], WayKind::SshRsa),
        ("pem", &["-t", "rsa", "-b", "4096", "-m", "PEM", "-C", "root@server"], WayKind::SshRsa),
    ] {
        let (private, public) = keys.make(name, arguments);
        let scene = Scene::with(vec![NewWayIn::recipient(public.clone())]).await;
        scene.vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();

        let vault = Vault::open(&scene.path, &unlock(&private)).await.unwrap();
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"), "{name}");
        let way = vault.status().await.unwrap().ways.remove(0);
        assert_eq!((way.kind, way.label.as_str(), way.opened_by), (kind, "root@server", true));
        assert_eq!(way.kind.name(), if kind == WayKind::SshRsa { "ssh-rsa" } else { "ssh-ed25519" });
        let recipient = way.recipient.unwrap();
        assert_eq!(format!("{recipient} root@server\n"), public, "the comment is the label");
        assert_eq!(kinds(&scene.path), [kind]);

        let file = scene.bytes();
        let body = keys.path("body");
        std::fs::write(&body, ways_in(&file)[0]).unwrap();
        let out = Command::new("age").arg("-d").arg("-i").arg(&private).arg(&body).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stdout.len(), 32);
        assert_eq!(&hkdf(b"", b"tokenkeep/key-id", &out.stdout)[..16], &file[19..35], "{name}");
    }
}

#[tokio::test]
async fn a_vault_with_several_ways_in_opens_by_each_and_by_a_file_of_several_keys() {
    let Some(keys) = Keys::with(&["ssh-keygen"]) else { return };
    let (ed25519, ed25519_public) = keys.make("ed25519", &["-t", "ed25519"]);
    let (rsa, rsa_public) = keys.make("rsa", &["-t", "rsa", "-b", "3072"]);
    let (other, _) = keys.make("other", &["-t", "ed25519"]);
    let (other_rsa, _) = keys.make("other_rsa", &["-t", "rsa", "-b", "2048"]);
    let scene = Scene::with(vec![
        cheap_passphrase("p"),
        NewWayIn::Recipient { recipient: ed25519_public, label: "this machine".into() },
        NewWayIn::recipient(RECIPIENT),
        NewWayIn::recipient(rsa_public),
    ])
    .await;
    assert_eq!(
        kinds(&scene.path),
        [WayKind::Passphrase, WayKind::SshEd25519, WayKind::X25519, WayKind::SshRsa]
    );
    let several = format!("# keys\n{}\r\n{}\n{IDENTITY}\n", text(&other).replace('\n', "\r\n"), text(&rsa));
    for (opener, opened_by) in [
        (unlock(&ed25519), 1),
        (unlock(&rsa), 3),
        (Unlock::identity(several, "several"), 2),
        (Unlock::identity(IDENTITY, "age"), 2),
        (Unlock::passphrase(value("p"), "typed"), 0),
    ] {
        let ways = Vault::open(&scene.path, &opener).await.unwrap().status().await.unwrap().ways;
        assert_eq!(ways.iter().position(|way| way.opened_by), Some(opened_by), "{opener:?}");
        assert_eq!(ways[1].label, "this machine", "a label that was given is kept");
    }
    for wrong in [&other, &other_rsa] {
        let opened = Vault::open(&scene.path, &unlock(wrong)).await;
        assert!(matches!(opened, Err(StoreError::WrongIdentity { .. })), "{opened:?}");
    }

    // A passphrase that is replaced leaves the others as they are.
    let vault = Vault::open(&scene.path, &Unlock::passphrase(value("p"), "typed")).await.unwrap();
    vault.replace_passphrase(value("q"), Some(scene::cheap())).await.unwrap();
    for opener in [unlock(&ed25519), unlock(&rsa)] {
        Vault::open(&scene.path, &opener).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_way_in_is_told_from_a_wrong_key() {
    let Some(keys) = Keys::with(&["ssh-keygen"]) else { return };
    let (private, public) = keys.make("ed25519", &["-t", "ed25519"]);
    let scene = Scene::with(vec![NewWayIn::recipient(public)]).await;
    let good = scene.bytes();
    let stanza = good.windows(15).position(|at| at == b"-> ssh-ed25519 ").unwrap();
    let mut bad = good.clone();
    bad[stanza + 80] ^= 1;
    scene.replace(&bad);
    let opened = Vault::open(&scene.path, &unlock(&private)).await;
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");

    // The same with checksums that are right: somebody has made it so.
    let length = u32::from_le_bytes(bad[51..55].try_into().unwrap()) as usize;
    let body = crc32c::crc32c(&bad[87..87 + length]);
    bad[79..83].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&bad[47..83]);
    bad[83..87].copy_from_slice(&head.to_le_bytes());
    scene.replace(&bad);
    let opened = Vault::open(&scene.path, &unlock(&private)).await;
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    scene.replace(&good);
    Vault::open(&scene.path, &unlock(&private)).await.unwrap();
}

#[tokio::test]
async fn the_key_of_the_environment_makes_a_vault_and_opens_it() {
    let Some(keys) = Keys::with(&["ssh-keygen"]) else { return };
    let (ed25519, _) = keys.make("ssh_host_ed25519_key", &["-t", "ed25519"]);
    let (rsa, _) = keys.make("ssh_host_rsa_key", &["-t", "rsa", "-b", "4096"]);
    // Three RSA keys are more than a passphrase may have.
    let all = keys.path("all");
    let (pem, _) = keys.make("pem", &["-t", "rsa", "-b", "4096", "-m", "PEM"]);
    std::fs::write(&all, [text(&rsa), text(&pem), text(&ed25519)].concat()).unwrap();
    scene::set_mode(&all, 0o600);
    assert!(text(&all).len() > 4096);
    for (file, expected) in [
        (&ed25519, &["ssh-ed25519"][..]),
        (&rsa, &["ssh-rsa"]),
        (&all, &["ssh-rsa", "ssh-rsa", "ssh-ed25519"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let environment: Environment = [("TOKENKEEP_IDENTITY", file.as_os_str())].into_iter().collect();
        let opening = Opening::new(environment.clone())
            .sources(Sources::new(environment))
            .vault("the test", folder.path().join("v"));
        let (vault, by) = opening.make_vault().await.unwrap();
        assert_eq!(by.as_deref(), Some("TOKENKEEP_IDENTITY"));
        vault.put(&key("a"), &value("kept"), Expected::Absent).await.unwrap();
        let vault = opening.open_vault().await.unwrap();
        assert_eq!(vault.get(&key("a")).await.unwrap().unwrap().value, value("kept"));
        let ways = vault.status().await.unwrap().ways;
        assert_eq!(ways.iter().map(|way| way.kind.name()).collect::<Vec<_>>(), expected);

        // Judged as ssh judges it.
        scene::set_mode(file, 0o644);
        let opened = opening.open_vault().await;
        assert!(
            matches!(&opened, Err(StoreError::UnlockSource { reason, .. }) if reason.contains("chmod 600")),
            "{opened:?}"
        );
        scene::set_mode(file, 0o600);
    }
}

#[tokio::test]
async fn keys_that_cannot_serve_are_named_and_not_shown() {
    let Some(keys) = Keys::with(&["ssh-keygen"]) else { return };
    let (ecdsa, ecdsa_public) = keys.make("ecdsa", &["-t", "ecdsa"]);
    let (protected, protected_public) = keys.make("protected", &["-t", "ed25519", "-N", "12345"]);
    let (protected_pem, _) =
        keys.make("protected_pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "12345"]);
    let (pkcs8, _) = keys.make("pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]);
    let (ecdsa_pem, _) = keys.make("ecdsa_pem", &["-t", "ecdsa", "-m", "PEM"]);
    let (small, small_public) = keys.make("small", &["-t", "rsa", "-b", "1024"]);
    let whole = text(&keys.make("whole", &["-t", "ed25519", "-C", "root@server"]).0);
    let public = text(&keys.path("whole.pub"));

    let scene =
        Scene::with(vec![NewWayIn::recipient(RECIPIENT), NewWayIn::recipient(protected_public)]).await;
    let first_half: String = whole.lines().take(3).map(|line| format!("{line}\n")).collect();
    let altered = whole.replacen("AAAA", "AAAB", 1);
    for (text, said) in [
        (text(&ecdsa), "ecdsa-sha2-nistp256"),
        (text(&protected), "protected by a passphrase"),
        (text(&protected_pem), "protected by a passphrase"),
        (text(&pkcs8), "ssh-keygen -p -f"),
        (text(&ecdsa_pem), "ECDSA"),
        (public.clone(), "locks"),
        (first_half, "does not end"),
        (altered, "is it whole?"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n".into(), "puttygen"),
    ] {
        let opened = Vault::open(&scene.path, &Unlock::identity(text.clone(), "TOKENKEEP_IDENTITY")).await;
        let Err(error @ StoreError::UnlockSource { .. }) = opened else { panic!("{said}: {opened:?}") };
        let error = format!("{error} {error:?}");
        assert!(error.contains(said) && error.contains("TOKENKEEP_IDENTITY"), "{error}");
        for line in text.lines().filter(|line| line.len() > 40) {
            assert!(!error.contains(line), "{error}");
        }
    }
    // A weak key opens what others made for it; here none is made.
    for (bad, said) in [
        (ecdsa_public.as_str(), "ecdsa-sha2-nistp256"),
        (&small_public, "less than 2048 bits"),
        ("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t me", "security key"),
        ("ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1l me", "certificate"),
        ("ssh-dss AAAAB3NzaC1kc3M= me", "ssh-dss"),
        (&format!("no-pty,command=\"x\" {public}"), "before its type"),
        (&public.replacen("AAAA", "AAAB", 1), "mistyped"),
        (&public[..60], "mistyped"),
        (&public.replacen(' ', "  ", 1).trim_end().replacen(" root", "AAAA root", 1), "longer or shorter"),
        (&whole, "private key"),
        ("ssh-ed25519", "no key behind"),
    ] {
        let made = Vault::create(scene.folder.path().join("new"), vec![NewWayIn::recipient(bad)]).await;
        let Err(error @ StoreError::Invalid { .. }) = made else { panic!("{bad}: {made:?}") };
        assert!(error.to_string().contains(said), "{bad}: {error}");
    }
    // As the key of a new vault too.
    let environment: Environment = [("TOKENKEEP_IDENTITY", small.as_os_str())].into_iter().collect();
    let made = Opening::new(environment.clone())
        .sources(Sources::new(environment))
        .vault("the test", scene.folder.path().join("new"))
        .make_vault()
        .await;
    assert!(
        matches!(&made, Err(StoreError::UnlockSource { reason, .. }) if reason.contains("less than 2048 bits")),
        "{made:?}"
    );
    assert!(!scene.folder.path().join("new").exists());
}
