//! What can be wrong with a vault, seen through the command: the exit code, the word for scripts, the fix, and that
//! nothing is lost: mended, the session works.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mock_auth0::{Endpoint, Fault, FaultRule, MockAuth0};
use tokenkeep_tests::{
    Home, Mounts, NOBODY, Outsider, Ran, is_deputy, is_root, set_mode, signal, told_as_untested, traced_by,
    until, write_private,
};

/// The commands that meet the vault first of all. None of them has reached the issuer when the vault refuses.
const COMMANDS: [&[&str]; 6] =
    [&["token"], &["token", "--offline"], &["renew"], &["status"], &["logout"], &["list"]];

/// Every command ends with `code` and `word`, and says `said`; as text too, and nothing on standard output. A sign-in
/// does no better, and no request reaches the issuer.
#[track_caller]
fn all_refuse(home: &Home, mock: &MockAuth0, code: i32, word: &str, said: &[&str]) {
    mock.reset_counters();
    for command in COMMANDS {
        refuses(
            &mut home.command(command),
            &mut home.command(&[command, &["--json"]].concat()),
            code,
            word,
            said,
        );
    }
    let unused = mock.seed_session().unwrap();
    let told = home.adopt(mock, unused.refresh_token(), &["--json"]).ends(code).error();
    assert_eq!(told.code, word, "{told:?}");
    assert!(mock.is_alive(unused.refresh_token()), "a token that cannot be kept is not spent");
    assert_eq!(mock.counters().at(Endpoint::Token), 0, "nothing is sent");
}

#[track_caller]
fn refuses(text: &mut Command, json: &mut Command, code: i32, word: &str, said: &[&str]) {
    let ran = Ran::from(text.output().unwrap()).ends(code);
    let told = Ran::from(json.output().unwrap()).ends(code).error();
    assert_eq!(told.code, word, "{told:?}");
    assert_eq!(ran.stdout, "", "{ran:#?}");
    assert!(ran.stderr.contains(&told.message) && ran.stderr.contains(&told.help), "{ran:#?} {told:#?}");
    for said in said {
        assert!(ran.stderr.contains(said), "`{said}` is not said: {ran:#?}");
    }
}

/// The session that was there is there, and its family is alive.
#[track_caller]
fn works(home: &Home) {
    home.run(&["token"]).ends(0);
    home.is_alive().ends(0);
    home.run(&["vault", "verify"]).ends(0);
}

fn by_passphrase(home: &Home, arguments: &[&str], passphrase: &str) -> Command {
    let mut command = home.bare_command(arguments);
    command.env("TOKENKEEP_PASSPHRASE", passphrase);
    command
}

#[test]
fn a_wrong_passphrase_names_its_source_and_leaves_the_vault_alone() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    let right = "the right one";
    let old = mock.seed_session().unwrap();
    let client = mock.client_id();
    let login = ["login", "--issuer", mock.issuer(), "--client-id", &client, "--refresh-token-stdin"];
    Ran::with_input(&mut by_passphrase(&home, &login, right), old.refresh_token().as_bytes()).ends(0);
    let before = std::fs::read(&home.vault).unwrap();

    let file = home.folder.path().join("passphrase");
    write_private(&file, b"the wrong one\n");
    let file = file.to_str().unwrap();
    let sources: [(&str, &str, &[&str]); 4] = [
        ("TOKENKEEP_PASSPHRASE", "the wrong one", &[]),
        ("TOKENKEEP_PASSPHRASE_FILE", file, &[]),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "echo the wrong one", &[]),
        ("--passphrase-file", "", &["--passphrase-file", file]),
    ];
    for (source, value, flags) in sources {
        for command in [&["token"][..], &["status"]] {
            let made = |more: &[&str]| {
                let mut command = home.bare_command(&[command, flags, more].concat());
                if source.starts_with("TOKENKEEP") {
                    command.env(source, value);
                }
                command
            };
            refuses(
                &mut made(&[]),
                &mut made(&["--json"]),
                4,
                "wrong_passphrase",
                &["wrong passphrase", source],
            );
        }
    }
    let unused = mock.seed_session().unwrap();
    let mut again = by_passphrase(&home, &login, "the wrong one");
    Ran::with_input(&mut again, unused.refresh_token().as_bytes()).ends(4);
    assert!(mock.is_alive(unused.refresh_token()));
    assert_eq!(std::fs::read(&home.vault).unwrap(), before, "not a byte has changed");
    Ran::from(by_passphrase(&home, &["renew"], right).output().unwrap()).ends(0);
}

