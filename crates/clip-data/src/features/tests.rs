//! Feature files: round trips, order, and what is refused.

use std::fs;
use std::path::PathBuf;

use clip_core::{Embeddings, FeatureRows};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn features(values: &[f32], dim: usize) -> Option<Embeddings> {
    Some(Embeddings::new(values.to_vec(), dim).unwrap())
}

fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

fn sink(path: &Path) -> Box<dyn FeatureSink> {
    open_sink(
        path,
        SinkOptions {
            metadata: [("dtype".to_owned(), "f32".to_owned())].into(),
            ..SinkOptions::default()
        },
    )
    .unwrap()
}

fn texts(first: u64, values: &[f32]) -> FeatureRows {
    FeatureRows {
        first,
        texts: features(values, 2),
        ..FeatureRows::default()
    }
}

fn images(first: u64, values: &[f32]) -> FeatureRows {
    FeatureRows {
        first,
        images: features(values, 3),
        ..FeatureRows::default()
    }
}

#[test]
fn safetensors_takes_modalities_in_any_order() {
    let (folder, path) = place("x.safetensors");
    let mut out = sink(&path);
    out.append(images(0, &[1.0, 2.0, 3.0])).unwrap();
    out.append(texts(0, &[0.1, 0.2])).unwrap();
    out.append(FeatureRows {
        images: features(&[4.0, 5.0, 6.0], 3),
        ..texts(1, &[0.3, 0.4])
    })
    .unwrap();
    out.append(texts(2, &[0.5, 0.6, 0.7, 0.8])).unwrap();
    assert!(!path.exists());
    out.commit().unwrap();
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["x.safetensors"]);
    let read = |name| read_features(&path, name).unwrap();
    assert_eq!(
        read("text_features"),
        features(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 2).unwrap()
    );
    assert_eq!(
        read("image_features"),
        features(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).unwrap()
    );
    let file = crate::TensorFile::open(&path).unwrap();
    assert_eq!(file.metadata("dtype"), Some("f32"));
    // The reference reader agrees.
    let bytes = fs::read(&path).unwrap();
    let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("text_features").unwrap().shape(), [4, 2]);
    let error = read_features(&path, "features").unwrap_err();
    assert_eq!(
        error.what(),
        "there is no array `features`; there are: image_features, text_features"
    );
}

#[test]
fn refused_rows_do_not_shift_the_others() {
    for name in ["x.safetensors", "x.npy"] {
        let (_folder, path) = place(name);
        let mut out = sink(&path);
        out.append(texts(1, &[1.0, 2.0])).unwrap();
        out.append(texts(3, &[3.0, 4.0])).unwrap();
        out.append(texts(5, &[])).unwrap();
        out.commit().unwrap();
        let expected = features(&[0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0], 2).unwrap();
        assert_eq!(read_features(&path, "text_features").unwrap(), expected);
    }
    let (_folder, path) = place("x.jsonl");
    let mut out = sink(&path);
    out.append(texts(1, &[1.0, 0.059_167_35])).unwrap();
    out.append(texts(3, &[])).unwrap();
    out.commit().unwrap();
    let lines = "{\"text_features\":null}\n{\"text_features\":[1.0,0.05916735]}\n{\"text_features\":null}\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), lines);
    let (_folder, path) = place("x.tsv");
    let mut out = sink(&path);
    out.append(images(1, &[1.0, -1.5e-5, 0.5])).unwrap();
    out.commit().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "0.0\t0.0\t0.0\n1.0\t-1.5e-05\t0.5\n"
    );
}

#[test]
fn lines_carry_columns() {
    let columns = vec![json!({ "id": "a\"1", "n": 2 }), json!({ "id": "b", "n": null })];
    let (_folder, path) = place("x.jsonl");
    let mut out = sink(&path);
    let both = FeatureRows {
        images: features(&[1.0, 2.0], 1),
        ..texts(0, &[0.5, 0.25, 1.0, 0.0])
    };
    out.append(FeatureRows {
        columns: columns.clone(),
        ..both
    })
    .unwrap();
    out.commit().unwrap();
    let lines = concat!(
        r#"{"id":"a\"1","n":2,"text_features":[0.5,0.25],"image_features":[1.0]}"#,
        "\n",
        r#"{"id":"b","n":null,"text_features":[1.0,0.0],"image_features":[2.0]}"#,
        "\n"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), lines);
    let (_folder, path) = place("x.tsv");
    let mut out = sink(&path);
    out.append(FeatureRows {
        columns,
        ..texts(0, &[0.5, 0.25, 1.0, 0.0])
    })
    .unwrap();
    out.commit().unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "0.5\t0.25\ta\"1\t2\n1.0\t0.0\tb\t\n"
    );
}

