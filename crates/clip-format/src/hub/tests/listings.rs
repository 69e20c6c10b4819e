//! Which of a model's files are wanted, by its list, its index, or name by name.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

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
