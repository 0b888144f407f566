//! One rule for opening a vault and for what is said of it; and that it can be told before anybody is asked.

use super::*;

/// A link to the world's vault, opened by both names; the pin of the link, and that of the real file.
async fn linked() -> (World, PathBuf, [PathBuf; 2]) {
    let world = World::new().await;
    world.by_key().open_vault().await.unwrap();
    let [real] = &world.pins()[..] else { panic!() };
    let real = real.clone();
    let link = world.folder.path().join("link");
    std::os::unix::fs::symlink(world.path(), &link).unwrap();
    world.by_key().vault("the test", &link).open_vault().await.unwrap();
    let named = world.pins().into_iter().find(|pin| *pin != real).unwrap();
    (world, link, [named, real])
}

#[tokio::test]
async fn what_is_refused_is_not_called_trusted_whichever_pin_refuses() {
    let (world, link, _) = linked().await;
    let opening = world.by_key().vault("the test", &link);
    world.replace();
    world.by_key().trust(world.other_id).unwrap();
    // The real file's pin names it, and the link's does not.
    let report = opening.pin_report().unwrap();
    assert!(report.pinned.contains(&world.other_id) && !report.is_trusted() && !report.is_settled());
    let by = report.file.unwrap();
    refused(opening.open_vault().await, &by.display().to_string());
    assert!(opening.trust(world.other_id).unwrap().is_settled());
    assert!(opening.pin_report().unwrap().is_trusted());
    opening.open_vault().await.unwrap();
}

#[tokio::test]
async fn a_damaged_pin_is_said_whichever_it_is_and_trusting_writes_it_anew() {
    let (world, link, pins) = linked().await;
    let opening = world.by_key().vault("the test", &link);
    for pin in &pins {
        std::fs::write(pin, "nonsense").unwrap();
        let report = opening.pin_report().unwrap();
        assert_eq!(report.pinned, [report.found], "the other pin is whole");
        assert!(!report.is_trusted() && !report.is_settled());
        assert_eq!(report.file.as_ref(), Ok(pin));
        let [trouble] = &report.troubles[..] else { panic!("{report:?}") };
        assert!(trouble.contains(pin.to_str().unwrap()) && trouble.contains("tokenkeep vault trust"));
        let opened = opening.open_vault().await;
        assert!(
            matches!(&opened, Err(error @ StoreError::Place { .. }) if error.to_string() == report.refusal().unwrap().to_string()),
            "{opened:?}"
        );
        let trusted = opening.trust(report.found).unwrap();
        assert!(trusted.is_trusted() && trusted.is_settled() && trusted.troubles.is_empty());
        opening.open_vault().await.unwrap();
    }
}

#[tokio::test]
async fn a_pin_that_cannot_be_read_takes_nothing_from_the_other() {
    let (world, link, pins) = linked().await;
    let opening = || world.by_key().vault("the test", &link);
    for (hidden, other) in [(&pins[0], &pins[1]), (&pins[1], &pins[0])] {
        let kept = std::fs::read(hidden).unwrap();
        std::fs::remove_file(hidden).unwrap();
        // Not by modes, which do not stop root.
        std::fs::create_dir(hidden).unwrap();
        let vault = opening().open_vault().await.unwrap();
        assert_eq!(vault.pin_state(), &PinState::Pinned { file: other.clone() });
        let report = opening().pin_report().unwrap();
        assert!(report.is_trusted() && !report.is_settled());
        assert_eq!((report.file.as_ref(), report.troubles.len()), (Ok(other), 1), "{report:?}");
        let ours = std::fs::read(world.path()).unwrap();
        world.replace();
        refused(opening().open_vault().await, other.to_str().unwrap());
        assert!(!opening().pin_report().unwrap().is_trusted());
        let new = world.folder.path().join("replacement");
        std::fs::write(&new, &ours).unwrap();
        set_mode(&new, 0o600);
        std::fs::rename(&new, world.path()).unwrap();
        std::fs::remove_dir(hidden).unwrap();
        std::fs::write(hidden, kept).unwrap();
    }
}

#[tokio::test]
async fn that_nothing_can_be_trusted_here_is_known_before() {
    let world = World::new().await;
    let look = |variables: &[(&str, &str)]| {
        let environment: Environment = variables.iter().copied().collect();
        Opening::new(environment).vault("the test", world.path()).look().unwrap()
    };
    let nowhere = look(&[]).check_trust();
    assert!(matches!(nowhere, Err(StoreError::Invalid { .. })), "{nowhere:?}");
    let file = world.path();
    let closed = look(&[("XDG_STATE_HOME", file.to_str().unwrap())]).check_trust();
    assert!(matches!(closed, Err(StoreError::NotWritable { .. })), "{closed:?}");
    let state = world.folder.path().join("state");
    let there = [("XDG_STATE_HOME", state.to_str().unwrap())];
    look(&there).check_trust().unwrap();
    assert_eq!(std::fs::read_dir(state.join("tokenkeep/key-pins")).unwrap().count(), 0, "nothing is left");
    // A key id that stands in a damaged header is nobody's word.
    let mut bytes = std::fs::read(world.path()).unwrap();
    bytes[20] ^= 1;
    std::fs::write(world.path(), bytes).unwrap();
    let looked = look(&there);
    let damaged = looked.check_trust();
    assert!(matches!(damaged, Err(StoreError::Corrupt { .. })), "{damaged:?}");
    let opening = Opening::new(there.into_iter().collect()).vault("the test", world.path());
    let trusted = opening.trust(looked.probe.key_id);
    assert!(matches!(trusted, Err(StoreError::Corrupt { .. })), "{trusted:?}");
    assert_eq!(std::fs::read_dir(state.join("tokenkeep/key-pins")).unwrap().count(), 0);
}

/// Bytes that this thread has read so far, from files or the system's memory.
fn bytes_read() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_vault_is_read_once_to_be_looked_at_and_once_to_be_opened() {
    // Without a runtime, so that all of it is done by this thread.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(done) => done,
            std::task::Poll::Pending => panic!("it waits for a runtime"),
        }
    }
    let folder = scene::Scene::memory();
    let path = folder.path().join("v");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let vault = Vault::create(&path, vec![NewWayIn::recipient(RECIPIENT)]).await.unwrap();
        for number in 0..300 {
            let some = value(&"x".repeat(2_000));
            vault.put(&key(&format!("entry {number}")), &some, Expected::Absent).await.unwrap();
        }
    });
    let bytes = std::fs::metadata(&path).unwrap().len();
    let home = [("HOME", folder.path().to_str().unwrap())];
    let environment: Environment = home.into_iter().collect();
    let sources = Sources::new(environment.clone()).given("the test", Source::Identity(IDENTITY.into()));
    let opening = Opening::new(environment).sources(sources).vault("the test", &path);
    let before = bytes_read();
    let looked = opening.look().unwrap();
    let vault = ready(looked.open()).unwrap();
    assert!(looked.pin_report().unwrap().is_settled());
    assert!(!looked.sources().is_empty());
    assert_eq!(vault.key_id(), looked.probe.key_id);
    let read = bytes_read() - before;
    assert!(bytes <= read && read < bytes * 5 / 2, "{read} bytes were read of {bytes}");
}