#[test]
fn columns_stand_beside_arrays() {
    for name in ["x.safetensors", "x.npy"] {
        let (folder, path) = place(name);
        let beside = folder.path().join(format!("{name}.columns.jsonl"));
        let mut out = sink(&path);
        for (first, ids) in [(0, ["a", "b"]), (3, ["d", "e"])] {
            out.append(FeatureRows {
                columns: ids.map(|id| json!({ "id": id, "n": 1 })).to_vec(),
                ..texts(first, &[0.5, 0.25, 1.0, 0.0])
            })
            .unwrap();
        }
        assert!(!beside.exists());
        out.commit().unwrap();
        let lines =
            "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":1}\n{}\n{\"id\":\"d\",\"n\":1}\n{\"id\":\"e\",\"n\":1}\n";
        assert_eq!(fs::read_to_string(&beside).unwrap(), lines);
        assert_eq!(read_features(&path, "text_features").unwrap().len(), 5);
        // Those of an earlier run do not stay beside other rows.
        let mut out = sink(&path);
        out.append(texts(0, &[0.5, 0.25])).unwrap();
        out.commit().unwrap();
        assert!(!beside.exists());
    }
}

#[test]
fn a_row_of_zeros_is_nothing() {
    let (_folder, path) = place("x.jsonl");
    let mut out = sink(&path);
    out.append(FeatureRows {
        columns: vec![json!({ "id": 1 }), json!({ "id": 2 })],
        ..texts(0, &[0.0, 0.0, 0.0, 1.0])
    })
    .unwrap();
    out.commit().unwrap();
    let lines = "{\"id\":1,\"text_features\":null}\n{\"id\":2,\"text_features\":[0.0,1.0]}\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), lines);
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    let both = || FeatureRows {
        images: features(&[1.0], 1),
        ..texts(0, &[1.0, 2.0])
    };
    let message = |name: &str, rows: Vec<FeatureRows>| {
        let (folder, path) = place(name);
        let mut out = sink(&path);
        let result = rows
            .into_iter()
            .try_for_each(|rows| out.append(rows))
            .and_then(|()| out.commit());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
        result
            .unwrap_err()
            .to_string()
            .replace(&path.display().to_string(), name)
    };
    assert_eq!(
        message("x.npy", vec![both()]),
        "x.npy: a .npy file holds one array, texts or images; write .safetensors, or one of the two"
    );
    assert_eq!(
        message("x.tsv", vec![both()]),
        "x.tsv: EasyNLP's format holds one kind of features, texts or images; write .safetensors or .jsonl"
    );
    let apart = "a line holds the text and the image of one row, and they did not come together; \
                 write .safetensors, or one of the two";
    for name in ["x.npy", "x.jsonl", "x.tsv"] {
        assert_eq!(
            message(name, vec![texts(0, &[1.0, 2.0]), images(0, &[1.0, 2.0, 3.0])]),
            format!("{name}: {apart}")
        );
    }
    for name in ["x.safetensors", "x.npy", "x.jsonl", "x.tsv"] {
        assert_eq!(message(name, vec![]), format!("{name}: there are no features to write"));
        assert_eq!(
            message(name, vec![texts(0, &[1.0, 2.0]), texts(1, &[0.0, f32::NAN])]),
            format!("{name}, row 2, column `text_features`: it holds NaN, which is no finite number")
        );
        assert_eq!(
            message(name, vec![texts(0, &[1.0, 2.0]), texts(0, &[1.0, 2.0])]),
            format!("{name}: row 0 of text_features came behind row 1")
        );
        let wider = FeatureRows {
            first: 1,
            texts: features(&[1.0; 3], 3),
            ..FeatureRows::default()
        };
        assert_eq!(
            message(name, vec![texts(0, &[1.0, 2.0]), wider]),
            format!("{name}: text_features of 3 dimensions follow ones of 2")
        );
    }
    let tab = FeatureRows {
        columns: vec![json!({ "id": "a\tb" })],
        ..texts(0, &[1.0, 2.0])
    };
    assert_eq!(
        message("x.tsv", vec![tab]),
        "x.tsv, column `id`: the cell holds a tab or a line end, which a TSV file cannot; write .jsonl"
    );
}