#[test]
fn an_empty_passphrase_or_key_is_no_passphrase_for_an_old_vault_and_for_a_new_one() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let empty = home.folder.path().join("empty");
    write_private(&empty, b"\n");
    let open = home.folder.path().join("open");
    write_private(&open, std::fs::read(&home.identity).unwrap().as_slice());
    set_mode(&open, 0o644);
    let sources = [
        ("TOKENKEEP_PASSPHRASE", "", "empty"),
        ("TOKENKEEP_PASSPHRASE_FILE", empty.to_str().unwrap(), "empty"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "true", "empty"),
        ("TOKENKEEP_PASSPHRASE_COMMAND", "exit 7", "7"),
        ("TOKENKEEP_PASSPHRASE_FILE", "/nonexistent/p", "no such file"),
        ("TOKENKEEP_IDENTITY", empty.to_str().unwrap(), ""),
        // Looser permissions, with the fix.
        ("TOKENKEEP_IDENTITY", open.to_str().unwrap(), "chmod 600"),
    ];
    for (source, value, said) in sources {
        for arguments in [&["token"][..], &["vault", "init", "--vault", "new.vault"]] {
            let made = |more: &[&str]| {
                let mut command = home.bare_command(&[arguments, more].concat());
                command.env(source, value).current_dir(home.folder.path());
                command
            };
            refuses(&mut made(&[]), &mut made(&["--json"]), 4, "unlock_source", &[source, said]);
        }
    }
    assert!(!home.folder.path().join("new.vault").exists());
    works(&home);
}

#[test]
fn a_missing_vault_is_made_by_login_alone_and_one_that_comes_back_is_the_old_one() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let away = home.folder.path().join("away");
    std::fs::rename(home.vault.parent().unwrap(), &away).unwrap();
    let path = home.vault.to_str().unwrap().to_owned();
    for command in COMMANDS {
        let json = [command, &["--json"]].concat();
        refuses(
            &mut home.command(command),
            &mut home.command(&json),
            3,
            "no_vault",
            &[&path, "tokenkeep login", "tokenkeep vault init"],
        );
    }
    assert!(!home.vault.parent().unwrap().exists(), "looking makes nothing");
    assert_eq!(home.sign_in_as(&mock, "default").ends(0).stdout, "");
    home.run(&["token"]).ends(0);
    std::fs::remove_dir_all(home.vault.parent().unwrap()).unwrap();
    std::fs::rename(&away, home.vault.parent().unwrap()).unwrap();
    // It is not the one that was made last: for a key, that has to be said to be right.
    all_refuse(&home, &mock, 4, "untrusted_keys", &["tokenkeep vault trust"]);
    let id = home.run(&["vault", "trust", "--json"]).ends(2).error().help;
    let id = id.split([' ', ',']).find(|word| word.len() == 32).unwrap();
    home.run(&["vault", "trust", "--key-id", id]).ends(0);
    works(&home);
}

