//! Fetching from a server of our own, which has the hub's addresses, headers and habits. Nothing here leaves the machine.

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use clip_core::Kind;
use serde_json::json;

use super::*;
use crate::{Checkpoint, Families};
use server::{Reply, Request, Server, between, file_reply, files, hub, listing, sha256};

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

#[test]
fn a_model_is_fetched_once_and_only_what_opening_needs() {
    let (hub, kept) = hub();
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings(&hub.address, cache.path());
    settings.token = Some("hf_secret".to_owned());
    let mut seen = Seen::default();
    let folder = fetch_with(&HubName::parse("o/m").unwrap(), &settings, &mut seen).unwrap();
    assert_eq!(folder, cache.path().join("models--o--m/snapshots").join(COMMIT));
    let at = |name: &str| format!("/o/m/resolve/{COMMIT}/{name}");
    let requests = hub.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/models/o/m/revision/main",
            &at("config.json"),
            &at("vocab.txt"),
            &at("model.safetensors")
        ]
    );
    // The hub is told who asks; the foreign server that keeps the bytes is not.
    assert!(
        requests
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer hf_secret"))
    );
    let stored = kept.requests();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].authorization, None);
    // The files are those of the server, and stand where other tools look for them.
    for (name, bytes) in files() {
        let there = fs::read(folder.join(name)).ok();
        let wanted = ["config.json", "vocab.txt", "model.safetensors"].contains(&name);
        assert_eq!(there, wanted.then_some(bytes), "{name}");
    }
    let model = cache.path().join("models--o--m");
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    let blob = model.join("blobs").join(sha256(&files()["model.safetensors"]));
    assert!(blob.is_file());
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(folder.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(blob.file_name().unwrap())
    );
    let length = files()["model.safetensors"].len() as u64;
    assert!(seen.began.contains(&("model.safetensors".to_owned(), Some(length), 0)));
    assert_eq!((seen.ended, seen.began.len()), (3, 3));
    assert_eq!(
        seen.bytes,
        ["config.json", "vocab.txt", "model.safetensors"]
            .map(|name| files()[name].len() as u64)
            .iter()
            .sum::<u64>()
    );
    assert!(Checkpoint::open(&folder, &Families::bundled()).is_ok());
    // A second time the hub is only asked which commit the branch is.
    get("o/m", &settings).unwrap();
    assert_eq!(hub.asked(), ["/api/models/o/m/revision/main"]);
    assert_eq!(kept.asked(), [""; 0]);
}

#[test]
fn a_revision_is_one_part_of_an_address_and_a_file_of_the_cache() {
    let (hub, _kept) = hub();
    let cache = tempfile::tempdir().unwrap();
    get("o/m@v1/x", &settings(&hub.address, cache.path())).unwrap();
    assert_eq!(hub.asked()[0], "/api/models/o/m/revision/v1%2Fx");
    assert_eq!(
        fs::read_to_string(cache.path().join("models--o--m/refs/v1/x")).unwrap(),
        COMMIT
    );
}

#[test]
fn without_a_network_the_cache_counts() {
    let (hub, kept) = hub();
    let cache = tempfile::tempdir().unwrap();
    let online = settings(&hub.address, cache.path());
    let folder = get("o/m", &online).unwrap();
    hub.asked();
    kept.asked();
    let offline = Settings {
        offline: true,
        ..online.clone()
    };
    for name in ["o/m", &format!("o/m@{COMMIT}")] {
        assert_eq!(get(name, &offline).unwrap(), folder);
    }
    assert_eq!(hub.asked(), [""; 0]);
    for name in ["o/other", "o/m@v2"] {
        let error = get(name, &offline).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("HF_HUB_OFFLINE is set"), "{error}");
    }
    // Nobody listens there.
    let gone = Settings {
        endpoint: "http://127.0.0.1:9".to_owned(),
        ..online.clone()
    };
    let mut seen = Seen::default();
    assert_eq!(
        fetch_with(&HubName::parse("o/m").unwrap(), &gone, &mut seen).unwrap(),
        folder
    );
    assert!(seen.notes[0].contains("cannot be reached") && seen.notes[0].ends_with("taking the copy in the cache"));
    let error = get("o/other", &gone).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let message = error.to_string();
    assert!(
        message.contains("http://127.0.0.1:9 cannot be reached") && message.contains("HF_ENDPOINT"),
        "{message}"
    );
    // Weights that are not whole do not count.
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(get("o/m", &offline).is_err());
}