#[test]
fn places_and_extensions_are_judged_at_the_start() {
    let open = |path: &Path| open_sink(path, SinkOptions::default()).err().unwrap();
    let (_folder, path) = place("x.bin");
    assert_eq!(open(&path).what(), "the extension does not say how to write features");
    #[cfg(not(feature = "parquet"))]
    assert_eq!(open(Path::new("x.parquet")).what(), "this build writes no Parquet");
    let (_folder, path) = place("no/x.npy");
    assert!(open(&path).what().starts_with("there is no folder `"));
    assert_eq!(
        open(Path::new("/proc/self/x.safetensors")).kind(),
        clip_core::Kind::NotFound
    );
}

fn npy_message(bytes: &[u8]) -> String {
    let (_folder, path) = place("x.npy");
    fs::write(&path, bytes).unwrap();
    read_features(&path, "")
        .unwrap_err()
        .to_string()
        .replace(&path.display().to_string(), "x.npy")
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [
        b"\x93NUMPY\x01\x00".as_slice(),
        &(header.len() as u16).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn numpy_arrays_that_are_no_features() {
    assert_eq!(
        npy_message(b"\x93NUM"),
        "x.npy: this is no NumPy array; write it with numpy.save"
    );
    assert_eq!(
        npy_message(&[1; 200]),
        "x.npy: this is no NumPy array; write it with numpy.save"
    );
    let header = |kind: &str, order: &str, shape: &str| {
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': ({shape}), }}\n")
    };
    let remedy = "; write numpy.save(file, features.astype(\"float32\"))";
    assert_eq!(
        npy_message(&npy(&header("<i8", "False", "1, 1"), &[0; 8])),
        format!("x.npy: the array is of type `<i8`{remedy}")
    );
    assert_eq!(
        npy_message(&npy(&header("<f4", "True", "1, 1"), &[0; 4])),
        format!("x.npy: the array is in column order{remedy}")
    );
    assert_eq!(
        npy_message(&npy(&header("<f4", "False", "3,"), &[0; 12])),
        "x.npy: `the array` has the shape [3], and features have [rows, dimensions]"
    );
    assert_eq!(
        npy_message(&npy(&header("<f4", "False", "2, 2"), &[0; 15])),
        "x.npy: the shape [2, 2] does not fit the 15 bytes behind the header; the file was cut: write it again"
    );
    let infinite = [1.0, 2.0, f32::INFINITY, 4.0].map(f32::to_le_bytes).concat();
    assert_eq!(
        npy_message(&npy(&header("<f4", "False", "2, 2"), &infinite)),
        "x.npy, row 2: it holds inf, which is no finite number"
    );
    let (_folder, path) = place("x.npy");
    fs::write(
        &path,
        npy(
            &header("<f8", "False", "1, 2"),
            &[0.5, 0.25].map(f64::to_le_bytes).concat(),
        ),
    )
    .unwrap();
    assert_eq!(read_features(&path, "").unwrap(), features(&[0.5, 0.25], 2).unwrap());
}

proptest! {
    #[test]
    fn features_come_back(values in prop::collection::vec(-1e30f32..1e30, 1..40), piece in 1usize..9) {
        for name in ["x.safetensors", "x.npy"] {
            let (_folder, path) = place(name);
            let mut out = sink(&path);
            for (at, values) in values.chunks(piece).enumerate() {
                let rows = FeatureRows { first: (at * piece) as u64, texts: features(values, 1), ..FeatureRows::default() };
                out.append(rows).unwrap();
            }
            out.commit().unwrap();
            prop_assert_eq!(read_features(&path, "text_features").unwrap().into_data(), values.as_slice());
        }
        let (_folder, path) = place("x.tsv");
        let mut out = sink(&path);
        out.append(FeatureRows { texts: features(&values, 1), ..FeatureRows::default() }).unwrap();
        out.commit().unwrap();
        let read: Vec<f32> = fs::read_to_string(&path).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        prop_assert_eq!(read, values);
    }

    #[test]
    fn no_bytes_panic(header in "\\PC{0,60}", shape in "[0-9, ]{0,25}", data in prop::collection::vec(any::<u8>(), 0..40)) {
        let (_folder, path) = place("x.npy");
        for header in [header, format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}")] {
            fs::write(&path, npy(&header, &data)).unwrap();
            read_features(&path, "").ok();
        }
    }
}
