//! Parts that outlive a killed run: kept whole, taken over once.

use std::sync::{Arc, Mutex};

use super::*;

/// Rows as a sink was given them.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Appended>>>);

/// First row, features, columns.
type Appended = (u64, Vec<f32>, Vec<Value>);

impl FeatureSink for Log {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        let values = [rows.texts, rows.images].into_iter().flatten();
        let values = values.flat_map(Embeddings::into_data).collect();
        self.0.lock().unwrap().push((rows.first, values, rows.columns));
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn way(dims: Option<u64>) -> Map<String, Value> {
    let way = json!({ "--model": { "id": "abc" }, "--dims": dims });
    way.as_object().unwrap().clone()
}

fn texts(first: u64, values: &[f32]) -> FeatureRows {
    let columns = values.iter().map(|value| json!({ "id": value })).collect();
    FeatureRows {
        first,
        texts: Some(Embeddings::new(values.to_vec(), 1).unwrap()),
        columns,
        ..FeatureRows::default()
    }
}

fn images(first: u64, values: &[f32]) -> FeatureRows {
    let texts = texts(first, values);
    FeatureRows {
        images: texts.texts,
        texts: None,
        ..texts
    }
}

fn open(output: &Path, resume: bool) -> Result<Parts> {
    Parts::open(output, &way(None), true, resume)
}

#[test]
fn what_is_finished_comes_back_and_what_is_not_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.npy");
    let mut parts = open(&output, false).unwrap();
    let bad = Error::invalid("no \"picture\"")
        .file("t.tsv")
        .row(3)
        .column("image")
        .remedy("look");
    for row in [1, 4] {
        parts.refuse(Part::Texts, row, &bad).unwrap();
    }
    let mut sink = parts.keep(Box::new(Log::default()), 2);
    for rows in [
        texts(0, &[1.0, 0.0]),
        texts(2, &[3.0]),
        texts(3, &[4.0]),
        texts(4, &[5.0]),
    ] {
        sink.append(rows).unwrap();
    }
    drop((sink, parts));
    // Ended there: one row is in no finished part, and a line was cut.
    let journal = folder.path().join("x.npy.parts").join(REFUSED);
    let mut lines = fs::read_to_string(&journal).unwrap();
    lines.push_str("{\"part\": \"te");
    fs::write(&journal, lines).unwrap();
    fs::write(folder.path().join("x.npy.parts/.texts.partial"), "half").unwrap();
    let parts = open(&output, true).unwrap();
    assert_eq!(
        (parts.rows(Part::Texts), parts.rows(Part::Rows), parts.total()),
        (4, 0, 4)
    );
    let refused: Vec<String> = parts.refused().map(ToString::to_string).collect();
    assert_eq!(refused, ["t.tsv, row 3, column `image`: no \"picture\""]);
    assert!(!folder.path().join("x.npy.parts/.texts.partial").exists());
    let log = Log::default();
    parts.replay(&mut log.clone()).unwrap();
    let ids = |values: [f32; 2]| values.map(|value| json!({ "id": value })).to_vec();
    let wanted = [
        (0, vec![1.0, 0.0], ids([1.0, 0.0])),
        (2, vec![3.0, 4.0], ids([3.0, 4.0])),
    ];
    assert_eq!(*log.0.lock().unwrap(), wanted);
    // It goes on behind them, and another kind of rows has parts of its own.
    let mut sink = parts.keep(Box::new(log), 2);
    sink.append(texts(4, &[5.0])).unwrap();
    sink.append(images(0, &[6.0, 7.0])).unwrap();
    sink.commit().unwrap();
    drop(parts);
    let parts = open(&output, true).unwrap();
    assert_eq!((parts.rows(Part::Texts), parts.rows(Part::Images)), (5, 2));
    parts.remove().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_the_same_run_goes_on_and_only_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.npy");
    let parts = open(&output, false).unwrap();
    let error = open(&output, true).unwrap_err();
    assert_eq!(error.what(), "another process is writing this output");
    let mut sink = parts.keep(Box::new(Log::default()), 1);
    sink.append(texts(0, &[1.0])).unwrap();
    drop(sink);
    assert_eq!(parts.leave(), 1);
    let error = open(&output, false).unwrap_err();
    assert_eq!(error.what(), "1 rows of an earlier run are finished and kept here");
    let error = Parts::open(&output, &way(Some(4)), true, true).unwrap_err();
    assert_eq!(
        error.what(),
        "the rows kept here were made otherwise: --dims was not given, and is 4"
    );
    let mut other = way(None);
    other.insert("--model".into(), json!({ "id": "abd" }));
    let error = Parts::open(&output, &other, true, true).unwrap_err();
    assert_eq!(
        error.what(),
        "the rows kept here were made otherwise: --model is not what it was"
    );
    // A part that was cut does not count, nor does what is behind it.
    let part = Part::Texts.file(&Parts::beside(&output), 0);
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    let parts = open(&output, true).unwrap();
    assert_eq!(parts.total(), 0);
    assert_eq!(parts.leave(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
