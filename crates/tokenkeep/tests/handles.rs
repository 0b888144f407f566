//! What every handle can be relied on for: it can be cloned, sent and shared, and needs no more than a runtime of one
//! thread.

#![cfg(all(
    feature = "vault",
    feature = "reqwest",
    feature = "tower",
    feature = "tonic",
    feature = "blocking"
))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mock_auth0::{DEMO_AUDIENCE, DEMO_CLIENT, DEMO_SUB, Endpoint, MockAuth0};
use tokenkeep::http::{Origins, SessionChannel, SessionLayer, SessionMiddleware, client};
use tokenkeep::session::{Event, Events, KeepFresh, Settings, SignedIn, SignedOut};
use tokenkeep::store::{Environment, Opened, Opening, Sources, Vault};
use tokenkeep::{
    AccessToken, Device, MemoryStore, SecretStore, Session, SessionError, SignIn, SignOut, Status,
    StoreError, TokenClient, TokenRequest, TokenSet, blocking,
};

const fn is_a_handle<T: Clone + Send + Sync + 'static>() {}
const fn is_sent_and_shared<T: Send + Sync + 'static>() {}

// These fail to compile where they are not true.
const _: () = {
    is_a_handle::<Session>();
    is_a_handle::<blocking::Session>();
    is_a_handle::<TokenClient>();
    is_a_handle::<Vault>();
    is_a_handle::<MemoryStore>();
    is_a_handle::<Arc<dyn SecretStore>>();
    is_a_handle::<Origins>();
    is_a_handle::<SessionLayer>();
    is_a_handle::<SessionChannel>();
    is_a_handle::<TokenRequest>();
    is_a_handle::<SignIn>();
    is_a_handle::<SessionError>();
    is_a_handle::<Status>();
    is_a_handle::<Opened>();
    is_sent_and_shared::<SessionMiddleware>();
    is_sent_and_shared::<AccessToken>();
    is_sent_and_shared::<TokenSet>();
    is_sent_and_shared::<Events>();
    is_sent_and_shared::<blocking::Events>();
    is_sent_and_shared::<KeepFresh>();
    is_sent_and_shared::<Settings>();
    is_sent_and_shared::<SignedIn>();
    is_sent_and_shared::<SignedOut>();
    is_sent_and_shared::<StoreError>();
};

/// Futures can be spawned on a runtime of many threads; only compiled.
#[allow(dead_code, reason = "compiling it is the test")]
fn every_call_can_be_spawned(
    session: &'static Session,
    token: &'static AccessToken,
    issuer: &'static TokenClient,
) {
    fn is_spawned(_: impl Future<Output: Send + 'static> + Send + 'static) {}
    is_spawned(tokenkeep::open_store());
    is_spawned(tokenkeep::open_or_make_store());
    is_spawned(Session::open(Arc::new(MemoryStore::new()), "default"));
    is_spawned(session.access_token());
    is_spawned(session.token(TokenRequest::new()));
    is_spawned(session.token_set(TokenRequest::new()));
    is_spawned(session.rejected(token));
    is_spawned(session.renew(&[]));
    is_spawned(session.sign_in(issuer, SignIn::new("openid"), Device::new(|_| {})));
    is_spawned(session.sign_out(SignOut::Revoke));
    is_spawned(session.status());
    is_spawned(session.close(Duration::ZERO));
}

#[test]
fn a_runtime_of_one_thread_is_enough() {
    let device = (Duration::from_secs(60), Duration::from_secs(1));
    let mock = Arc::new(MockAuth0::builder().device_codes(device.0, device.1).start_blocking().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (identity, vault) = (folder.path().join("identity"), folder.path().join("data/sessions.vault"));
        std::fs::write(
            &identity,
            "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n",
        )
        .unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let home = folder.path().to_owned();
        let environment = Environment::from_fn(move |name| match name {
            "HOME" => Some(home.clone().into()),
            "TOKENKEEP_IDENTITY" => Some(identity.clone().into()),
            "TOKENKEEP_VAULT" => Some(vault.clone().into()),
            _ => None,
        });
        let opening = Opening::new(environment.clone()).sources(Sources::new(environment));
        let session = Session::open(opening.open_or_make().await.unwrap().store, "default").await.unwrap();
        let mut events = session.events();
        let issuer = TokenClient::discover(mock.issuer(), DEMO_CLIENT).await.unwrap();
        let confirming = mock.clone();
        let show = move |prompt: &tokenkeep::DevicePrompt| {
            confirming.approve_device(&prompt.user_code, DEMO_SUB).unwrap();
        };
        let wanted = SignIn::new("openid offline_access").audience(DEMO_AUDIENCE);
        session.sign_in(&issuer, wanted, Device::new(show)).await.unwrap();
        assert!(matches!(events.next().await, Some(Event::SignedIn { .. })));

        // Ten tasks on the one thread, whose token the API no longer takes.
        mock.reject_access_tokens();
        let http = client(&session, [mock.url("")]).unwrap();
        let tasks = (0..10).map(|_| {
            let request = http.get(mock.url("/api/things"));
            tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), 200);
        }
        assert_eq!(mock.counters().refreshes(), 1);
        assert!(mock.counters().at(Endpoint::Api) > 10);
        assert!(matches!(events.next().await, Some(Event::Renewed { .. })));
        session.sign_out(SignOut::Revoke).await.unwrap();
        session.close(Duration::from_secs(30)).await.unwrap();
    });
}
