//! What another program does with the Secret Service: it may add an item beside ours.

use std::collections::HashMap;

use tokenkeep_store::KeyId;
use zbus::blocking::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

/// Adds an item that a search for the key of `vault` finds too.
pub(crate) fn add_another(vault: KeyId) {
    const NAME: &str = "org.freedesktop.secrets";
    let connection = Connection::session().unwrap();
    let service = zbus::blocking::Proxy::new(
        &connection,
        NAME,
        "/org/freedesktop/secrets",
        "org.freedesktop.Secret.Service",
    )
    .unwrap();
    let (_, session): (OwnedValue, OwnedObjectPath) =
        service.call("OpenSession", &("plain", Value::from(""))).unwrap();
    let collection: OwnedObjectPath = service.call("ReadAlias", &("default",)).unwrap();
    let account = vault.to_string();
    let attributes = HashMap::from([("service", "tokenkeep"), ("username", &account), ("copied", "yes")]);
    let properties = HashMap::from([
        ("org.freedesktop.Secret.Item.Label", Value::from("another")),
        ("org.freedesktop.Secret.Item.Attributes", Value::from(attributes)),
    ]);
    let secret = (session, Vec::<u8>::new(), b"another".to_vec(), "text/plain");
    let collection =
        zbus::blocking::Proxy::new(&connection, NAME, collection, "org.freedesktop.Secret.Collection")
            .unwrap();
    let (_, _): (OwnedObjectPath, OwnedObjectPath) =
        collection.call("CreateItem", &(properties, secret, false)).unwrap();
}
