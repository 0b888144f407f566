//! A vault that is damaged, seen through the command: what is said of it, what a repair keeps, and what brings the rest
//! back.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;

use mock_auth0::MockAuth0;
use serde_json::Value;
use tokenkeep_tests::{
    Home, Mounts, Ran, deputy_of, is_running, random_fraction, signal, until, write_private,
};

/// Signed in three times: `default`, `one` and `two`.
fn three(mock: &MockAuth0) -> Home {
    let home = Home::signed_in(mock);
    for session in ["one", "two"] {
        home.sign_in_as(mock, session).ends(0);
    }
    home
}

/// Where the newest state of a session stands, and how long it is.
fn place_of(home: &Home, session: &str) -> std::ops::Range<usize> {
    let verified = home.run(&["vault", "verify", "--json"]).json();
    let entries = verified["entries"].as_array().unwrap().clone();
    let entry = entries.into_iter().find(|entry| entry["session"] == session).unwrap();
    let number = |name: &str| usize::try_from(entry[name].as_u64().unwrap()).unwrap();
    number("offset")..number("offset") + number("bytes")
}

fn change(home: &Home, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = std::fs::read(&home.vault).unwrap();
    change(&mut bytes);
    write_private(&home.vault, &bytes);
    bytes
}

fn sessions(list: &Value) -> Vec<(String, String)> {
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("?").to_owned();
    let entries = list.as_array().unwrap().iter();
    let mut found: Vec<_> = entries.map(|entry| (text(entry, "session"), text(entry, "state"))).collect();
    found.sort();
    found
}

/// The files beside the vault, but for its lock file.
fn beside(home: &Home) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(home.vault.parent().unwrap()).unwrap();
    let paths = folder.map(|entry| entry.unwrap().path());
    paths.filter(|path| *path != home.vault && path.extension() != Some("lock".as_ref())).collect()
}

#[test]
fn one_damaged_session_is_named_costs_the_others_nothing_and_a_repair_and_a_sign_in_mend_it() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let one = place_of(&home, "one");
    let damaged = change(&home, |bytes| bytes[one.end - 1] ^= 1);
    let verified = home.run(&["vault", "verify", "--json"]).ends(6);
    assert_eq!(verified.error().code, "damaged");
    let verified = verified.json();
    let state = |session: &str, state: &str| (session.to_owned(), state.to_owned());
    let expected = [state("default", "live"), state("one", "damaged"), state("two", "live")];
    assert_eq!(sessions(&verified["entries"]), expected);
    assert_eq!((&verified["opened"], &verified["sound"]), (&true.into(), &false.into()));
    let text = home.run(&["vault", "verify"]).ends(6);
    assert!(text.stdout.contains("session one\tdamaged\t"), "{text:#?}");

    // Said before anything is done, and nothing is done unasked.
    let dry = home.run(&["vault", "repair", "--dry-run", "--json"]).ends(0).json();
    assert_eq!(
        (&dry["repaired"], &dry["kept"], &dry["lost"][0]["session"]),
        (&false.into(), &2.into(), &"one".into())
    );
    home.run(&["vault", "repair", "--no-input"]).ends(2);
    home.run(&["vault", "repair"]).ends(2);
    assert_eq!(std::fs::read(&home.vault).unwrap(), damaged);

    let repaired = home.run(&["vault", "repair", "--yes"]).ends(0);
    for said in ["lost: session one", "tokenkeep login --session one", "kept: 2 entries"] {
        assert!(repaired.stdout.contains(said), "{repaired:#?}");
    }
    let [kept] = &beside(&home)[..] else { panic!("{:?}", beside(&home)) };
    assert_eq!(std::fs::read(kept).unwrap(), damaged);
    assert!(repaired.stdout.contains(kept.to_str().unwrap()), "{repaired:#?}");
    home.run(&["vault", "verify"]).ends(0);
    for session in ["default", "two"] {
        home.run(&["renew", "--session", session]).ends(0);
    }
    home.run(&["token", "--session", "one"]).ends(3);
    home.sign_in_as(&mock, "one").ends(0);
    home.run(&["renew", "--session", "one"]).ends(0);
    // What is whole is left alone.
    let before = std::fs::read(&home.vault).unwrap();
    let again = home.run(&["vault", "repair", "--yes", "--json"]).ends(0).json();
    assert_eq!((&again["damaged"], &again["repaired"]), (&false.into(), &false.into()));
    assert_eq!(std::fs::read(&home.vault).unwrap(), before);
}

