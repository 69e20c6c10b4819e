//! Classification: labels of the app, labels of the request, templates and synonyms.

use std::sync::Arc;

use clip_apps::{Class, Classes, Classify, Templates};
use clip_core::serde_json::{Value, json};
use clip_core::{Endpoint, Kind};

use super::letters::{OnePixel, worker};

/// The letters a and b, as pictures.
const A: &str = "data:image/x;base64,YQAA";
const B: &str = "data:image/x;base64,YgAA";

fn app() -> Classify {
    Classify::new(worker(), Arc::new(OnePixel))
}

fn labels(answer: &Value, image: usize) -> Vec<&str> {
    let hits = answer["images"][image].as_array().unwrap();
    hits.iter().map(|hit| hit["label"].as_str().unwrap()).collect()
}

#[test]
fn the_likeliest_labels_of_pictures() {
    let classes = [("bbb", &["bb"][..]), ("a", &[]), ("ab", &[])].map(|(label, synonyms)| Class {
        label: label.into(),
        synonyms: synonyms.iter().map(|&name| name.into()).collect(),
    });
    let bare = Templates::new(vec!["{}".into()]).unwrap();
    let app = app().labels(Classes::new(classes.to_vec()).unwrap(), &bare).unwrap();
    let answer = app.call(json!({ "images": [A, B], "k": 2 })).unwrap();
    assert_eq!(
        (labels(&answer, 0), labels(&answer, 1)),
        (vec!["a", "ab"], vec!["bbb", "ab"])
    );
    // Cosines 1, √½ and 0 at a temperature of 1.
    let e = |x: f64| x.exp();
    let wanted = e(1.0) / (e(1.0) + e(0.5f64.sqrt()) + e(0.0));
    assert!((answer["images"][0][0]["probability"].as_f64().unwrap() - wanted).abs() < 1e-6);

    // A request's own labels take the place of the app's.
    let request = json!({ "images": [A], "labels": [{ "label": "b" }, { "label": "c", "synonyms": ["a"] }], "templates": ["{}"] });
    assert_eq!(labels(&app.call(request).unwrap(), 0), ["c", "b"]);
    assert_eq!(app.call(json!({ "images": [] })).unwrap(), json!({ "images": [] }));
}

#[test]
fn templates_and_synonyms_are_means() {
    // A synonym of the other letter pulls the label half way: cosine √½ to both.
    let request =
        json!({ "images": [A, B], "labels": [{ "label": "a", "synonyms": ["b"] }], "templates": ["{}", "{}{}"] });
    let answer = app().call(request).unwrap();
    for image in 0..2 {
        let score = answer["images"][image][0]["score"].as_f64().unwrap();
        assert!((score - 0.5f64.sqrt()).abs() < 1e-6, "{score}");
    }
}

#[test]
fn bad_requests_are_refused() {
    let many: Vec<Value> = (0..5000).map(|number| json!({ "label": number.to_string() })).collect();
    for (request, what) in [
        (
            json!({ "images": [A] }),
            "column `labels`: there are no labels to choose from",
        ),
        (
            json!({ "images": [A], "labels": [{ "label": "a" }, { "label": "A" }] }),
            "column `labels`: `A` stands for two labels",
        ),
        (
            json!({ "images": [A], "labels": [{ "label": "a" }], "templates": ["x"] }),
            "column `templates`: the template `x` has no place",
        ),
        (
            json!({ "images": ["x"], "labels": [{ "label": "a" }] }),
            "column `images[0]`: the picture is no data URI",
        ),
        (
            json!({ "images": [], "labels": many }),
            "5000 texts of labels in templates",
        ),
        (
            json!({ "images": vec![A; 257], "labels": [{ "label": "a" }] }),
            "257 pictures in one request",
        ),
        (json!({ "labels": [{ "label": "a" }] }), "missing field `images`"),
    ] {
        let error = app().call(request).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(what), "{error}");
    }
    let own = Classes::new(vec![Class {
        label: "a".into(),
        ..Class::default()
    }])
    .unwrap();
    let own = app().labels(own, &Templates::default()).unwrap();
    let error = own.call(json!({ "images": [A], "templates": ["{}"] })).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("templates are for labels of the same request"),
        "{error}"
    );
    assert!(own.schema()["request"]["properties"]["labels"].is_object());
}
