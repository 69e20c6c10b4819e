//! Fetching from a server of our own, which has the hub's addresses, headers and habits. Nothing here leaves the machine.

mod downloads;
mod fetching;
mod listings;
mod refusals;
mod server;

use std::fs;
use std::path::Path;
use std::time::Duration;

use clip_core::Kind;

use super::*;
use server::{Reply, Server, between, file_reply, files, hub, hub_of, listing, sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn settings(endpoint: &str, cache: &Path) -> Settings {
    Settings {
        endpoint: endpoint.to_owned(),
        cache: cache.to_owned(),
        token: None,
        offline: false,
        timeout: Duration::from_secs(5),
        pause: Duration::from_millis(1),
        certificates: None,
    }
}

fn get(name: &str, settings: &Settings) -> Result<PathBuf> {
    fetch_with(&HubName::parse(name)?, settings, &mut ())
}

/// What a watcher saw.
#[derive(Default)]
struct Seen {
    began: Vec<(String, Option<u64>, u64)>,
    bytes: u64,
    ended: usize,
    notes: Vec<String>,
}

impl Watch for Seen {
    fn begin(&mut self, file: &str, length: Option<u64>, there: u64) {
        self.began.push((file.to_owned(), length, there));
    }

    fn received(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn end(&mut self) {
        self.ended += 1;
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}
