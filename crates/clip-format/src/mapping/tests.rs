//! Every operation, both ways.

use std::borrow::Cow;

use super::*;
use crate::tensor::{Dtype, Weights};
use crate::testing::Table;

const ALL: &[Row] = &[
    Row::Same {
        file: "ln.{p}",
        model: "norm.{p}",
    },
    Row::Transpose {
        file: "proj",
        model: "projection",
    },
    Row::Concat {
        file: &["{i}.q", "{i}.k", "{i}.v"],
        model: "{i}.qkv",
    },
    Row::Concat {
        file: &["pool.q", "pool.kv", "pool.kv"],
        model: "pool.qkv",
    },
    Row::Split {
        file: "kv",
        model: &["key", "value"],
    },
    Row::Reshape {
        file: "cls",
        model: "class",
        file_rank: 3,
        model_rank: 1,
    },
    Row::Reshape {
        file: "scale",
        model: "scale",
        file_rank: 1,
        model_rank: 0,
    },
    Row::Default {
        model: "bias",
        rows_of: "proj",
    },
    Row::Counter {
        file: "bn.count",
        model: "bn.batches",
        beside: "bn.mean",
    },
    Row::Same {
        file: "bn.{*}",
        model: "bn.{*}",
    },
    Row::Drop { file: "{*}.ids" },
];

fn mapping() -> Mapping {
    Mapping::new().under("f.", "m.", ALL).unwrap()
}

fn file() -> Table {
    let mut file = Table::new([]);
    file.counting("f.kv", &[4, 3], 0.0);
    file.counting("f.0.k", &[2, 3], 20.0);
    file.counting("f.ln.weight", &[3], 30.0);
    file.counting("f.0.q", &[2, 3], 40.0);
    file.counting("f.0.v", &[2, 3], 50.0);
    file.counting("f.proj", &[2, 3], 60.0);
    file.counting("f.cls", &[1, 1, 5], 70.0);
    file.counting("f.scale", &[1], 80.0);
    file.counting("f.pool.kv", &[4], 90.0);
    file.counting("f.pool.q", &[2], 100.0);
    file
}

fn load(file: &Table) -> Result<Remapped<&dyn Weights>> {
    Remapped::load(&mapping(), file as &dyn Weights)
}