#[test]
fn what_stands_in_the_vaults_place_is_refused_by_what_it_is_and_left_alone() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let folder = home.vault.parent().unwrap().to_owned();
    let kept = folder.with_file_name("kept.vault");
    std::fs::rename(&home.vault, &kept).unwrap();
    let whole = std::fs::read(&kept).unwrap();

    let newer = [&b"tokenkeep-vault-v2\n"[..], &[7; 100]].concat();
    let contents: [(&[u8], &str, &str); 5] = [
        (b"", "damaged", "tokenkeep vault verify"),
        (b"Dear diary, no vault today. Nothing at all that could be one, in fact.", "damaged", "verify"),
        (&[0; 4096], "damaged", "tokenkeep vault verify"),
        (&whole[..30], "damaged", "tokenkeep vault verify"),
        (&newer, "newer_version", "newer tokenkeep"),
    ];
    for (content, word, said) in contents {
        write_private(&home.vault, content);
        all_refuse(&home, &mock, 6, word, &[said]);
        assert_eq!(home.run(&["vault", "init", "--json"]).ends(1).error().code, "vault_exists");
        assert_eq!(std::fs::read(&home.vault).unwrap(), content, "left as it is");
        std::fs::remove_file(&home.vault).unwrap();
    }

    std::fs::create_dir(&home.vault).unwrap();
    all_refuse(&home, &mock, 6, "place", &["is a folder", "name the vault file"]);
    std::fs::remove_dir(&home.vault).unwrap();

    let fifo = Command::new("mkfifo").arg(&home.vault).status().unwrap();
    assert!(fifo.success());
    all_refuse(&home, &mock, 6, "place", &["not a regular file"]);
    std::fs::remove_file(&home.vault).unwrap();

    let (first, second) = (folder.join("first"), folder.join("second"));
    symlink(&kept, &second).unwrap();
    symlink(&second, &home.vault).unwrap();
    all_refuse(&home, &mock, 6, "place", &["symlink behind a symlink"]);
    std::fs::remove_file(&home.vault).unwrap();
    std::fs::remove_file(&second).unwrap();

    std::fs::hard_link(&kept, &first).unwrap();
    std::fs::hard_link(&kept, &home.vault).unwrap();
    all_refuse(&home, &mock, 6, "place", &["hard link"]);
    std::fs::remove_file(&first).unwrap();
    std::fs::remove_file(&home.vault).unwrap();

    std::fs::rename(&kept, &home.vault).unwrap();
    assert_eq!(std::fs::read(&home.vault).unwrap(), whole);
    works(&home);
}

#[test]
fn looser_permissions_are_refused_with_the_fix() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let fix = format!("chmod 600 {}", home.vault.display());
    for mode in [0o604, 0o602, 0o644, 0o666] {
        set_mode(&home.vault, mode);
        all_refuse(&home, &mock, 6, "place", &[&fix, &format!("{mode:04o}")]);
    }
    set_mode(&home.vault, 0o600);
    let folder = home.vault.parent().unwrap();
    set_mode(folder, 0o777);
    all_refuse(&home, &mock, 6, "place", &[&format!("chmod o-w {}", folder.display())]);
    set_mode(folder, 0o700);
    // The group's are a mount's doing in a cluster: a warning.
    set_mode(&home.vault, 0o640);
    let ran = home.run(&["token"]).ends(0);
    assert!(ran.stderr.contains("by its group"), "{ran:#?}");
    set_mode(&home.vault, 0o600);
    works(&home);
}

#[test]
fn a_vault_cut_off_anywhere_is_damaged_or_torn_and_never_another_session() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let whole = std::fs::read(&home.vault).unwrap();
    let subject = home.run(&["status", "--json"]).ends(0).json()["subject"].clone();
    // Those of the file's own head, and a sample of all others.
    let lengths = [0, 1, 18, 19, 35, 46, 47, 48].into_iter().chain((1..24).map(|n| whole.len() * n / 24));
    for length in lengths.chain((1..=48).step_by(9).map(|back| whole.len() - back)) {
        write_private(&home.vault, &whole[..length]);
        let ran = home.run(&["status", "--json"]);
        match ran.code {
            6 => assert_eq!(ran.error().code, "damaged", "{length}"),
            // What is left whole: an earlier state of the same sign-in, or none.
            0 => assert!([&subject, &serde_json::Value::Null].contains(&&ran.json()["subject"]), "{length}"),
            3 => assert_eq!(ran.error().code, "never_signed_in", "{length}"),
            _ => panic!("cut at {length}: {ran:#?}"),
        }
        assert!(length > 47 || ran.code == 6, "cut in the head at {length}: {ran:#?}");
        let verified = home.run(&["vault", "verify", "--json"]);
        assert!([0, 6].contains(&verified.code), "cut at {length}: {verified:#?}");
        assert_eq!(std::fs::read(&home.vault).unwrap(), &whole[..length], "reading changes nothing");
    }
    write_private(&home.vault, &whole);
    works(&home);
}

