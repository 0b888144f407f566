//! The key pin: which vault is taken, which is refused, and by what.
#![allow(clippy::disallowed_methods, reason = "tests")]
#![cfg(all(feature = "vault", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

#[path = "pin/damaged.rs"]
mod damaged;
#[path = "pin/names.rs"]
mod names;
#[path = "pin/rule.rs"]
mod rule;
mod scene;

use std::path::{Path, PathBuf};

use scene::{IDENTITY, RECIPIENT, cheap_passphrase, identity, key, set_mode, told, value};
use tokenkeep_store::{
    Environment, Expected, KeyId, NewWayIn, Opening, PinState, Rekey, SecretStore, Source, Sources,
    StoreError, Vault, VaultOptions,
};

/// A home, and two vaults for the same key and the same passphrase.
struct World {
    folder: tempfile::TempDir,
    other: Vec<u8>,
    other_id: KeyId,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = |path: PathBuf, entry: &'static str| async move {
            let ways = vec![NewWayIn::recipient(RECIPIENT), cheap_passphrase("right")];
            let vault = Vault::create(&path, ways).await.unwrap();
            vault.put(&key("session"), &value(entry), Expected::Absent).await.unwrap();
            vault.key_id()
        };
        let other = folder.path().join("other");
        let other_id = made(other.clone(), "the attacker's").await;
        made(folder.path().join("v"), "ours").await;
        Self { other: std::fs::read(&other).unwrap(), other_id, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v")
    }

    fn opening(&self, source: Source, variables: &[(&str, &str)]) -> Opening {
        let home = [("HOME", self.folder.path().to_str().unwrap())];
        let environment: Environment = variables.iter().copied().chain(home).collect();
        let sources = Sources::new(Environment::empty()).given("the test", source);
        Opening::new(environment).sources(sources).vault("the test", self.path())
    }

    fn by_key(&self) -> Opening {
        self.opening(Source::Identity(IDENTITY.into()), &[])
    }

    fn by_passphrase(&self) -> Opening {
        self.opening(Source::Passphrase(value("right")), &[])
    }

    /// Puts the other vault in the place of this one.
    fn replace(&self) {
        let new = self.folder.path().join("replacement");
        std::fs::write(&new, &self.other).unwrap();
        set_mode(&new, 0o600);
        std::fs::rename(&new, self.path()).unwrap();
    }

    fn pins(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join(".local/state/tokenkeep/key-pins");
        let entries = std::fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()));
        entries.map(Iterator::collect).unwrap_or_default()
    }
}

#[track_caller]
fn refused(opened: Result<Vault, StoreError>, says: &str) {
    let Err(error @ StoreError::UntrustedKeys { .. }) = opened else { panic!("{opened:?}") };
    assert!(error.to_string().contains(says), "{error}");
}

#[tokio::test]
async fn a_file_replaced_by_one_for_the_same_public_key_is_refused_until_it_is_trusted() {
    let world = World::new().await;
    let vault = world.by_key().open_vault().await.unwrap();
    let ours = vault.key_id();
    let [pin] = &world.pins()[..] else { panic!("{:?}", world.pins()) };
    assert_eq!(vault.pin_state(), &PinState::Pinned { file: pin.clone() });
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(pin).unwrap());
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(world.by_key().open_vault().await.unwrap().key_id(), ours);

    world.replace();
    for _ in 0..2 {
        refused(world.by_key().open_vault().await, &pin.display().to_string());
    }
    assert_eq!(std::fs::read(world.path()).unwrap(), world.other, "nothing was written");
    let report = world.by_key().pin_report().unwrap();
    assert_eq!((report.found, &report.pinned[..], report.is_trusted()), (world.other_id, &[ours][..], false));
    // Only the one that is there can be trusted.
    assert!(matches!(world.by_key().trust(ours), Err(StoreError::Invalid { .. })));
    refused(world.by_key().open_vault().await, "key id");
    let report = world.by_key().trust(world.other_id).unwrap();
    assert_eq!((&report.pinned[..], report.is_trusted()), (&[world.other_id][..], true));
    assert_eq!(world.by_key().open_vault().await.unwrap().key_id(), world.other_id);
    assert_eq!(world.pins().len(), 1, "nothing else was left");
}

