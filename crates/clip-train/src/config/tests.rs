//! What is written is read again; what is wrong says where.

use super::*;

/// Settings of which some are away from their defaults, resolved.
fn resolved() -> RunConfig {
    let mut zoo = Zoo::new();
    objectives::register(&mut zoo).unwrap();
    let config = RunConfig {
        model: Some("dir".into()),
        no_decay: NoDecay::Containing(vec!["ln".into()]),
        logit_scale_range: [f64::NEG_INFINITY, f64::INFINITY],
        rates: BTreeMap::from([("image".to_owned(), 0.1), ("text.layers.0".to_owned(), 0.5)]),
        unique_by: Some("item".into()),
        checkpoint_every: Every::Steps(40),
        ..RunConfig::default()
    };
    config.resolved(&zoo).unwrap()
}

#[test]
fn what_is_written_is_read_again() {
    let mut zoo = Zoo::new();
    objectives::register(&mut zoo).unwrap();
    let resolved = resolved();
    let text = resolved.to_toml().unwrap();
    let again = RunConfig::from_toml(&text, "run.toml").unwrap().resolved(&zoo).unwrap();
    assert_eq!(again, resolved);
    assert_eq!(again.to_toml().unwrap(), text);
    let empty = RunConfig::default().to_toml().unwrap();
    assert_eq!(RunConfig::from_toml(&empty, "run.toml").unwrap(), RunConfig::default());
}

#[test]
fn every_key_there_is_stands_in_the_file() {
    let text = resolved().to_toml().unwrap();
    for line in [
        "lr = 0.00005",
        "model = \"dir\"",
        "# image_tower: not set",
        "unique_by = \"item\"",
        "# max_steps: not set",
        "checkpoint_every = 40",
        "[evaluation]\nevery = \"epoch\"\nmetric = \"valid_mean_recall\"\n# patience: not set\n",
        "logit_scale_range = [-inf, inf]",
        "[rates]\nimage = 0.1\n\"text.layers.0\" = 0.5",
        "# id_column: not set\nbad_rows = \"stop\"",
        "[objectives.info_nce]\nweight = 1.0",
        "label_smoothing = 0.0",
        "same_item = \"positive\"",
        "libtorch = ",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_figure_that_no_evaluation_has_is_found_before_anything_is_trained() {
    let text = "[evaluation]\nmetric = \"valid_r@2_text_to_image\"";
    let error = RunConfig::from_toml(text, "run.toml").unwrap_err().to_string();
    let known = "set evaluation.metric to one of valid_mean_recall, valid_r@1_text_to_image, ";
    assert!(
        error.contains("no figure `valid_r@2_text_to_image`") && error.contains(known),
        "{error}"
    );
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let cases = [
        (
            "\nbatchsize = 3",
            "run.toml, row 2: unknown key `batchsize`; did you mean `batch_size`?",
        ),
        (
            "[evaluation]\nmetrics = 3",
            "run.toml, row 2: unknown key `metrics`; did you mean `metric`?",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(RunConfig::from_toml(text, "run.toml").unwrap_err().to_string(), message);
    }
    let error = RunConfig::from_toml("zzzzzzz = 3", "run.toml").unwrap_err().to_string();
    assert!(
        error.starts_with("run.toml, row 1: unknown key `zzzzzzz`; known: "),
        "{error}"
    );
}

#[test]
fn an_objectives_unknown_key_and_name_are_refused_when_resolved() {
    let mut zoo = Zoo::new();
    objectives::register(&mut zoo).unwrap();
    let resolve = |text: &str| {
        RunConfig::from_toml(text, "run.toml")
            .unwrap()
            .resolved(&zoo)
            .unwrap_err()
            .to_string()
    };
    let error = resolve("[objectives.info_nce]\nlabel_smooting = 0.1");
    assert_eq!(
        error,
        "unknown key `label_smooting` in [objectives.info_nce]; did you mean `label_smoothing`?"
    );
    let error = resolve("[objectives.info_nce]\nsmoothing = 0.1");
    assert!(
        error.contains("`smoothing`") && error.contains("known: label_smoothing"),
        "{error}"
    );
    let error = resolve("[objectives.other]");
    assert!(
        error.contains("unknown objective `other`; known: ") && error.contains("info_nce"),
        "{error}"
    );
    assert!(resolve("[objectives.info_nce]\nweight = -1").contains("weight"));
}

#[test]
fn wrong_values_say_where() {
    let error = RunConfig::from_toml("epochs = \"three\"", "run.toml")
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("run.toml, row 1: "), "{error}");
    assert!(error.contains("epochs") || error.contains("three"), "{error}");
    for text in [
        "batch_size = 0",
        "lr = nan",
        "betas = [0.9, 1.0]",
        "logit_scale_range = [1.0, 0.0]",
        "keep = 0",
    ] {
        assert!(RunConfig::from_toml(text, "run.toml").is_err(), "{text}");
    }
}

#[test]
fn steps_of_a_run() {
    let config = RunConfig {
        epochs: 3,
        batch_size: 8,
        ..RunConfig::default()
    };
    assert_eq!(config.steps(Some(17)).unwrap(), 9);
    let whole = RunConfig {
        drop_last: true,
        ..config.clone()
    };
    assert_eq!(whole.steps(Some(17)).unwrap(), 6);
    assert!(whole.steps(Some(7)).is_err() && config.steps(Some(0)).is_err() && config.steps(None).is_err());
    let few = RunConfig {
        max_steps: Some(4),
        ..config
    };
    assert_eq!((few.steps(Some(17)).unwrap(), few.steps(None).unwrap()), (4, 4));
}