#[test]
fn each_refusal_says_what_to_do() {
    let cases = [
        (
            Reply::refusal(401, "RepoNotFound"),
            Kind::NotFound,
            "has no model o/m, or it is private; check the name; for a private model, set HF_TOKEN",
        ),
        (Reply::refusal(404, "RepoNotFound"), Kind::NotFound, "has no model o/m"),
        (
            Reply::refusal(404, "RevisionNotFound"),
            Kind::NotFound,
            "the model o/m has no revision `main`; name a branch, a tag or a commit",
        ),
        (
            Reply::refusal(403, "GatedRepo"),
            Kind::Unavailable,
            "the model o/m is gated; ask for access at ",
        ),
        (
            Reply::refusal(401, "GatedRepo"),
            Kind::Unavailable,
            "the model o/m is gated",
        ),
        (
            Reply::of(401),
            Kind::Unavailable,
            "does not give out o/m (401 Unauthorized)",
        ),
        (Reply::of(429), Kind::Unavailable, "refuses more requests for now"),
        (
            Reply::of(503),
            Kind::Unavailable,
            "answered 503 Service Unavailable when asked for config.json of o/m",
        ),
    ];
    for (reply, kind, wanted) in cases {
        let status = reply.status;
        let server = Server::start(move |_| reply.clone());
        let cache = tempfile::tempdir().unwrap();
        let error = get("o/m", &settings(&server.address, cache.path())).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(error.to_string().contains(wanted), "{status}: {error}");
        // What a server cannot do now is asked for again; a refusal is one.
        let tries = if status == 503 { 3 } else { 1 };
        let asked = server.asked();
        assert_eq!(asked.len(), 2 * tries, "{status}: {asked:?}");
        assert!(asked[0].starts_with("/api/") && asked[tries].ends_with("/main/config.json"));
        assert!(!cache.path().join("models--o--m/refs").exists());
    }
    // A gated model shows its list to everybody, and its files to some.
    let server = Server::start(|request| match request.path.starts_with("/api/") {
        true => listing(&files()),
        false => Reply::refusal(403, "GatedRepo"),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut settings = settings(&server.address, cache.path());
    settings.token = Some("hf_secret".to_owned());
    let message = get("o/m", &settings).unwrap_err().to_string();
    assert!(
        message.contains(&format!("{}/o/m, then check the token (HF_TOKEN", server.address)),
        "{message}"
    );
    assert!(!message.contains("hf_secret"));
}

#[test]
fn a_model_without_weights_lists_what_it_has() {
    let only = |names: &'static [&'static str]| {
        let server = Server::start(move |_| listing(&names.iter().map(|name| (*name, Vec::new())).collect()));
        let cache = tempfile::tempdir().unwrap();
        get("o/m", &settings(&server.address, cache.path()))
            .unwrap_err()
            .to_string()
    };
    assert!(only(&["README.md"]).contains("holds no weights"));
    let message = only(&["a.pt", "onnx/model.bin", "b.safetensors"]);
    assert!(
        message.contains("there are a.pt, b.safetensors; name another model"),
        "{message}"
    );
}

/// A hub whose weights are served here, by what `weights` says.
fn with_weights(weights: impl Fn(&Request, Vec<u8>) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| {
        let files = files();
        if request.path.starts_with("/api/") {
            return listing(&files);
        }
        let name = request.path.rsplit('/').next().unwrap();
        if name != "model.safetensors" {
            return file_reply(&files, name, "");
        }
        let body = files[name].clone();
        weights(request, body.clone())
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", format!("\"{}\"", sha256(&body)))
            .with("X-Linked-Size", body.len())
    })
}

/// Byte `from` of a `Range`.
fn from(request: &Request) -> usize {
    let range = request.range.as_deref().unwrap_or("bytes=0-");
    between(range, "bytes=", "-").unwrap().parse().unwrap()
}

fn partly(request: &Request, body: &[u8]) -> Reply {
    match from(request) {
        0 => Reply::of(200).body(body),
        from => {
            let range = format!("bytes {from}-{}/{}", body.len() - 1, body.len());
            Reply::of(206).with("Content-Range", range).body(&body[from..])
        }
    }
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    // Twice the connection is closed after 400 bytes; the third time it holds.
    let server = with_weights(|request, body| Reply {
        cut: (from(request) < 800).then_some(400),
        ..partly(request, &body)
    });
    let cache = tempfile::tempdir().unwrap();
    let mut seen = Seen::default();
    let folder = fetch_with(
        &HubName::parse("o/m").unwrap(),
        &settings(&server.address, cache.path()),
        &mut seen,
    )
    .unwrap();
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        files()["model.safetensors"]
    );
    let ranges: Vec<Option<String>> = server
        .requests()
        .into_iter()
        .filter(|request| request.path.ends_with(".safetensors"))
        .map(|request| request.range)
        .collect();
    assert_eq!(
        ranges,
        [None, Some("bytes=400-".to_owned()), Some("bytes=800-".to_owned())]
    );
    let there: Vec<u64> = seen
        .began
        .iter()
        .filter(|(file, ..)| file.ends_with(".safetensors"))
        .map(|(.., there)| *there)
        .collect();
    assert_eq!(there, [0, 400, 800]);
}

