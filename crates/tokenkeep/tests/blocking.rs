//! Sessions without a runtime of the caller's, and inside of one.

#![cfg(all(feature = "blocking", feature = "vault"))]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_auth0::{DEMO_AUDIENCE, DEMO_CLIENT, DEMO_SUB, MockAuth0};
use tokenkeep::blocking::{Session, discover, run};
use tokenkeep::session::Event;
use tokenkeep::store::{Environment, Opening, Sources};
use tokenkeep::{
    Device, MemoryStore, SecretStore, SecretString, SessionError, SessionState, SignIn, SignOut, TokenRequest,
};

/// A key pair made for these tests.
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

fn wanted() -> SignIn {
    SignIn::new("openid profile offline_access").audience(DEMO_AUDIENCE)
}

/// A session at `mock` that was just signed in; the mock's counters stand at zero.
fn signed_in(mock: &MockAuth0, store: Arc<dyn SecretStore>) -> Session {
    let session = Session::open(store, "default").unwrap();
    let issuer = discover(mock.issuer(), DEMO_CLIENT).unwrap();
    let token = SecretString::from(mock.seed_session().unwrap().refresh_token());
    session.adopt(&issuer, wanted(), token).unwrap();
    mock.reset_counters();
    session
}

/// Does everything once.
fn everything(mock: &MockAuth0, store: Arc<dyn SecretStore>) {
    let session = signed_in(mock, store.clone());
    let mut events = session.events();
    let first = session.access_token().unwrap();
    assert_eq!(session.access_token().unwrap().expose(), first.expose());
    assert_eq!(mock.counters().refreshes(), 0);

    let other = session.rejected(&first).unwrap().unwrap();
    assert_ne!(other.expose(), first.expose());
    assert!(matches!(events.next(), Some(Event::Renewed { .. })));
    let renewed = session.renew(&[]).unwrap();
    assert_ne!(renewed.expose(), other.expose());
    assert!(matches!(events.next(), Some(Event::Renewed { .. })));
    assert_eq!(mock.counters().refreshes(), 2);

    assert_eq!(session.token(TokenRequest::new()).unwrap().expose(), renewed.expose());
    assert_eq!(session.token_set(TokenRequest::new()).unwrap().access_token.expose(), renewed.expose());
    assert!(session.peek().unwrap().is_some());
    assert!(session.profile().unwrap().is_some());
    assert_eq!(session.status().unwrap().subject.as_deref(), Some(DEMO_SUB));
    assert!(session.has_valid(Duration::from_secs(1)).unwrap() && session.can_renew().unwrap());
    assert_eq!(session.settings().unwrap().unwrap().client_id, DEMO_CLIENT);
    assert_eq!(Session::list(&store).unwrap(), [session.name()]);

    assert!(session.sign_out(SignOut::Revoke).unwrap().was_signed_in);
    assert!(matches!(events.next(), Some(Event::SignedOut { .. })));
    assert!(session.access_token().unwrap_err().login_required().is_some());
    session.close(Duration::from_secs(30)).unwrap();
    session.forget().unwrap();
    assert_eq!(session.status().unwrap().state, SessionState::Absent);
    drop(session);
    // Forgetting told once more, and with the last handle they end.
    assert!(events.all(|event| matches!(event, Event::SignedOut { .. })));
    assert_eq!(mock.counters().refreshes(), 2);
}

/// A vault in a folder of its own, opened by the rules of the command.
fn vault(folder: &tempfile::TempDir) -> Arc<dyn SecretStore> {
    let path = folder.path().to_owned();
    std::fs::write(path.join("identity"), IDENTITY).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path.join("identity"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let environment = Environment::from_fn(move |name| match name {
        "HOME" => Some(path.clone().into()),
        "TOKENKEEP_IDENTITY" => Some(path.join("identity").into()),
        "TOKENKEEP_VAULT" => Some(path.join("data").join("sessions.vault").into()),
        _ => None,
    });
    let opening = Opening::new(environment.clone()).sources(Sources::new(environment));
    run(async move { opening.open_or_make().await.unwrap().store }).unwrap()
}

#[test]
fn no_runtime_is_needed() {
    let mock = MockAuth0::start_blocking().unwrap();
    everything(&mock, Arc::new(MemoryStore::new()));
    let folder = tempfile::tempdir().unwrap();
    everything(&mock, vault(&folder));
}

#[test]
fn inside_of_a_runtime_of_one_thread_the_same_is_allowed() {
    let mock = MockAuth0::start_blocking().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async { everything(&mock, vault(&folder)) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_of_a_worker_of_a_runtime_too() {
    let mock = MockAuth0::start().await.unwrap();
    let worker = tokio::spawn(async move {
        let folder = tempfile::tempdir().unwrap();
        everything(&mock, vault(&folder));
    });
    worker.await.unwrap();
}

#[test]
fn a_hundred_threads_with_one_expired_session_make_one_request() {
    let mock = MockAuth0::start_blocking().unwrap();
    let session = signed_in(&mock, Arc::new(MemoryStore::new()));
    let old = session.access_token().unwrap();
    mock.reject_access_tokens();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| assert!(session.rejected(&old).unwrap().is_some()));
        }
    });
    assert_eq!(mock.counters().refreshes(), 1);
}

#[test]
fn what_would_wait_for_itself_is_refused() {
    let device = (Duration::from_secs(60), Duration::from_secs(1));
    let mock = Arc::new(MockAuth0::builder().device_codes(device.0, device.1).start_blocking().unwrap());
    let session = Session::open(Arc::new(MemoryStore::new()), "default").unwrap();
    let issuer = discover(mock.issuer(), DEMO_CLIENT).unwrap();
    let refused = Arc::new(Mutex::new(Vec::new()));
    // This runs on the renewal thread.
    let show = {
        let (session, refused, mock) = (session.clone(), refused.clone(), mock.clone());
        move |prompt: &tokenkeep::DevicePrompt| {
            let status = session.status().unwrap_err();
            let token = session.access_token().unwrap_err();
            refused.lock().unwrap().extend([status, token]);
            mock.approve_device(&prompt.user_code, DEMO_SUB).unwrap();
        }
    };
    session.sign_in(&issuer, wanted(), Device::new(show)).unwrap();
    assert!(
        matches!(refused.lock().unwrap()[..], [SessionError::System { .. }, SessionError::System { .. }]),
        "{refused:?}"
    );
    assert_eq!(session.status().unwrap().state, SessionState::Active);
}