/// Where the body of the last value that was put stands.
fn last_put(bytes: &[u8]) -> std::ops::Range<usize> {
    const PUT: u8 = 2;
    const HEAD: usize = 40;
    let head =
        (0..bytes.len() - HEAD).rev().find(|&at| bytes[at..at + 4] == [b't', b'k', b'f', PUT]).unwrap();
    let length = u32::from_le_bytes(bytes[head + 4..head + 8].try_into().unwrap()) as usize;
    head + HEAD..head + HEAD + length
}

fn flip(vault: &Path, at: usize) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(vault).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
}

#[test]
fn a_flipped_bit_ends_one_session_for_as_long_as_it_is_there_and_no_other() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::new();
    home.sign_in_as(&mock, "other").ends(0);
    home.sign_in(&mock);
    let body = last_put(&std::fs::read(&home.vault).unwrap());
    for at in [body.start, body.start + body.len() / 2, body.end - 1] {
        flip(&home.vault, at);
        for command in [&["token"][..], &["token", "--offline"], &["renew"], &["status"]] {
            let json = [command, &["--json"]].concat();
            refuses(
                &mut home.command(command),
                &mut home.command(&json),
                6,
                "damaged",
                &["Other entries are not affected", "tokenkeep vault verify"],
            );
        }
        assert_eq!(mock.counters().refreshes(), 0, "no earlier token is served or sent");
        let verified = home.run(&["vault", "verify", "--json"]).ends(6).json();
        assert_eq!(verified["damaged"].as_array().unwrap().len(), 1, "{verified}");
        home.run(&["token", "--session", "other"]).ends(0);
        flip(&home.vault, at);
        home.run(&["vault", "verify"]).ends(0);
    }
    // A renewal of the other one writes after the damage, and mends and hides nothing.
    flip(&home.vault, body.start);
    home.run(&["renew", "--session", "other"]).ends(0);
    home.run(&["token"]).ends(6);
    flip(&home.vault, body.start);
    works(&home);
    // Where no copy brings the bit back, a new sign-in mends it.
    for by_password in [false, true] {
        let body = last_put(&std::fs::read(&home.vault).unwrap());
        flip(&home.vault, body.start);
        home.run(&["token"]).ends(6);
        let ran =
            if by_password { home.login_by_password(&mock, &[]) } else { home.sign_in_as(&mock, "default") };
        ran.ends(0);
        home.run(&["token"]).ends(0);
        home.is_alive().ends(0);
    }
    home.run(&["renew", "--session", "other"]).ends(0);
}

#[test]
fn a_symlink_is_followed_and_stays() {
    let mock = MockAuth0::start_blocking().unwrap();
    let mut home = Home::signed_in(&mock);
    let real = home.vault.clone();
    let link = home.folder.path().join("link.vault");
    symlink(&real, &link).unwrap();
    home.vault.clone_from(&link);
    let before = std::fs::read(&real).unwrap();
    works(&home);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_ne!(std::fs::read(&real).unwrap(), before, "the real file was written");
    assert!(!home.folder.path().join("link.vault.lock").exists(), "the lock stands beside the real file");
}

