//! A server with the hub's addresses, headers and habits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::COMMIT;
use crate::testing::Table;
use crate::write_weights;

/// What was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) head: bool,
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

/// What is answered.
#[derive(Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// How many bytes of the body are sent before the connection is closed.
    pub(super) cut: Option<usize>,
}

impl Reply {
    pub(super) fn of(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn refusal(status: u16, code: &str) -> Self {
        Self::of(status).with("X-Error-Code", code)
    }
}

pub(super) type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on a port of its own, for as long as the test runs.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Arc<Answer>) = (log.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(&connection.unwrap(), &seen, &*answer));
            }
        });
        Self { address, log }
    }

    /// The paths asked for since the last time, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

pub(super) fn serve(connection: &TcpStream, seen: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut lines = BufReader::new(connection).lines().map_while(|line| line.ok());
    let Some(first) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        })
        .collect();
    let request = Request {
        head: first.starts_with("HEAD "),
        path: first.split(' ').nth(1).unwrap().to_owned(),
        range: headers.get("range").cloned(),
        authorization: headers.get("authorization").cloned(),
    };
    seen.lock().unwrap().push(request.clone());
    let reply = answer(&request);
    let mut out = connection;
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !head.contains("Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    let sent = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // The other side may have hung up: it has read enough.
    let _ = out
        .write_all(head.as_bytes())
        .and_then(|()| out.write_all(b"\r\n"))
        .and_then(|()| out.write_all(sent));
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model's files, as a hub has them.
pub(super) fn files() -> BTreeMap<&'static str, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write_weights(&path, &Table::new([("text.a", vec![300], vec![0.25; 300])])).unwrap();
    let config = json!({"model_type": "clipzoo", "text_config": {"model_type": "mine"}});
    BTreeMap::from([
        ("config.json", config.to_string().into_bytes()),
        ("model.safetensors", fs::read(path).unwrap()),
        ("pytorch_model.bin", b"another copy, which nobody wants".to_vec()),
        ("tf_model.h5", vec![0; 10]),
        ("README.md", b"# A model".to_vec()),
        ("vocab.txt", b"[UNK]\nred\n".to_vec()),
    ])
}

/// The hub's answer for a file: large ones by a redirect to where they are kept, small ones at once.
pub(super) fn file_reply(files: &BTreeMap<&'static str, Vec<u8>>, name: &str, store: &str) -> Reply {
    let Some(body) = files.get(name) else {
        return Reply::refusal(404, "EntryNotFound");
    };
    let reply = |status| Reply::of(status).with("X-Repo-Commit", COMMIT);
    if name.ends_with(".safetensors") || name.ends_with(".bin") {
        return reply(302)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(body)))
            .with("X-Linked-Size", body.len())
            .with("Location", format!("{store}/kept/{name}?signed=yes"));
    }
    reply(200)
        .with("ETag", "\"0a0b0c\"".replace("0c", &name.len().to_string()))
        .body(body.clone())
}

/// Part of a request's path, if the rest of it is as given.
pub(super) fn between<'p>(path: &'p str, before: &str, after: &str) -> Option<&'p str> {
    path.strip_prefix(before)?.strip_suffix(after)
}

pub(super) fn listing(files: &BTreeMap<&'static str, Vec<u8>>) -> Reply {
    let siblings: Vec<_> = files.keys().map(|name| json!({"rfilename": name})).collect();
    Reply::of(200).body(json!({"sha": COMMIT, "siblings": siblings, "id": "o/m"}).to_string())
}

/// A hub with one model `o/m`, whose large files lie on a server of their own.
pub(super) fn hub() -> (Server, Server) {
    hub_of(files())
}

/// The same, its model of other files.
pub(super) fn hub_of(files: BTreeMap<&'static str, Vec<u8>>) -> (Server, Server) {
    let large = files.clone();
    let kept = Server::start(move |request| {
        let name = between(&request.path, "/kept/", "?signed=yes").unwrap();
        Reply::of(200)
            .with("ETag", "\"the-store-s-own\"")
            .body(large[name].clone())
    });
    let store = kept.address.clone();
    let hub = Server::start(move |request| {
        if request.path == "/api/models/o/m/revision/main" || request.path == "/api/models/o/m/revision/v1%2Fx" {
            return listing(&files);
        }
        if let Some(rest) = request.path.strip_prefix("/o/m/resolve/") {
            let (revision, name) = rest.split_once('/').unwrap();
            assert!([COMMIT, "main"].contains(&revision), "{revision}");
            return file_reply(&files, name, &store);
        }
        if request.path.starts_with("/api/models/o/m/") {
            return Reply::refusal(404, "RevisionNotFound");
        }
        Reply::refusal(401, "RepoNotFound")
    });
    (hub, kept)
}
