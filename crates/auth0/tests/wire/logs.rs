//! The most verbose log holds no secret.

use std::io;
use std::sync::{Arc, Mutex};

use tokenkeep_auth0::{ClientAuthentication, Password, RefreshRequest, SignInRequest};
use tracing_subscriber::fmt::MakeWriter;

use crate::scripted::{Issuer, Step};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_logged_by_us_or_by_what_we_use() {
    let buffer = Buffer::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(buffer.clone()).finish();
    // The test's runtime has one thread: all of it logs here.
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("planted-canary");

    let good = r#"{"access_token":"canary-a","refresh_token":"canary-r","id_token":"canary-i"}"#;
    let echo = r#"{"error":"invalid_grant","error_description":"canary-refresh-0123456789 is dead"}"#;
    let issuer = Issuer::start([Step::Close, Step::ok(good), Step::status(403, echo), Step::ok(good)]).await;
    let secret = ClientAuthentication::Basic("canary-secret".into());
    let client = issuer.builder().client_authentication(secret).build().unwrap();
    let request = RefreshRequest::new("canary-refresh-0123456789".into());
    client.refresh(&request).await.unwrap();
    client.refresh(&request).await.unwrap_err();
    client
        .sign_in(&Password::new("canary-user", "canary-password".into()), &SignInRequest::default())
        .await
        .unwrap();
    drop(guard);

    let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("refresh has no answer yet") && log.contains("refreshed"), "{log}");
    assert!(log.contains("planted-canary"), "the scan would find one");
    let found: Vec<&str> =
        log.lines().filter(|line| line.replace("planted-canary", "").contains("canary")).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(!log.contains("Y2FuYXJ5"), "nor encoded");
}