#[test]
fn a_mounted_single_file_is_refused_and_a_mounted_folder_is_not() {
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let Some(mounts) = Mounts::new() else { return };
    let place = |name: &str| home.folder.path().join(name).to_str().unwrap().to_owned();
    let (file, folder) = (place("mounted.vault"), place("mounted"));
    write_private(file.as_ref(), b"");
    std::fs::create_dir(&folder).unwrap();
    mounts.mount(&["--bind", home.vault.to_str().unwrap(), &file]);
    mounts.mount(&["--bind", home.vault.parent().unwrap().to_str().unwrap(), &folder]);
    let at = |arguments: &[&str], vault: &str| {
        let mut command = home.command(arguments);
        command.env("TOKENKEEP_VAULT", vault);
        mounts.command(&command)
    };
    for command in ["token", "renew", "status", "logout"] {
        let (text, json) = ([command], [command, "--json"]);
        refuses(&mut at(&text, &file), &mut at(&json, &file), 6, "place", &["mount the folder"]);
    }
    assert_eq!(mock.counters().refreshes(), 0);
    let vault = format!("{folder}/sessions.vault");
    Ran::from(at(&["renew"], &vault).output().unwrap()).ends(0);
    works(&home);
}

#[test]
fn a_vault_of_another_owner_is_refused_to_root_too() {
    if !is_root() {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let chown = |uid| std::os::unix::fs::chown(&home.vault, Some(uid), None).unwrap();
    chown(NOBODY);
    all_refuse(&home, &mock, 6, "another_owner", &[&format!("sudo -u '#{NOBODY}'")]);
    chown(0);
    works(&home);
}

#[test]
fn a_place_that_cannot_be_written_is_found_before_the_request_and_can_be_read() {
    if !is_root() {
        return;
    }
    let mock = MockAuth0::start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    home.give_to(NOBODY);
    let outsider = Outsider::new();
    let run = |arguments: &[&str]| Ran::from(outsider.command(&home.command(arguments)).output().unwrap());
    run(&["renew"]).ends(0);
    let folder = home.vault.parent().unwrap();
    let lock = folder.join("sessions.vault.lock");
    let modes = |file, folder_mode| {
        set_mode(&home.vault, file);
        set_mode(&lock, file);
        set_mode(folder, folder_mode);
    };
    modes(0o400, 0o500);
    mock.reset_counters();
    run(&["token"]).ends(0);
    run(&["status"]).ends(0);
    for command in [&["renew"][..], &["logout"]] {
        let json = [command, &["--json"]].concat();
        refuses(
            &mut outsider.command(&home.command(command)),
            &mut outsider.command(&home.command(&json)),
            6,
            "not_writable",
            &["cannot be written", "ls -ld"],
        );
    }
    let login = home.password_login(&mock, &["--json"]);
    home.give_to(NOBODY);
    let told = Ran::from(outsider.command(&login).output().unwrap()).ends(6).error();
    assert_eq!(told.code, "not_writable", "{told:?}");
    assert_eq!(mock.counters().at(Endpoint::Token), 0, "found before anything is sent");
    modes(0o600, 0o700);
    run(&["token"]).ends(0);
    run(&["renew"]).ends(0);

    // The same by a file system that is read-only.
    let Some(mounts) = Mounts::new() else { return };
    home.give_to(0);
    let folder = folder.to_str().unwrap();
    mounts.mount(&["--bind", folder, folder]);
    mounts.mount(&["-o", "remount,bind,ro", folder]);
    let inside = |arguments: &[&str]| mounts.command(&home.command(arguments));
    Ran::from(inside(&["token"]).output().unwrap()).ends(0);
    mock.reset_counters();
    refuses(&mut inside(&["renew"]), &mut inside(&["renew", "--json"]), 6, "not_writable", &["read-only"]);
    assert_eq!(mock.counters().refreshes(), 0);
    works(&home);
}

/// A home whose vault's folder is a disk of its own with `mib` MiB.
fn small_disk(mounts: &Mounts, mib: u32) -> Home {
    let home = Home::new();
    let folder = home.vault.parent().unwrap();
    std::fs::create_dir(folder).unwrap();
    mounts.mount(&["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "none", folder.to_str().unwrap()]);
    home
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut filler = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while filler.write_all(&vec![0xee; size]).is_ok() {}
    }
}

/// Takes over a new session under `name`, in the namespace. Gives the refresh token that it was told to take.
fn adopt_inside(mounts: &Mounts, home: &Home, mock: &MockAuth0, name: &str) -> (Ran, String) {
    let tokens = mock.seed_session().unwrap();
    let client = mock.client_id();
    let flags = ["--refresh-token-stdin", "--session", name, "--json"];
    let login = [&["login", "--issuer", mock.issuer(), "--client-id", &client][..], &flags].concat();
    let mut command = mounts.command(&home.command(&login));
    (Ran::with_input(&mut command, tokens.refresh_token().as_bytes()), tokens.refresh_token().to_owned())
}

#[test]
fn a_full_disk_is_found_before_the_request_and_its_room_is_used_by_who_holds_the_lease() {
    let Some(mounts) = Mounts::new() else { return };
    let mock = MockAuth0::start_blocking().unwrap();
    let home = small_disk(&mounts, 6);
    let run = |arguments: &[&str]| Ran::from(mounts.command(&home.command(arguments)).output().unwrap());
    adopt_inside(&mounts, &home, &mock, "default").0.ends(0);
    mock.reset_counters();

    // Filled by others between the lease and the write: the holder has its room, nobody else has.
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter));
    let mut renewing = mounts.command(&home.command(&["renew"])).spawn().unwrap();
    until("the grant to take effect", || mock.held() == 1);
    let filler = mounts.path(&home.vault.with_file_name("filler"));
    fill(&filler);
    // Others write as long as that takes nothing of what was promised.
    let (ran, unspent) = (0..100)
        .map(|n| adopt_inside(&mounts, &home, &mock, &format!("other-{n}")))
        .find(|(ran, _)| ran.code != 0)
        .expect("the disk never fills up");
    assert_eq!(ran.ends(6).error().code, "full");
    assert!(mock.is_alive(&unspent), "a token that cannot be kept is not spent");
    mock.reset_counters();
    mock.release();
    assert!(renewing.wait().unwrap().success(), "what was promised is there");
    assert_eq!(mock.counters().refreshes(), 0, "and nothing was sent twice");

    // Now the room is used up. What can be handed out is; nothing is sent whose answer could not be kept.
    run(&["token"]).ends(0);
    mock.reset_counters();
    for command in [&["renew"][..], &["logout"]] {
        let json = [command, &["--json"]].concat();
        refuses(
            &mut mounts.command(&home.command(command)),
            &mut mounts.command(&home.command(&json)),
            6,
            "full",
            &["no space left", "df -h"],
        );
    }
    assert_eq!((mock.counters().refreshes(), mock.counters().at(Endpoint::Revoke)), (0, 0));
    std::fs::remove_file(&filler).unwrap();
    run(&["renew"]).ends(0);
    run(&["vault", "verify"]).ends(0);
    adopt_inside(&mounts, &home, &mock, "second").0.ends(0);
    run(&["token"]).ends(0);
}

