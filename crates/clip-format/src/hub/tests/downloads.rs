//! Downloads that break off, begin again or arrive damaged.

use super::server::Request;
use super::*;

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
