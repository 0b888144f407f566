//! A Secret Service that misbehaves, on a bus of the test's own. It keeps nothing and knows no secret.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::Notify;
use zbus::fdo;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::{ObjectPath, OwnedObjectPath, OwnedValue, Value};

const SERVICE: &str = "/org/freedesktop/secrets";
const COLLECTION: &str = "/org/freedesktop/secrets/collection/login";
const ITEM: &str = "/org/freedesktop/secrets/collection/login/1";
const PROMPT: &str = "/org/freedesktop/secrets/prompt/1";

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Takes every call and answers none.
    Hangs,
    /// Answers what no such service does.
    TalksNonsense,
    /// Leaves the bus in the middle of the first call.
    LeavesAtOnce,
    /// Leaves the bus in the middle of a search.
    LeavesInASearch,
    /// Its item is locked, and the question to the person is never answered.
    AsksForever,
    /// Its item is locked, and the person dismisses the question.
    IsDismissed,
    /// Leaves the bus while the person is asked.
    LeavesWhileAsking,
    /// Its item is gone between the search and the call.
    LosesItsItem,
    /// Ends the bus in the middle of a search.
    EndsTheBus,
    /// Keeps an item, but only once it is told to.
    KeepsLate,
}

/// The service, for as long as this lives.
pub(crate) struct Fake {
    pub(crate) state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct State {
    fault: Fault,
    bus: i32,
    /// Lets [`Fault::KeepsLate`] go on.
    pub(crate) go_on: Notify,
    /// Whether it keeps an item now.
    pub(crate) keeps: AtomicBool,
    /// Whether it ever did.
    pub(crate) kept: AtomicBool,
    leave: Notify,
}

impl Fake {
    /// Takes the service's name on the session bus, whose process is `bus`.
    pub(crate) fn start(fault: Fault, bus: i32) -> Self {
        let state = Arc::new(State {
            fault,
            bus,
            go_on: Notify::new(),
            keeps: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            leave: Notify::new(),
        });
        let (ready, is_ready) = std::sync::mpsc::channel();
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let connection = zbus::connection::Builder::session()
                    .unwrap()
                    .serve_at(SERVICE, Service(Arc::clone(&served)))
                    .unwrap()
                    .serve_at(COLLECTION, Collection(Arc::clone(&served)))
                    .unwrap()
                    .serve_at(PROMPT, Prompt(Arc::clone(&served)))
                    .unwrap()
                    .name("org.freedesktop.secrets")
                    .unwrap()
                    .build()
                    .await
                    .unwrap();
                if fault == Fault::KeepsLate {
                    connection.object_server().at(ITEM, Item(Arc::clone(&served))).await.unwrap();
                }
                ready.send(()).unwrap();
                served.leave.notified().await;
                // Without an answer to what is under way. The bus may be gone.
                let _ = connection.close().await;
            });
        });
        is_ready.recv().unwrap();
        Self { state, thread: Some(thread) }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.state.leave.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl State {
    /// Ends the service, and never answers.
    async fn gone<T>(&self) -> T {
        self.leave.notify_one();
        std::future::pending().await
    }
}

fn path(text: &'static str) -> OwnedObjectPath {
    ObjectPath::from_static_str(text).unwrap().into()
}

fn value<'a>(of: impl Into<Value<'a>>) -> OwnedValue {
    of.into().try_to_owned().unwrap()
}

struct Service(Arc<State>);

#[zbus::interface(name = "org.freedesktop.Secret.Service")]
impl Service {
    async fn open_session(&self, _algorithm: &str, _input: OwnedValue) -> (OwnedValue, OwnedObjectPath) {
        match self.0.fault {
            Fault::Hangs => std::future::pending().await,
            Fault::LeavesAtOnce => self.0.gone().await,
            Fault::TalksNonsense => (value("nonsense"), path(SERVICE)),
            // A public key to which nobody has the private one: no secret gets this far.
            _ => (value(vec![2_u8; 128]), path("/org/freedesktop/secrets/session/1")),
        }
    }

    async fn search_items(
        &self,
        _attributes: HashMap<String, String>,
    ) -> fdo::Result<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>)> {
        let item = vec![path(ITEM)];
        match self.0.fault {
            Fault::LeavesInASearch => self.0.gone().await,
            Fault::EndsTheBus => {
                let bus = nix::unistd::Pid::from_raw(self.0.bus);
                nix::sys::signal::kill(bus, nix::sys::signal::Signal::SIGKILL).unwrap();
                std::future::pending().await
            }
            Fault::LosesItsItem => Ok((item, Vec::new())),
            Fault::KeepsLate if self.0.keeps.load(Ordering::SeqCst) => Ok((item, Vec::new())),
            Fault::KeepsLate => Ok((Vec::new(), Vec::new())),
            _ => Ok((Vec::new(), item)),
        }
    }

    async fn unlock(&self, _objects: Vec<OwnedObjectPath>) -> (Vec<OwnedObjectPath>, OwnedObjectPath) {
        (Vec::new(), path(PROMPT))
    }

    async fn read_alias(&self, _name: &str) -> OwnedObjectPath {
        path(COLLECTION)
    }
}

struct Prompt(Arc<State>);

#[zbus::interface(name = "org.freedesktop.Secret.Prompt")]
impl Prompt {
    async fn prompt(
        &self,
        _window: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<()> {
        match self.0.fault {
            Fault::IsDismissed => Self::completed(&emitter, true, "".into()).await.map_err(fdo::Error::from),
            Fault::LeavesWhileAsking => self.0.gone().await,
            _ => Ok(()),
        }
    }

    #[zbus(signal)]
    async fn completed(emitter: &SignalEmitter<'_>, dismissed: bool, result: Value<'_>) -> zbus::Result<()>;
}

struct Collection(Arc<State>);

#[zbus::interface(name = "org.freedesktop.Secret.Collection")]
impl Collection {
    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }

    async fn create_item(
        &self,
        _properties: HashMap<String, OwnedValue>,
        _secret: (OwnedObjectPath, Vec<u8>, Vec<u8>, String),
        _replace: bool,
    ) -> (OwnedObjectPath, OwnedObjectPath) {
        self.0.go_on.notified().await;
        self.0.keeps.store(true, Ordering::SeqCst);
        self.0.kept.store(true, Ordering::SeqCst);
        (path(ITEM), path("/"))
    }
}

struct Item(Arc<State>);

#[zbus::interface(name = "org.freedesktop.Secret.Item")]
impl Item {
    #[zbus(property)]
    fn locked(&self) -> bool {
        false
    }

    async fn delete(&self) -> OwnedObjectPath {
        self.0.keeps.store(false, Ordering::SeqCst);
        path("/")
    }
}