#[test]
fn a_damaged_header_shuts_everyone_out_until_a_repair_and_loses_nothing() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    for damage in [3..4, 20..21, 36..37, 45..46, 0..47] {
        let damaged = change(&home, |bytes| bytes[damage.clone()].iter_mut().for_each(|byte| *byte ^= 0x41));
        home.run(&["token"]).ends(6);
        let ran = home.run(&["vault", "status", "--json"]).ends(0).json();
        assert_eq!((&ran["opens"], &ran["locked"]["code"]), (&false.into(), &"damaged".into()));
        let verified = home.run(&["vault", "verify", "--json"]).ends(6).json();
        assert!(verified["header"].is_string() && verified["entries"].as_array().unwrap().len() == 3);
        let repaired = home.run(&["vault", "repair", "--yes", "--json"]).ends(0).json();
        assert_eq!((&repaired["kept"], &repaired["lost"]), (&3.into(), &Value::Array(vec![])));
        let kept = repaired["damaged_file"].as_str().unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), damaged);
        for session in ["default", "one", "two"] {
            home.run(&["renew", "--session", session]).ends(0);
        }
        home.run(&["vault", "verify"]).ends(0);
    }
}

#[test]
fn a_doubtful_session_is_lost_or_kept_as_asked() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let one = place_of(&home, "one");
    let damaged = change(&home, |bytes| bytes[one.start..one.end - 5].fill(0));
    let unreadable = ("default".to_owned(), "unreadable".to_owned());
    let verified = home.run(&["vault", "verify", "--json"]).ends(6).json();
    assert_eq!(sessions(&verified["entries"])[0], unreadable, "{verified}");
    home.run(&["token"]).ends(6);
    home.run(&["vault", "repair", "--yes"]).ends(0);
    home.run(&["token"]).ends(3);
    home.run(&["renew", "--session", "two"]).ends(0);
    write_private(&home.vault, &damaged);
    let kept = home.run(&["vault", "repair", "--yes", "--keep-doubtful", "--json"]).ends(0).json();
    assert_eq!((&kept["doubtful"][0]["session"], &kept["doubtful_kept"]), (&"default".into(), &true.into()));
    home.run(&["renew"]).ends(0);
}

#[test]
fn without_keys_checksums_are_looked_at_and_it_is_said_so() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let one = place_of(&home, "one");
    let bare = |arguments: &[&str]| Ran::from(home.bare_command(arguments).output().unwrap());
    let locked = bare(&["vault", "verify", "--json", "--no-input"]).ends(4).json();
    assert_eq!((&locked["opened"], &locked["sound"]), (&false.into(), &true.into()));
    bare(&["vault", "verify", "--without-keys"]).ends(0);
    change(&home, |bytes| bytes[one.end - 1] ^= 1);
    let hurt = bare(&["vault", "verify", "--without-keys", "--json"]).ends(6).json();
    let damaged =
        hurt["entries"].as_array().unwrap().iter().find(|entry| entry["state"] == "damaged").unwrap();
    assert_eq!((&damaged["session"], &damaged["offset"]), (&Value::Null, &one.start.into()));
    bare(&["vault", "verify"]).ends(6);
}

#[test]
fn a_repair_waits_for_a_renewal_and_gives_up_in_time() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let one = place_of(&home, "one");
    let damaged = change(&home, |bytes| bytes[one.end - 1] ^= 1);
    home.let_expire("two");
    mock.reset_counters();
    let damaged_and_expired = std::fs::read(&home.vault).unwrap();
    assert_ne!(damaged, damaged_and_expired);
    mock.add_fault(mock_auth0::FaultRule::refresh(mock_auth0::Fault::delay(std::time::Duration::from_secs(
        3,
    ))));
    let renewing = home.spawn(&["token", "--session", "two"]);
    until("the renewal to be under way", || mock.counters().refreshes() == 1);
    let busy = home.run(&["vault", "repair", "--yes", "--json", "--timeout", "500ms"]);
    assert!(busy.code == 7, "{busy:#?}");
    home.run(&["vault", "repair", "--yes"]).ends(0);
    Ran::from(renewing.wait_with_output().unwrap()).ends(0);
    home.run(&["token", "--session", "two"]).ends(0);
    home.run(&["vault", "verify"]).ends(0);
    assert_eq!(mock.counters().refreshes(), 1);
}