#[tokio::test]
async fn a_passphrase_proves_who_wrote_it_and_pins_anew() {
    let world = World::new().await;
    world.by_key().open_vault().await.unwrap();
    world.replace();
    let vault = world.by_passphrase().open_vault().await.unwrap();
    assert_eq!(vault.key_id(), world.other_id);
    assert_eq!(world.by_key().pin_report().unwrap().pinned, [world.other_id]);
    world.by_key().open_vault().await.expect("pinned anew");
    // A wrong one proves nothing.
    let wrong = world.opening(Source::Passphrase(value("wrong")), &[]);
    assert!(matches!(wrong.open_vault().await, Err(StoreError::WrongPassphrase { .. })));
}

#[tokio::test]
async fn an_id_that_is_given_beats_what_is_pinned_for_passphrases_too() {
    let world = World::new().await;
    let ours = world.by_key().open_vault().await.unwrap().key_id().to_string();
    let given = |source: Source, id: &str| world.opening(source, &[("TOKENKEEP_VAULT_ID", id)]);
    let key = || Source::Identity(IDENTITY.into());
    let vault = given(key(), &ours.to_uppercase()).open_vault().await.unwrap();
    assert_eq!(vault.pin_state(), &PinState::Given { by: "TOKENKEEP_VAULT_ID".to_owned() });
    world.replace();
    refused(given(key(), &ours).open_vault().await, "TOKENKEEP_VAULT_ID");
    refused(given(Source::Passphrase(value("right")), &ours).open_vault().await, "TOKENKEEP_VAULT_ID");
    given(key(), &world.other_id.to_string()).open_vault().await.expect("whatever is pinned");
    for nonsense in ["", "0123", "x", &"g".repeat(32)] {
        let opened = given(key(), nonsense).open_vault().await;
        assert!(
            matches!(&opened, Err(StoreError::Invalid { what }) if what.contains("TOKENKEEP_VAULT_ID")),
            "{opened:?}"
        );
    }
    // A new vault cannot have the id that is expected.
    std::fs::remove_file(world.path()).unwrap();
    for made in
        [given(key(), &ours).make_vault().await.map(drop), given(key(), &ours).open_or_make().await.map(drop)]
    {
        assert!(matches!(made, Err(StoreError::Invalid { .. })), "{made:?}");
    }
    assert!(!world.path().exists());
}