#[test]
fn a_download_that_keeps_breaking_is_an_error_and_is_gone_on_with_later() {
    let broken = with_weights(|request, body| Reply {
        cut: Some(100),
        ..partly(request, &body)
    });
    let cache = tempfile::tempdir().unwrap();
    let error = get("o/m", &settings(&broken.address, cache.path())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let length = files()["model.safetensors"].len();
    let message = error.to_string();
    assert!(
        message.contains(&format!(
            "the download of model.safetensors broke off after 300 of {length} bytes"
        )),
        "{message}"
    );
    assert!(message.contains("run the command again"), "{message}");
    let whole = with_weights(|request, body| partly(request, &body));
    let mut settings = settings(&whole.address, cache.path());
    settings.offline = true;
    assert!(get("o/m", &settings).is_err(), "half a file is none");
    settings.offline = false;
    let folder = get("o/m", &settings).unwrap();
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        files()["model.safetensors"]
    );
    assert!(
        whole
            .requests()
            .iter()
            .any(|request| request.range.as_deref() == Some("bytes=300-"))
    );
}

#[test]
fn a_server_that_knows_no_ranges_begins_again() {
    let server = with_weights(|_, body| Reply::of(200).body(body));
    let cache = tempfile::tempdir().unwrap();
    let blobs = cache.path().join("models--o--m/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let weights = &files()["model.safetensors"];
    fs::write(blobs.join(format!("{}.incomplete", sha256(weights))), &weights[..500]).unwrap();
    let folder = get("o/m", &settings(&server.address, cache.path())).unwrap();
    assert_eq!(&fs::read(folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn what_a_killed_process_left_whole_is_taken() {
    let server = with_weights(|request, body| partly(request, &body));
    let weights = &files()["model.safetensors"];
    for (left, taken) in [(weights.clone(), true), (vec![7; weights.len()], false)] {
        let cache = tempfile::tempdir().unwrap();
        let blobs = cache.path().join("models--o--m/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.incomplete", sha256(weights))), left).unwrap();
        let mut seen = Seen::default();
        let name = HubName::parse("o/m").unwrap();
        let folder = fetch_with(&name, &settings(&server.address, cache.path()), &mut seen).unwrap();
        assert_eq!(&fs::read(folder.join("model.safetensors")).unwrap(), weights);
        assert_eq!(
            seen.began.iter().any(|(file, ..)| file.ends_with(".safetensors")),
            !taken
        );
    }
}

#[test]
fn damaged_and_overlong_files_do_not_enter_the_cache() {
    let damaged = with_weights(|_, mut body| {
        body[200] ^= 1;
        Reply::of(200).body(body)
    });
    let cache = tempfile::tempdir().unwrap();
    let message = get("o/m", &settings(&damaged.address, cache.path()))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("model.safetensors arrived damaged: its SHA-256 is not"),
        "{message}"
    );
    let blobs = |cache: &Path| {
        let entries = fs::read_dir(cache.join("models--o--m/blobs")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().len() >= 64)
            .count()
    };
    assert_eq!(blobs(cache.path()), 0);
    let long = with_weights(|_, mut body| {
        body.extend([0; 70_000]);
        Reply::of(200).body(body)
    });
    let cache = tempfile::tempdir().unwrap();
    let message = get("o/m", &settings(&long.address, cache.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("more bytes came than the file has"), "{message}");
}

#[test]
fn shards_are_those_of_the_index() {
    let mut files = files();
    let one = files.remove("model.safetensors").unwrap();
    files.insert("model-1.safetensors", one.clone());
    files.insert("model-2.safetensors", one);
    let index = |shard: &str| {
        json!({"weight_map": {"text.a": "model-1.safetensors", "text.b": shard}})
            .to_string()
            .into_bytes()
    };
    files.insert("model.safetensors.index.json", index("model-1.safetensors"));
    let serve = |files: BTreeMap<&'static str, Vec<u8>>| {
        Server::start(move |request| match request.path.as_str() {
            path if path.starts_with("/api/") => listing(&files),
            path if path.starts_with("/kept/") => {
                Reply::of(200).body(files[between(path, "/kept/", "?signed=yes").unwrap()].clone())
            }
            // Kept by the hub itself: a redirect within it.
            path => file_reply(&files, path.rsplit('/').next().unwrap(), ""),
        })
    };
    let server = serve(files.clone());
    let cache = tempfile::tempdir().unwrap();
    let folder = get("o/m", &settings(&server.address, cache.path())).unwrap();
    assert!(folder.join("model-1.safetensors").is_file() && !folder.join("model-2.safetensors").exists());
    // Offline they count only together.
    let mut offline = settings(&server.address, cache.path());
    offline.offline = true;
    get("o/m", &offline).unwrap();
    fs::remove_file(folder.join("model-1.safetensors")).unwrap();
    assert!(get("o/m", &offline).is_err());
    for (shard, wanted) in [
        (
            "model-9.safetensors",
            "the shard model-9.safetensors, which the model does not have",
        ),
        ("../../x", "no file name"),
    ] {
        files.insert("model.safetensors.index.json", index(shard));
        let cache = tempfile::tempdir().unwrap();
        let server = serve(files.clone());
        let message = get("o/m", &settings(&server.address, cache.path()))
            .unwrap_err()
            .to_string();
        assert!(message.contains(wanted), "{message}");
    }
}

/// A mirror that has files and no list, and pages for people elsewhere.
#[test]
fn a_mirror_without_a_list_is_asked_name_by_name() {
    for page in [Reply::of(404), Reply::of(200).body("<html>")] {
        let server = Server::start(move |request| {
            let path = request.path.strip_prefix("/mirror/").unwrap();
            if let Some(name) = between(path, "kept/", "?signed=yes") {
                return Reply::of(200).body(files()[name].clone());
            }
            match path.strip_prefix("o/m/resolve/") {
                None => page.clone(),
                Some(rest) => file_reply(&files(), rest.split_once('/').unwrap().1, "/mirror"),
            }
        });
        let endpoint = format!("{}/mirror", server.address);
        let cache = tempfile::tempdir().unwrap();
        let folder = get("o/m", &settings(&endpoint, cache.path())).unwrap();
        for name in ["config.json", "vocab.txt", "model.safetensors"] {
            assert_eq!(fs::read(folder.join(name)).unwrap(), files()[name]);
        }
        assert!(!folder.join("pytorch_model.bin").exists());
        // The first answer told the commit; all else is asked of that.
        let asked = server.asked();
        assert_eq!(asked[1], "/mirror/o/m/resolve/main/config.json");
        assert!(
            asked[2].starts_with(&format!("/mirror/o/m/resolve/{COMMIT}/")),
            "{}",
            asked[2]
        );
        let offline = Settings {
            offline: true,
            ..settings(&endpoint, cache.path())
        };
        assert_eq!(get("o/m", &offline).unwrap(), folder);
    }
    // Nothing of all that was asked for is there, and nothing says that the model is.
    let nothing = Server::start(|_| Reply::of(404));
    let cache = tempfile::tempdir().unwrap();
    let error = get("o/m", &settings(&nothing.address, cache.path())).unwrap_err();
    assert!(
        error.to_string().contains("has no model o/m, or it is private"),
        "{error}"
    );
    // One that says the commit only where the head alone is asked for, in words of its own.
    let heads = Server::start(|request| {
        let files = files();
        let Some(name) = request
            .path
            .strip_prefix("/o/m/resolve/")
            .and_then(|rest| Some(rest.split_once('/')?.1))
        else {
            return Reply::refusal(404, "RepoNotFound");
        };
        match files.get(name) {
            Some(_) if request.head => Reply::of(200).with("X-Repo-Commit", "abc123"),
            Some(body) => Reply::of(200).body(body.clone()),
            None => Reply::of(404),
        }
    });
    let folder = get("o/m", &settings(&heads.address, cache.path())).unwrap();
    assert!(folder.ends_with("snapshots/abc123") && folder.join("model.safetensors").is_file());
    // Files that do not say which commit they are of cannot be kept as any.
    let nameless = Server::start(|request| match request.path.starts_with("/api/") {
        true => Reply::of(404),
        false => Reply::of(200).body("x"),
    });
    let error = get("o/m", &settings(&nameless.address, cache.path())).unwrap_err();
    assert!(error.to_string().contains("does not say which commit"), "{error}");
}

#[test]
fn answers_that_lead_nowhere_are_errors() {
    let around = Server::start(|request| Reply::of(302).with("Location", request.path.clone()));
    let cache = tempfile::tempdir().unwrap();
    let message = get("o/m", &settings(&around.address, cache.path()))
        .unwrap_err()
        .to_string();
    assert!(message.contains("redirects in a circle"), "{message}");
    // A server that is none of HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        listener
            .incoming()
            .for_each(|connection| drop(connection.unwrap().write_all(b"SSH-2.0-hello\r\n\r\n")))
    });
    let message = get("o/m", &settings(&address, cache.path())).unwrap_err().to_string();
    assert!(message.contains("cannot be reached"), "{message}");
    // One that says nothing at all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&format!("http://{}", silent.local_addr().unwrap()), cache.path());
    settings.timeout = Duration::from_millis(200);
    let message = get("o/m", &settings).unwrap_err().to_string();
    assert!(message.contains("cannot be reached: timeout"), "{message}");
}