#[test]
fn no_kill_at_any_instant_of_a_repair_leaves_anything_but_the_damaged_vault_or_the_repaired_one() {
    const ROUNDS: usize = 60;
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let one = place_of(&home, "one");
    let damaged = change(&home, |bytes| bytes[one.end - 1] ^= 1);
    let repair = || -> Command { home.command(&["vault", "repair", "--yes"]) };
    let clock = tokenkeep_clock::SystemClock::shared();
    let started = clock.boot();
    Ran::from(repair().output().unwrap()).ends(0);
    let span = clock.boot() - started;
    let mut outcomes = [0; 2];
    for round in 0..ROUNDS {
        for left in beside(&home) {
            std::fs::remove_file(left).unwrap();
        }
        write_private(&home.vault, &damaged);
        let mut child = repair().spawn().unwrap();
        // Not a wait for anything: the instant of the kill, drawn uniformly.
        std::thread::sleep(span.mul_f64(random_fraction()));
        child.kill().unwrap();
        child.wait().unwrap();
        let is_damaged = std::fs::read(&home.vault).unwrap() == damaged;
        outcomes[usize::from(is_damaged)] += 1;
        let whole_copies =
            beside(&home).iter().filter(|path| std::fs::read(path).unwrap() == damaged).count();
        if !is_damaged {
            assert_eq!(whole_copies, 1, "round {round}: the damaged file is not beside it");
            home.run(&["vault", "verify"]).ends(0);
        }
        // Whatever was left behind, a damaged file that was kept is whole, and the next repair goes through.
        let kept = beside(&home).into_iter().filter(|path| path.to_str().unwrap().contains(".damaged-"));
        assert!(kept.into_iter().all(|path| std::fs::read(path).unwrap() == damaged), "round {round}");
        Ran::from(repair().output().unwrap()).ends(0);
        home.run(&["vault", "verify"]).ends(0);
        home.run(&["token", "--session", "two"]).ends(0);
    }
    assert!(outcomes.iter().all(|&count| count > 0), "not every outcome was seen: {outcomes:?}");
}

#[test]
fn status_says_where_the_vault_really_is_who_is_at_it_and_whether_there_is_room() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    home.let_expire("two");
    let link = home.folder.path().join("link.vault");
    std::os::unix::fs::symlink(&home.vault, &link).unwrap();
    let status = |bare: bool| {
        let arguments = ["vault", "status", "--json"];
        let mut command = if bare { home.bare_command(&arguments) } else { home.command(&arguments) };
        Ran::from(command.env("TOKENKEEP_VAULT", &link).output().unwrap()).ends(0).json()
    };
    let quiet = status(false);
    assert_eq!((&quiet["vault"], &quiet["link"]), (&home.vault.to_str().into(), &link.to_str().into()));
    assert_eq!(quiet["from"], "TOKENKEEP_VAULT");
    assert_eq!((&quiet["room"], &quiet["room_promised"]), (&"promised".into(), &true.into()));
    assert_eq!((&quiet["read_only"], &quiet["locks"]), (&false.into(), &Value::Array(vec![])));

    mock.reset_counters();
    mock.add_fault(mock_auth0::FaultRule::refresh(mock_auth0::Fault::delay(std::time::Duration::from_secs(
        600,
    ))));
    let mut renewing = home.spawn(&["token", "--session", "two"]);
    until("the renewal to be under way", || mock.counters().refreshes() == 1);
    let busy = status(false);
    let lock = &busy["locks"][0];
    let deputy = deputy_of(&renewing);
    assert_eq!((&lock["what"], &lock["session"]), (&"lease".into(), &"two".into()), "{busy}");
    assert_eq!((&lock["pids"], &lock["by"]["pid"]), (&vec![deputy].into(), &deputy.into()), "{busy}");
    let text = home.run(&["vault", "status"]).ends(0).stdout;
    assert!(text.contains(&format!("session two is being renewed, by process {deputy}")), "{text}");
    let locked = status(true);
    let lock = &locked["locks"][0];
    assert_eq!((&lock["what"], &lock["session"]), (&"lease".into(), &Value::Null), "{locked}");
    assert_eq!((&lock["pids"][0], &lock["by"]), (&deputy.into(), &Value::Null), "{locked}");
    renewing.kill().unwrap();
    renewing.wait().unwrap();
    signal(deputy, "KILL");
    until("the renewing process to end", || !is_running(deputy));
    assert_eq!(status(false)["locks"], Value::Array(vec![]));
}

#[test]
fn status_of_a_full_or_read_only_file_system_says_that_nothing_will_be_renewed() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = three(&mock);
    let Some(mounts) = Mounts::new() else { return };
    let place = home.folder.path().join("small");
    std::fs::create_dir(&place).unwrap();
    let small = place.to_str().unwrap().to_owned();
    mounts.mount(&["-t", "tmpfs", "-o", "size=2m,mode=700", "none", &small]);
    let inside = mounts.path(&place);
    std::fs::copy(&home.vault, inside.join("sessions.vault")).unwrap();
    let status = || {
        let mut command = home.command(&["vault", "status", "--json"]);
        command.env("TOKENKEEP_VAULT", place.join("sessions.vault"));
        Ran::from(mounts.command(&command).output().unwrap()).ends(0).json()
    };
    std::fs::write(inside.join("filling"), vec![1; 1536 * 1024]).unwrap();
    let full = status();
    assert_eq!((&full["room"], &full["opens"]), (&"full".into(), &true.into()), "{full}");
    std::fs::remove_file(inside.join("filling")).unwrap();
    assert_eq!(status()["room"], "promised");
    mounts.mount(&["-o", "remount,ro", &small]);
    let read_only = status();
    assert_eq!(
        (&read_only["room"], &read_only["read_only"]),
        (&"read_only".into(), &true.into()),
        "{read_only}"
    );
}