#[tokio::test]
async fn a_program_pins_by_the_builder_alone() {
    let world = World::new().await;
    let vault = Vault::open(world.path(), &identity()).await.unwrap();
    assert_eq!(vault.pin_state(), &PinState::NotAsked);
    let ours = VaultOptions::new().key_id(vault.key_id());
    ours.open(world.path(), &identity()).await.unwrap();
    world.replace();
    refused(ours.open(world.path(), &identity()).await, "the program");
    Vault::open(world.path(), &identity()).await.expect("not asked");
    refused(world.by_key().key_id(vault.key_id()).open_vault().await, "the program");
    assert_eq!(world.pins(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_symlink_led_elsewhere_is_noticed() {
    let world = World::new().await;
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(world.path(), &link).unwrap();
    let opening = || world.by_key().vault("the test", &link);
    opening().open_vault().await.unwrap();
    assert_eq!(world.pins().len(), 2);
    world.by_key().open_vault().await.expect("the same vault by its own name");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(world.folder.path().join("other"), &link).unwrap();
    refused(opening().open_vault().await, "key id");
}

#[tokio::test]
async fn changing_the_keys_and_a_new_vault_keep_the_pin_up_to_date() {
    let world = World::new().await;
    let vault = world.by_key().open_vault().await.unwrap();
    let plan = vault.plan_rekey(Rekey::new()).await.unwrap();
    let vault = vault.rekey(plan).await.unwrap();
    assert_eq!(world.by_key().pin_report().unwrap().pinned, [vault.key_id()]);
    world.by_key().open_vault().await.unwrap();
    // With the id given, the file is kept right for those without.
    let id = vault.key_id().to_string();
    let given = world.opening(Source::Identity(IDENTITY.into()), &[("TOKENKEEP_VAULT_ID", &id)]);
    let vault = given.open_vault().await.unwrap();
    let plan = vault.plan_rekey(Rekey::new()).await.unwrap();
    vault.rekey(plan).await.unwrap();
    world.by_key().open_vault().await.unwrap();
    refused(given.open_vault().await, "TOKENKEEP_VAULT_ID");

    std::fs::remove_file(world.path()).unwrap();
    let (vault, _) = world.by_key().make_vault().await.unwrap();
    assert_eq!(world.by_key().pin_report().unwrap().pinned, [vault.key_id()]);
    world.by_key().open_vault().await.unwrap();
}

#[tokio::test]
async fn a_pin_that_cannot_be_brought_up_to_date_stops_a_change_of_keys_and_a_failed_vault_leaves_none() {
    let world = World::new().await;
    let vault = world.by_key().open_vault().await.unwrap();
    let [pin] = &world.pins()[..] else { panic!() };
    // Not by modes, which do not stop root. Not every file system knows this.
    let (folder, away) = (pin.parent().unwrap(), world.folder.path().join("away"));
    let readable = std::fs::read(pin).unwrap();
    let immutable = std::process::Command::new("chattr").arg("+i").arg(folder).output();
    if immutable.is_ok_and(|output| output.status.success()) {
        let plan = vault.plan_rekey(Rekey::new()).await.unwrap();
        let refused = vault.rekey(plan).await;
        let undone = std::process::Command::new("chattr").arg("-i").arg(folder).output().unwrap();
        assert!(undone.status.success());
        assert!(matches!(refused, Err(StoreError::NotWritable { .. })), "{refused:?}");
        assert_eq!(std::fs::read(pin).unwrap(), readable);
        world.by_key().open_vault().await.unwrap();
    }
    std::fs::rename(folder, away).unwrap();

    // A vault that could not be made leaves no pin in the way of another.
    let in_the_way = world.folder.path().join("v.new");
    std::fs::remove_file(world.path()).unwrap();
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(world.by_key().make_vault().await.is_err());
    assert_eq!(world.pins(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn while_keys_are_changed_both_ids_are_taken_and_afterwards_one() {
    let world = World::new().await;
    let ours = world.by_key().open_vault().await.unwrap().key_id();
    let [pin] = &world.pins()[..] else { panic!() };
    let crashed = |ids: &[KeyId]| {
        let lines: String = ids.iter().map(|id| format!("key-id {id}\n")).collect();
        std::fs::write(pin, format!("tokenkeep-key-pin-v1\nvault \"/v\"\n{lines}")).unwrap();
    };
    for (ids, replaced) in [([ours, world.other_id], false), ([ours, world.other_id], true)] {
        crashed(&ids);
        if replaced {
            world.replace();
        }
        let found = world.by_key().open_vault().await.unwrap().key_id();
        assert_eq!(world.by_key().pin_report().unwrap().pinned, [found]);
    }
    // While somebody does change them, nothing is narrowed.
    crashed(&[ours, world.other_id]);
    let lock =
        std::fs::OpenOptions::new().read(true).write(true).open(world.folder.path().join("v.lock")).unwrap();
    let range = nix::libc::flock { l_type: 1, l_whence: 0, l_start: 1, l_len: 1, l_pid: 0 };
    nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
    world.by_key().open_vault().await.unwrap();
    assert_eq!(world.by_key().pin_report().unwrap().pinned, [ours, world.other_id]);
    // Not by closing it: a process that another test starts may have it for a moment.
    let free = nix::libc::flock { l_type: 2, ..range };
    nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&free)).unwrap();
    world.by_key().open_vault().await.unwrap();
    assert_eq!(world.by_key().pin_report().unwrap().pinned, [world.other_id]);
}

#[tokio::test]
async fn a_pin_that_is_none_is_refused_by_key_and_mended_by_passphrase() {
    let world = World::new().await;
    world.by_key().open_vault().await.unwrap();
    let [pin] = &world.pins()[..] else { panic!() };
    for nonsense in ["", "nonsense", "tokenkeep-key-pin-v1\nkey-id 12", "\u{0}"] {
        std::fs::write(pin, nonsense).unwrap();
        let opened = world.by_key().open_vault().await;
        let Err(error @ StoreError::Place { .. }) = opened else { panic!("{nonsense:?}: {opened:?}") };
        assert!(error.to_string().contains("tokenkeep vault trust"), "{error}");
        world.by_passphrase().open_vault().await.unwrap();
        world.by_key().open_vault().await.unwrap();
    }
}

#[tokio::test]
async fn without_a_place_for_a_pin_it_goes_on_and_says_so() {
    let world = World::new().await;
    let state = |variables: &[(&str, &str)]| {
        let environment: Environment = variables.iter().copied().collect();
        let sources = Sources::new(Environment::empty()).given("the test", Source::Identity(IDENTITY.into()));
        Opening::new(environment).sources(sources).vault("the test", world.path())
    };
    let unpinned = |vault: Vault, says: &str| match vault.pin_state() {
        PinState::Unpinned { reason } => assert!(reason.contains(says), "{reason}"),
        other => panic!("{other:?}"),
    };
    unpinned(state(&[]).open_vault().await.unwrap(), "TOKENKEEP_VAULT_ID");
    assert!(matches!(state(&[]).trust(world.other_id), Err(StoreError::Invalid { .. })));
    // A file stands where the folder would be.
    let file = world.folder.path().join("v");
    unpinned(state(&[("XDG_STATE_HOME", file.to_str().unwrap())]).open_vault().await.unwrap(), "key-pins");
    // A service without a home has a folder of its own.
    let service = world.folder.path().join("service");
    let vault = state(&[("HOME", "/nonexistent"), ("STATE_DIRECTORY", service.to_str().unwrap())])
        .open_vault()
        .await
        .unwrap();
    let PinState::Pinned { file } = vault.pin_state() else { panic!("{:?}", vault.pin_state()) };
    assert!(file.starts_with(service.join("key-pins")), "{file:?}");
    if scene::is_root() {
        return;
    }
    let closed = world.folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o500);
    unpinned(state(&[("XDG_STATE_HOME", closed.to_str().unwrap())]).open_vault().await.unwrap(), "ermission");
}

async fn open_at_once(folder: &Path) {
    let environment: Environment = [("HOME", folder.to_str().unwrap())].into_iter().collect();
    let sources = Sources::new(Environment::empty()).given("the test", Source::Identity(IDENTITY.into()));
    let opening = Opening::new(environment).sources(sources).vault("the test", folder.join("v"));
    opening.open_vault().await.unwrap();
}

#[tokio::test]
async fn twenty_processes_that_are_first_leave_one_pin() {
    if let Some(folder) = told("open at once") {
        return open_at_once(&folder).await;
    }
    let world = World::new().await;
    for _ in 0..3 {
        for pin in world.pins() {
            std::fs::remove_file(pin).unwrap();
        }
        let started: Vec<_> = (0..20)
            .map(|_| {
                let test = "twenty_processes_that_are_first_leave_one_pin";
                let mut command = scene::again(test, "open at once", world.folder.path());
                command.stdout(std::process::Stdio::null()).spawn().unwrap()
            })
            .collect();
        for mut child in started {
            assert!(child.wait().unwrap().success());
        }
        let report = world.by_key().pin_report().unwrap();
        assert_eq!(report.pinned, [report.found]);
        assert_eq!(world.pins().len(), 1);
    }
}