#[test]
fn a_disk_filled_by_another_sessions_renewal_leaves_both_alive() {
    let Some(mounts) = Mounts::new() else { return };
    let mock = MockAuth0::start_blocking().unwrap();
    let home = small_disk(&mounts, 6);
    for name in ["default", "second"] {
        adopt_inside(&mounts, &home, &mock, name).0.ends(0);
    }
    mock.add_fault(FaultRule::refresh(Fault::HoldAfter).times(2));
    let renew = |name: &str| {
        let command = home.command(&["renew", "--session", name]);
        mounts.command(&command).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = renew("default");
    until("the first grant to take effect", || mock.held() == 1);
    let mut second = renew("second");
    until("the second grant to take effect", || mock.held() == 2);
    let filler = mounts.path(&home.vault.with_file_name("filler"));
    fill(&filler);
    mock.release_some(1);
    assert!(first.wait().unwrap().success(), "the first has written, between the other's lease and its put");
    mock.release();
    assert!(second.wait().unwrap().success(), "and took nothing of what the second was promised");
    std::fs::remove_file(&filler).unwrap();
    for name in ["default", "second"] {
        let alive = mounts.command(&home.command(&["renew", "--session", name])).output().unwrap();
        Ran::from(alive).ends(0);
    }
}

#[test]
fn a_failed_sync_loses_nothing() {
    let mock = MockAuth0::builder().overlap(Duration::from_secs(60)).start_blocking().unwrap();
    let home = Home::signed_in(&mock);
    let faulty = |inject: &str, arguments: &[&str]| {
        let command = home.command(arguments);
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        for inject in inject.split(' ') {
            traced.args(["-e", inject]);
        }
        traced.arg("--");
        traced.arg(command.get_program()).args(command.get_args()).env_clear();
        traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        traced
    };
    let always = "inject=fsync,fdatasync:error=EIO";
    match faulty(always, &["--version"]).output() {
        Ok(output) if output.status.success() => {}
        _ => return told_as_untested("without strace only the store's own tests fail a sync"),
    }
    // One sync fails, what is written anew does not.
    for nth in 1..=3 {
        let inject = format!("inject=fdatasync:error=EIO:when={nth}");
        Ran::from(faulty(&inject, &["renew"]).output().unwrap()).ends(0);
        works(&home);
    }
    // One that fails from the beginning is found before anything is sent.
    mock.reset_counters();
    let ran = Ran::from(faulty(always, &["renew", "--json"]).output().unwrap()).ends(6);
    let last: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["error"]["code"].as_str(), mock.counters().refreshes()),
        (Some("unsynced"), 0),
        "{ran:#?}"
    );
    works(&home);
    // A disk that comes round: the new tokens are written again and again until they are durable. The syncs before: what
    // was found in the vault, its folder, and the note that a request is about to be sent.
    mock.reset_counters();
    let ran = Ran::from(
        faulty("inject=fdatasync:error=EIO:when=3..8 inject=fsync:error=EIO:when=2..7", &["renew"])
            .output()
            .unwrap(),
    )
    .ends(0);
    assert!(ran.stderr.contains("cannot be saved yet"), "{ran:#?}");
    assert_eq!(mock.counters().refreshes(), 1);
    works(&home);
    // One that does not: it is told as what it is, and what was stored stays, for the issuer's overlap.
    let before = home.stored_refresh_token().unwrap();
    let later = "inject=fdatasync:error=EIO:when=3+ inject=fsync:error=EIO:when=2+";
    let stderr = home.folder.path().join("stderr");
    let mut command = faulty(later, &["renew", "--json", "--timeout", "3s"]);
    let mut traced = command.stderr(std::fs::File::create(&stderr).unwrap()).spawn().unwrap();
    // What renews goes on trying, for as long as the disk fails: the command alone ends.
    let told = || std::fs::read_to_string(&stderr).unwrap();
    until("the error", || told().contains("not_saved"));
    let deputy =
        traced_by(traced.id()).into_iter().find(|pid| is_deputy(*pid)).expect("what renews is there");
    until("the end of the command", || traced_by(traced.id()) == [deputy]);
    signal(deputy, "KILL");
    assert_eq!(traced.wait().unwrap().code(), Some(6));
    let last: serde_json::Value = serde_json::from_str(told().lines().last().unwrap()).unwrap();
    let ran = told();
    assert_eq!(last["error"]["code"], "not_saved", "{ran:#?}");
    assert!(last["error"]["help"].as_str().unwrap().contains("writable"), "{ran:#?}");
    assert_eq!(home.stored_refresh_token().unwrap(), before);
    works(&home);
}
