//! Checking and repairing a vault that is not the expected one.

use super::*;
use tokenkeep_store::Checked;

/// How much of a file is damaged: nothing; an entry; that and the header, with the key id in it.
const DAMAGES: [fn(&mut [u8]); 3] = [
    |_| {},
    |bytes| *bytes.last_mut().unwrap() ^= 1,
    |bytes| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes[20] ^= 1;
    },
];

/// Puts the other vault, damaged, in the place of this one.
fn replace(world: &World, damage: fn(&mut [u8])) {
    world.replace();
    let mut bytes = world.other.clone();
    damage(&mut bytes);
    std::fs::write(world.path(), bytes).unwrap();
}

fn another(error: Option<StoreError>, id: KeyId) {
    match error {
        Some(StoreError::UntrustedKeys { found, .. }) => assert_eq!(found, id.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_vault_for_the_same_key_is_checked_and_said_to_be_another_and_is_not_repaired() {
    for damage in DAMAGES {
        let world = World::new().await;
        world.by_key().open_vault().await.unwrap();
        let [pin] = &world.pins()[..] else { panic!() };
        let pinned = std::fs::read(pin).unwrap();
        replace(&world, damage);
        let before = std::fs::read(world.path()).unwrap();
        let checked = world.by_key().verify(true).await.unwrap();
        assert!(checked.report.opened && !checked.proven);
        another(checked.refusal(), world.other_id);
        another(world.by_key().salvage().await.err(), world.other_id);
        assert_eq!(
            (std::fs::read(world.path()).unwrap(), std::fs::read(pin).unwrap()),
            (before, pinned.clone())
        );

        // By passphrase it is taken, as an opening takes it; what is pinned stays for the next opening by it.
        let Checked { pin: told, proven: true, .. } = world.by_passphrase().verify(true).await.unwrap()
        else {
            panic!()
        };
        assert!(!told.unwrap().is_trusted(), "it is said all the same");
        let salvage = world.by_passphrase().salvage().await.unwrap();
        salvage.repair(&salvage.plan(false), std::time::Duration::ZERO).await.unwrap();
        assert_eq!(std::fs::read(pin).unwrap(), pinned);
        refused(world.by_key().open_vault().await, "key id");
    }
}

#[tokio::test]
async fn without_keys_a_header_that_is_whole_is_judged_and_one_that_is_damaged_says_nothing() {
    let world = World::new().await;
    let ours = world.by_key().open_vault().await.unwrap().key_id();
    let checked = world.by_key().verify(false).await.unwrap();
    assert!(checked.refusal().is_none() && checked.pin.unwrap().is_settled());
    replace(&world, DAMAGES[1]);
    let checked = world.by_key().verify(false).await.unwrap();
    another(checked.refusal(), world.other_id);
    assert_eq!(checked.pin.unwrap().pinned, [ours]);
    replace(&world, DAMAGES[2]);
    let checked = world.by_key().verify(false).await.unwrap();
    assert!(checked.refusal().is_none() && checked.pin.is_none());
}

#[tokio::test]
async fn an_id_that_is_given_is_heeded_by_a_check_and_by_a_repair() {
    for (at, damage) in DAMAGES.into_iter().enumerate() {
        let world = World::new().await;
        let ours = world.by_key().open_vault().await.unwrap().key_id();
        let given =
            |source: Source, id: KeyId| world.opening(source, &[("TOKENKEEP_VAULT_ID", &id.to_string())]);
        let sources = || [Source::Identity(IDENTITY.into()), Source::Passphrase(value("right"))];
        // Ours is taken, whatever is left of its header.
        let mut bytes = std::fs::read(world.path()).unwrap();
        damage(&mut bytes);
        std::fs::write(world.path(), bytes).unwrap();
        for source in sources() {
            let checked = given(source.clone(), ours).verify(true).await.unwrap();
            assert!(checked.pin.unwrap().is_trusted());
            given(source, ours).salvage().await.unwrap();
        }
        replace(&world, damage);
        for source in sources() {
            let opening = given(source.clone(), ours);
            another(opening.verify(true).await.err(), world.other_id);
            another(opening.salvage().await.err(), world.other_id);
            if at < 2 {
                another(opening.verify(false).await.err(), world.other_id);
            } else {
                assert!(opening.verify(false).await.unwrap().pin.is_none());
            }
            // A person who knows why it is another one says so.
            given(source.clone(), world.other_id).verify(true).await.unwrap();
            given(source, world.other_id).salvage().await.unwrap();
        }
    }
    // No key is tried on a file that the header says to be another.
    let world = World::new().await;
    let ours = world.by_key().open_vault().await.unwrap().key_id().to_string();
    world.replace();
    let wrong = world.opening(Source::Passphrase(value("wrong")), &[("TOKENKEEP_VAULT_ID", &ours)]);
    another(wrong.verify(true).await.err(), world.other_id);
    another(wrong.salvage().await.err(), world.other_id);
}
