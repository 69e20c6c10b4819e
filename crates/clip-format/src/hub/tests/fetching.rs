//! What is asked for, where it is kept, and that it is not asked for again.

use serde_json::json;

use super::*;
use crate::{Checkpoint, Families};

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

/// As transformers 5 saves it.
#[test]
fn a_model_whose_preprocessing_is_in_its_processor_s_config_opens_with_it() {
    let mut files = files();
    let config = json!({"model_type": "clipzoo", "vision_config": {"model_type": "mine", "image_size": 8}});
    files.insert("config.json", config.to_string().into_bytes());
    let pictures = json!({
        "image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8}, "image_mean": [0.25, 0.25, 0.25],
    });
    let processor = json!({"image_processor": pictures, "processor_class": "SiglipProcessor"});
    files.insert("processor_config.json", processor.to_string().into_bytes());
    let (hub, _kept) = hub_of(files);
    let cache = tempfile::tempdir().unwrap();
    let settings = settings(&hub.address, cache.path());
    let mean = |folder: &Path| {
        let checkpoint = Checkpoint::open(folder, &Families::bundled()).unwrap();
        checkpoint.transform_config().unwrap().mean
    };
    let folder = get("o/m", &settings).unwrap();
    assert_eq!(mean(&folder), [0.25; 3]);
    // A snapshot fetched by a program that did not ask for the file yet.
    fs::remove_file(folder.join("processor_config.json")).unwrap();
    assert_ne!(mean(&folder), [0.25; 3]);
    assert_eq!(get("o/m", &settings).unwrap(), folder);
    assert_eq!(mean(&folder), [0.25; 3]);
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
