//! A vault that has several names: which of their pins follow when its keys are changed.

use super::*;

/// The world's vault, and two symlinks to it; each of the three names was opened once.
async fn three_names() -> (World, [PathBuf; 3], KeyId) {
    let world = World::new().await;
    let links = ["link", "second link"].map(|name| world.folder.path().join(name));
    for link in &links {
        std::os::unix::fs::symlink(world.path(), link).unwrap();
    }
    let [one, two] = links;
    let names = [world.path(), one, two];
    for name in &names {
        by(&world, name).open_vault().await.unwrap();
    }
    assert_eq!(world.pins().len(), 3);
    let id = by(&world, &names[0]).pin_report().unwrap().found;
    (world, names, id)
}

fn by(world: &World, name: &Path) -> Opening {
    world.by_key().vault("the test", name)
}

async fn rekey(opening: &Opening, rekey: Rekey) -> Vault {
    let vault = opening.open_vault().await.unwrap();
    vault.rekey(vault.plan_rekey(rekey).await.unwrap()).await.unwrap()
}

fn lead(link: &Path, to: &Path) {
    std::fs::remove_file(link).unwrap();
    std::os::unix::fs::symlink(to, link).unwrap();
}

#[tokio::test]
async fn keys_that_are_changed_under_one_name_are_taken_under_every_other() {
    let (world, names, _) = three_names().await;
    let mut vaults = Vec::new();
    for under in &names {
        let vault = rekey(&by(&world, under), Rekey::new()).await;
        for name in &names {
            let report = by(&world, name).pin_report().unwrap();
            assert_eq!(report.pinned, [vault.key_id()], "{under:?} {name:?}");
        }
        vaults.push(vault);
    }
    for name in &names {
        by(&world, name).open_vault().await.unwrap();
    }
    // A way in that is removed changes the keys too; so does a process that was given the id.
    let id = vaults[2].key_id().to_string();
    let other = NewWayIn::recipient(tokenkeep_store::RecoveryKey::generate().unwrap().recipient());
    let added = by(&world, &names[0]).open_vault().await.unwrap().add_way(other).await.unwrap();
    let given = world.opening(Source::Identity(IDENTITY.into()), &[("TOKENKEEP_VAULT_ID", &id)]);
    rekey(&given.vault("the test", &names[1]), Rekey::new().without(added.id)).await;
    for name in &names {
        by(&world, name).open_vault().await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_followed_is_refused_when_it_is_led_elsewhere() {
    let (world, names, _) = three_names().await;
    let old = world.folder.path().join("old copy");
    std::fs::copy(world.path(), &old).unwrap();
    set_mode(&old, 0o600);
    let copy = by(&world, &old).open_vault().await.unwrap();
    rekey(&by(&world, &names[0]), Rekey::new()).await;
    // A copy is a vault of its own: nobody changed its keys.
    assert_eq!(by(&world, &old).pin_report().unwrap().pinned, [copy.key_id()]);
    // Whoever was shut out has the old keys; whoever knows the public key makes others.
    for elsewhere in [old, world.folder.path().join("other")] {
        lead(&names[1], &elsewhere);
        refused(by(&world, &names[1]).open_vault().await, "key id");
    }
    lead(&names[1], &world.path());
    by(&world, &names[1]).open_vault().await.unwrap();
}

#[tokio::test]
async fn a_name_that_was_led_elsewhere_does_not_follow_the_vault_that_is_there() {
    let (world, names, ours) = three_names().await;
    let other = world.folder.path().join("other");
    by(&world, &other).open_vault().await.unwrap();
    lead(&names[1], &other);
    refused(by(&world, &names[1]).open_vault().await, "key id");
    rekey(&by(&world, &other), Rekey::new()).await;
    refused(by(&world, &names[1]).open_vault().await, "key id");
    lead(&names[1], &world.path());
    assert_eq!(by(&world, &names[1]).open_vault().await.unwrap().key_id(), ours);
}

#[tokio::test]
async fn a_vault_that_is_new_or_trusted_by_one_name_is_not_by_the_others() {
    let (world, names, _) = three_names().await;
    world.replace();
    by(&world, &names[1]).trust(world.other_id).unwrap();
    by(&world, &names[1]).open_vault().await.unwrap();
    refused(by(&world, &names[2]).open_vault().await, "key id");
    by(&world, &names[2]).trust(world.other_id).unwrap();
    by(&world, &names[2]).open_vault().await.unwrap();
    std::fs::remove_file(world.path()).unwrap();
    by(&world, &names[0]).make_vault().await.unwrap();
    by(&world, &names[0]).open_vault().await.unwrap();
    refused(by(&world, &names[1]).open_vault().await, "key id");
    // Nor do they follow keys that were changed from those of another vault.
    let vault = rekey(&by(&world, &names[0]), Rekey::new()).await;
    refused(by(&world, &names[1]).open_vault().await, &vault.key_id().to_string());
}

#[tokio::test]
async fn a_change_of_keys_that_failed_leaves_the_pins_of_all_names_as_they_were() {
    let (world, names, ours) = three_names().await;
    let before: Vec<_> = names.iter().map(|name| by(&world, name).pin_report().unwrap().pinned).collect();
    let vault = by(&world, &names[1]).open_vault().await.unwrap();
    let plan = vault.plan_rekey(Rekey::new()).await.unwrap();
    std::fs::create_dir(world.folder.path().join("v.new")).unwrap();
    assert!(vault.rekey(plan).await.is_err());
    for (name, before) in names.iter().zip(before) {
        assert_eq!(
            (by(&world, name).pin_report().unwrap().pinned, &before[..]),
            (before.clone(), &[ours][..])
        );
        by(&world, name).open_vault().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_crash_leaves_of_another_names_pin_is_mended_by_its_next_opening() {
    let (world, names, ours) = three_names().await;
    let pins = world.pins();
    for replaced in [false, true] {
        for pin in &pins {
            let text = std::fs::read_to_string(pin).unwrap();
            let kept = text.lines().filter(|line| !line.starts_with("key-id "));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            std::fs::write(pin, format!("{kept}key-id {ours}\nkey-id {}\n", world.other_id)).unwrap();
        }
        if replaced {
            world.replace();
        }
        let found = by(&world, &names[1]).open_vault().await.unwrap().key_id();
        for name in &names {
            assert_eq!(by(&world, name).pin_report().unwrap().pinned, [found], "{replaced} {name:?}");
        }
    }
}
