//! The store of the example `custom_store` keeps what every store promises.

#![cfg(all(feature = "vault", feature = "conformance"))]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test may panic")]

#[allow(dead_code, reason = "the program itself is run by another test")]
#[path = "../examples/custom_store.rs"]
mod example;

use std::sync::Arc;

use async_trait::async_trait;
use tokenkeep::store::conformance::Subject;
use tokenkeep::{MemoryStore, SecretStore};

struct OverMemory(MemoryStore);

#[async_trait]
impl Subject for OverMemory {
    async fn handle(&self) -> Arc<dyn SecretStore> {
        Arc::new(example::Counting::new(Arc::new(self.0.clone())))
    }
}

tokenkeep::store::store_conformance!(OverMemory(MemoryStore::new()));