#[test]
fn every_operation_loads() {
    let file = file();
    let model = load(&file).unwrap();
    let shown: Vec<String> = model
        .tensors()
        .iter()
        .map(|tensor| format!("{} {:?}", tensor.name, tensor.shape))
        .collect();
    let wanted = [
        "m.key [2, 3]",
        "m.value [2, 3]",
        "m.0.qkv [6, 3]",
        "m.norm.weight [3]",
        "m.projection [3, 2]",
        "m.class [5]",
        "m.scale []",
        "m.pool.qkv [6]",
        "m.bias [2]",
    ];
    assert_eq!(shown, wanted);
    let values = |name| model.view(name).unwrap().unwrap().to_f32().unwrap();
    assert_eq!(values("m.projection"), [60.0, 63.0, 61.0, 64.0, 62.0, 65.0]);
    assert_eq!(values("m.value"), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    assert_eq!(values("m.0.qkv")[..7], [40.0, 41.0, 42.0, 43.0, 44.0, 45.0, 20.0]);
    assert_eq!(values("m.pool.qkv"), [100.0, 101.0, 90.0, 91.0, 92.0, 93.0]);
    assert_eq!(values("m.bias"), [0.0, 0.0]);
}

#[test]
fn a_number_stands_in_only_where_the_file_has_none() {
    const ROWS: &[Row] = &[
        Row::Reshape {
            file: "scale",
            model: "scale",
            file_rank: 1,
            model_rank: 0,
        },
        Row::Number {
            model: "scale",
            value: 2.5,
        },
    ];
    let mapping = Mapping::new().under("f.", "m.", ROWS).unwrap();
    let value = |file: &Table| {
        let model = Remapped::load(&mapping, file as &dyn Weights).unwrap();
        assert_eq!(model.names(), ["m.scale"]);
        let back = Table::of(&Remapped::save(&mapping, &model as &dyn Weights).unwrap());
        assert_eq!((back.names(), &back.tensors()[0].shape), (vec!["f.scale"], &vec![1]));
        model.view("m.scale").unwrap().unwrap().to_f32().unwrap()
    };
    assert_eq!(value(&Table::new([])), [2.5]);
    assert_eq!(value(&Table::new([("f.scale", vec![1], vec![7.0])])), [7.0]);
}

#[test]
fn same_and_reshape_borrow() {
    let file = file();
    let model = load(&file).unwrap();
    for (name, borrowed) in [
        ("m.norm.weight", true),
        ("m.class", true),
        ("m.projection", false),
        ("m.0.qkv", false),
    ] {
        let data = model.view(name).unwrap().unwrap().data;
        assert_eq!(matches!(data, Cow::Borrowed(_)), borrowed, "{name}");
    }
}

#[test]
fn every_operation_saves_back() {
    let file = file();
    let model = load(&file).unwrap();
    let back = Remapped::save(&mapping(), &model as &dyn Weights).unwrap();
    assert_eq!(Table::of(&back), Table::of(&file));
}

#[test]
fn a_counter_is_kept_and_written_as_zero_where_the_model_has_none() {
    let count = |table: &Table| {
        let view = table.view("f.bn.count").unwrap();
        view.map(|view| (view.dtype, view.shape.len(), view.data.into_owned()))
    };
    let mut given = Table::new([("f.bn.mean", vec![2], vec![1.0, 2.0])]);
    given.push_count("f.bn.count", 1234);
    let model = load(&given).unwrap();
    assert_eq!(model.names(), ["m.bn.mean", "m.bn.batches"]);
    assert_eq!(mapping().model_name("f.bn.count").as_deref(), Some("m.bn.batches"));
    let back = Table::of(&Remapped::save(&mapping(), &model as &dyn Weights).unwrap());
    assert_eq!(back, Table::of(&given));
    // A trained model has the norm alone.
    let trained = Table::new([("m.bn.mean", vec![2], vec![1.0, 2.0])]);
    let back = Table::of(&Remapped::save(&mapping(), &trained as &dyn Weights).unwrap());
    assert_eq!(back.names(), ["f.bn.count", "f.bn.mean"]);
    assert_eq!(count(&back), Some((Dtype::I64, 0, vec![0; 8])));
    // Nothing to stand beside: nothing is written.
    let other = Table::new([("m.norm.weight", vec![1], vec![1.0])]);
    assert_eq!(
        Remapped::save(&mapping(), &other as &dyn Weights).unwrap().names(),
        ["f.ln.weight"]
    );
}

#[test]
fn what_no_row_knows_stays_visible_on_load_and_is_an_error_on_save() {
    let mut file = file();
    file.counting("f.extra", &[1], 0.0);
    file.counting("f.x.ids", &[1], 0.0);
    file.counting("f.1.k", &[2, 3], 0.0);
    let model = load(&file).unwrap();
    let names = model.names();
    assert!(names.contains(&"f.extra") && names.contains(&"f.1.k"));
    assert!(!names.contains(&"f.x.ids") && !names.contains(&"m.1.qkv"));
    let error = Remapped::save(&mapping(), &model as &dyn Weights)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the layout has no place for `f.extra`, `f.1.k`");
}

#[test]
fn a_default_that_was_trained_cannot_be_saved() {
    let model = Table::new([
        ("m.projection", vec![1, 2], vec![1.0, 2.0]),
        ("m.bias", vec![2], vec![0.0, 0.5]),
    ]);
    let error = Remapped::save(&mapping(), &model as &dyn Weights)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the layout has no place for `m.bias`, which is no longer zero");
}

#[test]
fn a_shape_that_cannot_be_reshaped_stays() {
    let file = Table::new([("f.scale", vec![], vec![4.0]), ("f.cls", vec![2, 1, 5], vec![0.0; 10])]);
    let model = load(&file).unwrap();
    assert_eq!(model.tensors()[0].shape, [0usize; 0]);
    assert_eq!(model.tensors()[1].shape, [2, 1, 5], "left for the strict report");
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let error = |name: &str, shape: &[usize]| {
        let mut file = Table::new([]);
        file.counting(name, shape, 0.0);
        load(&file).unwrap_err().to_string()
    };
    assert_eq!(error("f.proj", &[4]), "tensor `f.proj` [4] should be a matrix");
    assert_eq!(error("f.kv", &[3, 2]), "tensor `f.kv` [3, 2] cannot be cut in 2");
    let parts = Table::new([
        ("f.0.q", vec![1, 2], vec![0.0; 2]),
        ("f.0.k", vec![1, 2], vec![0.0; 2]),
        ("f.0.v", vec![1, 3], vec![0.0; 3]),
    ]);
    assert!(
        load(&parts)
            .unwrap_err()
            .to_string()
            .contains("do not fit: `f.0.q` [1, 2]")
    );
}

#[test]
fn a_part_has_as_many_rows_as_its_shares() {
    let parts = |rows: [usize; 2]| {
        let mut file = Table::new([]);
        file.counting("f.pool.q", &[rows[0], 2], 0.0);
        file.counting("f.pool.kv", &[rows[1], 2], 50.0);
        load(&file).map(|model| model.tensors()[0].shape.clone())
    };
    assert_eq!(parts([3, 6]).unwrap(), [9, 2]);
    // As many together, but not as they are cut again.
    let error = parts([6, 3]).unwrap_err().to_string();
    assert!(
        error.contains("do not fit: `f.pool.q` [6, 2], `f.pool.kv` [3, 2]"),
        "{error}"
    );
}

/// A tensor without elements may claim other sides of any size.
#[test]
fn sides_beside_one_of_0_neither_overflow_nor_take_time() {
    const HALF: usize = 1 << 63;
    let empty = |tensors: &[(&str, &[usize])]| {
        let mut file = Table::new([]);
        for (name, shape) in tensors {
            file.push_bytes(name, Dtype::F32, shape.to_vec(), Vec::new());
        }
        file
    };
    let parts = empty(&[("f.0.q", &[HALF, 0]), ("f.0.k", &[HALF, 0]), ("f.0.v", &[HALF, 0])]);
    let error = load(&parts).unwrap_err().to_string();
    assert!(
        error.contains("do not fit: `f.0.q` [9223372036854775808, 0]"),
        "{error}"
    );
    let file = empty(&[
        ("f.1.q", &[1 << 61, 4, 0]),
        ("f.1.k", &[1 << 61, 4, 0]),
        ("f.1.v", &[1 << 61, 4, 0]),
        ("f.kv", &[0, HALF, HALF]),
        ("f.proj", &[0, HALF]),
    ]);
    let model = load(&file).unwrap();
    for info in model.tensors() {
        let view = model.view(&info.name).unwrap().unwrap();
        assert_eq!((info.bytes(), view.data.len()), (0, 0), "{}", info.name);
    }
    // No zeros for rows that are not there: they would be as many bytes as are claimed.
    let file = empty(&[("f.proj", &[HALF, 0])]);
    let model = load(&file).unwrap();
    assert_eq!(model.names(), ["m.projection"]);
}

#[test]
fn two_tensors_of_one_name_are_an_error() {
    let rows = [Row::Same { file: "a", model: "x" }, Row::Same { file: "b", model: "x" }];
    let mapping = Mapping::new().under("", "", &rows).unwrap();
    let file = Table::new([("a", vec![], vec![0.0]), ("b", vec![], vec![0.0])]);
    let error = Remapped::load(&mapping, &file as &dyn Weights).unwrap_err().to_string();
    assert_eq!(error, "two tensors are both `x`: `a` and `b`");
}

#[test]
fn sides_with_different_placeholders_are_refused() {
    let rows = [Row::Same {
        file: "a.{i}",
        model: "b.{p}",
    }];
    assert!(Mapping::new().under("", "", &rows).is_err());
}
