//! A process whose vault's key a Secret Service keeps has nothing of it in memory afterwards, nor has the library that speaks
//! to the service: see `memory.rs` beside this suite.

use std::sync::Arc;

use tokenkeep_store::{
    Expected, KeyId, Keychain as _, NewWayIn, Opener, SecretStore as _, SystemKeychain, Unlock, Vault,
};

use crate::look_back::{CANARIES, look_back, random, read, what_is_left};
use crate::scene::{again, key, told};
use crate::secrets::Secrets;
use crate::session::{Service, in_session};

const TEST: &str = "memory::a_process_that_has_used_the_os_keychain_keeps_nothing_of_it";

#[test]
fn a_process_that_has_used_the_os_keychain_keeps_nothing_of_it() {
    if let Some(place) = told("use the keychain") {
        return look_back(&place, |place| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let path = place.join("sessions.vault");
                let chain = Arc::new(SystemKeychain::new());
                let vault = Vault::create(&path, vec![NewWayIn::keychain(chain.clone())]).await.unwrap();
                vault.put(&key("token"), &read(place, "token"), Expected::Absent).await.unwrap();
                drop(vault);
                let unlock = Unlock::new(Opener::Keychain(chain), "the test");
                let vault = Vault::open(&path, &unlock).await.unwrap();
                assert_eq!(vault.get(&key("token")).await.unwrap().unwrap().value, read(place, "token"));
            });
            runtime
        });
    }
    in_session(TEST, Service::Unlocked, || {
        let place = tempfile::tempdir().unwrap();
        let mut given = Secrets::default();
        for name in CANARIES.into_iter().chain(["token"]) {
            let value = random(64);
            std::fs::write(place.path().join(name), &value).unwrap();
            given.add(name, value);
        }
        let command = again(TEST, "use the keychain", place.path());
        let rest = what_is_left(command, place.path(), &[], &[], &given, &|| {
            let file = std::fs::read(place.path().join("sessions.vault")).unwrap();
            let identity =
                SystemKeychain::new().load(KeyId::new(file[19..35].try_into().unwrap())).unwrap().unwrap();
            vec![identity.expose().to_owned()]
        });
        assert_eq!(rest, Vec::<String>::new());
    });
}
