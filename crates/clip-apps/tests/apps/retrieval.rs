//! Retrieval, driven by JSON as a server would.

use std::sync::Arc;

use clip_apps::Retrieval;
use clip_core::serde_json::json;
use clip_core::{Embedder, Embeddings, Endpoint, Kind};

use super::letters::{OnePixel, worker};

fn retrieval() -> Retrieval {
    let (worker, titles) = (worker(), ["banana", "cherry", "cab", "cherry"]);
    let gallery = worker.embed_texts(&titles).unwrap();
    Retrieval::new(worker, gallery, ["p1", "p2", "p3", "p4"].map(str::to_owned).to_vec()).unwrap()
}

#[test]
fn texts_and_pictures_find_their_rows() {
    let app = retrieval().decoder(Arc::new(OnePixel));
    // "YQAA" is the bytes 97 (the letter a), 0, 0.
    let request = json!({ "texts": ["cherries", "nab"], "images": ["data:image/x;base64,YQAA"], "k": 2 });
    let answer = app.call(request).unwrap();
    let found = |query: &str| {
        let queries = answer[query].as_array().unwrap();
        queries
            .iter()
            .map(|hits| {
                hits.as_array()
                    .unwrap()
                    .iter()
                    .map(|hit| hit["id"].as_str().unwrap())
                    .collect()
            })
            .collect()
    };
    let (texts, images): (Vec<Vec<&str>>, Vec<Vec<&str>>) = (found("texts"), found("images"));
    // Equal rows tie; the earlier comes first.
    assert_eq!(texts, [["p2", "p4"], ["p1", "p3"]]);
    assert_eq!(images, [["p1", "p3"]]);
    assert_eq!(answer["texts"][0][0]["row"], 1);
    assert!(answer["images"][0][0]["score"].as_f64().unwrap() > 0.7);
}

#[test]
fn bad_requests_are_refused() {
    let app = retrieval();
    for (request, what) in [
        (json!({ "texts": ["a"], "top": 3 }), "unknown field `top`"),
        (
            json!({ "images": ["data:image/x;base64,YQAA"] }),
            "pictures are not taken",
        ),
        (json!({ "texts": ["a"], "k": 10_001 }), "1 queries of 10001 hits"),
    ] {
        let error = app.call(request).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(what), "{error}");
    }
    let with_pictures = retrieval().decoder(Arc::new(OnePixel));
    let error = with_pictures
        .call(json!({ "images": ["data:image/x;base64,YQAA", "YQAA"] }))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("column `images[1]`: the picture is no data URI"),
        "{error}"
    );
    assert!(app.schema()["request"]["properties"]["texts"].is_object());
    assert_eq!(app.call(json!({})).unwrap(), json!({ "texts": [], "images": [] }));
}

#[test]
fn a_gallery_of_another_model_is_refused() {
    let gallery = Embeddings::new(vec![1.0; 4], 4).unwrap();
    let error = Retrieval::new(worker(), gallery, vec!["p".into()]).err().unwrap();
    assert_eq!(error.what(), "a gallery of 4 dimensions, a model of 26");
    let error = Retrieval::new(worker(), Embeddings::default(), vec!["p".into()])
        .err()
        .unwrap();
    assert_eq!(error.what(), "1 ids for a gallery of 0 rows");
}
