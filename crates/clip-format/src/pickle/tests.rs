//! Containers written here byte by byte, read back, and damaged in every way proptest thinks of.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;

use super::*;
use crate::tensor::Dtype;

/// A tensor to pickle: name, storage class, shape, strides, offset, storage bytes.
struct Pickled {
    name: &'static str,
    class: &'static str,
    shape: Vec<u8>,
    strides: Vec<u8>,
    offset: u8,
    data: Vec<u8>,
    size: usize,
}

fn floats(name: &'static str, shape: &[u8], strides: &[u8], offset: u8, values: &[f32]) -> Pickled {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Pickled {
        name,
        class: "FloatStorage",
        shape: shape.into(),
        strides: strides.into(),
        offset,
        data,
        size: 4,
    }
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn tuple(numbers: &[u8]) -> Vec<u8> {
    let items: Vec<u8> = numbers.iter().flat_map(|&number| [b'K', number]).collect();
    [b"(", &items[..], b"t"].concat()
}

/// A tensor, as `torch.save` writes it with protocol 2.
fn value(key: usize, tensor: &Pickled) -> Vec<u8> {
    let elements = (tensor.data.len() / tensor.size) as i32;
    [
        &b"ctorch._utils\n_rebuild_tensor_v2\n(("[..],
        &text("storage"),
        format!("ctorch\n{}\n", tensor.class).as_bytes(),
        &text(&key.to_string()),
        &text("cpu"),
        b"J",
        &elements.to_le_bytes(),
        b"tQ",
        &[b'K', tensor.offset],
        &tuple(&tensor.shape),
        &tuple(&tensor.strides),
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

/// The dictionary's items.
fn items(tensors: &[Pickled]) -> Vec<u8> {
    let mut out = b"(".to_vec();
    for (key, tensor) in tensors.iter().enumerate() {
        out.extend(text(tensor.name));
        out.extend(value(key, tensor));
    }
    out.extend(b"u");
    out
}

/// An OrderedDict with `_metadata` attached, as a real state dictionary is.
fn state(tensors: &[Pickled]) -> Vec<u8> {
    let metadata = [b"}", &text("_metadata")[..], b"ccollections\nOrderedDict\n)Rsb"].concat();
    [b"ccollections\nOrderedDict\n)R", &items(tensors)[..], &metadata].concat()
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

fn zipped(pickle: &[u8], tensors: &[Pickled]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, data: &[u8]| {
        archive.start_file(format!("m/{name}"), stored).unwrap();
        archive.write_all(data).unwrap();
    };
    put("data.pkl", pickle);
    put("byteorder", b"little");
    for (key, tensor) in tensors.iter().enumerate() {
        put(&format!("data/{key}"), &tensor.data);
    }
    archive.finish().unwrap().into_inner()
}

fn legacy(body: &[u8], tensors: &[Pickled]) -> Vec<u8> {
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let keys: Vec<u8> = (0..tensors.len()).flat_map(|key| text(&key.to_string())).collect();
    let mut out = [pickle(magic), pickle(b"M\xe9\x03"), pickle(b"}"), pickle(body)].concat();
    out.extend(pickle(&[b"](", &keys[..], b"e"].concat()));
    for tensor in tensors {
        out.extend(((tensor.data.len() / tensor.size) as u64).to_le_bytes());
        out.extend(&tensor.data);
    }
    out
}

fn open(bytes: &[u8]) -> Result<PickleFile> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let map = MappedFile::open(file.path())?;
    let path = Path::new("m.bin");
    if bytes.starts_with(b"PK") {
        PickleFile::zip(map, path)
    } else {
        PickleFile::legacy(map, path)
    }
}

fn message(bytes: &[u8]) -> String {
    open(bytes).unwrap_err().to_string()
}

fn sample() -> Vec<Pickled> {
    let half = Pickled {
        name: "half",
        class: "HalfStorage",
        shape: vec![1],
        strides: vec![1],
        offset: 1,
        data: vec![0, 0, 0, 0x3c],
        size: 2,
    };
    vec![
        floats("transposed", &[3, 2], &[1, 3], 0, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        floats("scalar", &[], &[], 0, &[2.5]),
        half,
    ]
}

fn check_sample(file: &PickleFile) {
    let values = |name| file.view(name).unwrap().unwrap().to_f32().unwrap();
    assert_eq!(file.names(), ["transposed", "scalar", "half"]);
    assert_eq!(values("transposed"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values("scalar"), [2.5]);
    assert_eq!(values("half"), [1.0]);
    assert_eq!(file.view("half").unwrap().unwrap().dtype, Dtype::F16);
    assert!(file.view("other").unwrap().is_none());
}

#[test]
fn both_containers_are_read() {
    let tensors = sample();
    check_sample(&open(&zipped(&pickle(&state(&tensors)), &tensors)).unwrap());
    check_sample(&open(&legacy(&state(&tensors), &tensors)).unwrap());
}

#[test]
fn a_state_dict_may_be_nested_beside_other_things() {
    let tensors = sample();
    let body = [
        b"}(",
        &text("epoch")[..],
        b"K\x03",
        &text("args"),
        b"cargparse\nNamespace\n)\x81}b",
        &text("state_dict"),
        &state(&tensors),
        b"u",
    ]
    .concat();
    check_sample(&open(&zipped(&pickle(&body), &tensors)).unwrap());
}

#[test]
fn parameters_are_their_tensors() {
    let tensors = vec![floats("w", &[1], &[1], 0, &[4.0])];
    let body = [
        b"}",
        &text("w")[..],
        b"ctorch._utils\n_rebuild_parameter\n(",
        &value(0, &tensors[0]),
        b"\x88ccollections\nOrderedDict\n)RtRs",
    ]
    .concat();
    let file = open(&zipped(&pickle(&body), &tensors)).unwrap();
    assert_eq!(file.view("w").unwrap().unwrap().to_f32().unwrap(), [4.0]);
}

/// An object of a traced model, its attributes pickled already.
fn module(class: &str, attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = [b"c__torch__.", class.as_bytes(), b"\nModule\n)\x81}("].concat();
    for (name, value) in attributes {
        out.extend(text(name));
        out.extend(value);
    }
    out.extend(b"ub");
    out
}

#[test]
fn a_traced_model_is_its_attributes() {
    let tensors = sample();
    let [transposed, scalar, half] = [0, 1, 2].map(|key| value(key, &tensors[key]));
    let inner = module(
        "torch.nn.___torch_mangle_7",
        &[
            ("weight", transposed),
            ("training", b"\x89".to_vec()),
            ("names", b"]".to_vec()),
        ],
    );
    let outer = module(
        "clip.model",
        &[
            ("scale", scalar.clone()),
            ("visual", module("clip.visual", &[("0", inner), ("half", half)])),
            ("scale", scalar),
        ],
    );
    let file = open(&zipped(&pickle(&outer), &tensors)).unwrap();
    assert!(file.is_script());
    assert_eq!(file.names(), ["scale", "visual.0.weight", "visual.half"]);
    let values = |name| file.view(name).unwrap().unwrap().to_f32().unwrap();
    assert_eq!(values("visual.0.weight"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values("scale"), [2.5]);
    assert!(!open(&zipped(&pickle(&state(&tensors)), &tensors)).unwrap().is_script());
}

#[test]
fn the_code_of_a_traced_model_may_be_compressed_and_its_data_not() {
    let tensors = sample();
    let body = pickle(&module("clip", &[("scale", value(1, &tensors[1]))]));
    let archive = |compressed: &str| {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let mut put = |name: &str, data: &[u8]| {
            let method = if name == compressed {
                zip::CompressionMethod::Deflated
            } else {
                zip::CompressionMethod::Stored
            };
            archive
                .start_file(name, SimpleFileOptions::default().compression_method(method))
                .unwrap();
            archive.write_all(data).unwrap();
        };
        put("m/data.pkl", &body);
        put("m/code/__torch__/data/clip.py", &b"x".repeat(500));
        put("m/constants.pkl", b"\x80\x02).");
        put("m/data/1", &tensors[1].data);
        archive.finish().unwrap().into_inner()
    };
    let file = open(&archive("m/code/__torch__/data/clip.py")).unwrap();
    assert_eq!(file.view("scale").unwrap().unwrap().to_f32().unwrap(), [2.5]);
    assert!(message(&archive("m/data/1")).contains("m/data/1 is compressed or encrypted"));
    assert!(message(&archive("m/data.pkl")).contains("m/data.pkl is compressed or encrypted"));
}

#[test]
fn a_traced_model_that_shares_its_parts_without_end_is_stopped() {
    // An object with the one before it twice, again and again: 2^60 paths in a few hundred bytes.
    let mut body = module("a", &[]);
    body.extend(b"q\x000");
    for _ in 0..60 {
        let twice = module("a", &[("l", b"h\x00".to_vec()), ("r", b"h\x00".to_vec())]);
        body.extend([&twice[..], b"q\x000"].concat());
    }
    body.extend(b"h\x00");
    assert!(message(&zipped(&pickle(&body), &[])).contains("more than 1048576 attributes"));
    // One that is a part of itself.
    let body = b"c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00sh\x00sb";
    assert!(message(&zipped(&pickle(body), &[])).contains("more than 64 parts within parts"));
    // Names that grow without end.
    let long = "x".repeat(300);
    let inner = module("a", &[(&long, module("a", &[]))]);
    let body = module("a", &[(&long, inner)]);
    assert!(message(&zipped(&pickle(&body), &[])).contains("more than 512 bytes in the name"));
    assert!(message(&zipped(&pickle(&module("a", &[])), &[])).contains("it holds no named tensors"));
}

#[test]
fn other_classes_of_a_traced_model_are_refused_by_name() {
    let body = module("a", &[("x", b"cos\nsystem\n)R".to_vec())]);
    assert!(message(&zipped(&pickle(&body), &[])).contains("`os.system`"));
}

#[test]
fn other_names_are_refused_by_name() {
    let evil = pickle(b"cposix\nsystem\n(X\x02\x00\x00\x00lstR");
    let expected = "m.bin: the file asks to load `posix.system`, which is no part of a file of weights; refused; \
                    trust only files that hold tensors, or save the weights as safetensors";
    assert_eq!(message(&zipped(&evil, &[])), expected);
    assert_eq!(message(&evil), expected);
    assert_eq!(message(&legacy(b"cposix\nsystem\n)R", &[])), expected);
    // Damaged before, damaged after: the name still comes first.
    assert_eq!(message(&zipped(b"\x80\x02RRRcposix\nsystem\nX\xff\xff", &[])), expected);
}

#[test]
fn a_container_cut_before_its_directory_still_tells_what_it_asks_for() {
    let evil = zipped(&pickle(b"cposix\nsystem\n)R"), &sample());
    assert!(message(&evil[..evil.len() / 2]).contains("`posix.system`"));
}

#[test]
fn a_container_with_other_faults_still_tells_what_it_asks_for() {
    let evil = zipped(&pickle(b"cposix\nsystem\n)R"), &sample());
    let places = |signature: &[u8]| {
        let found = evil.windows(4).enumerate().filter(|(_, window)| *window == signature);
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = evil.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let (local, central) = (places(b"PK\x03\x04"), places(b"PK\x01\x02"));
    let damaged = [
        // The header before some data, and that before the pickle.
        changed(local[3], b"PK\x00\x00"),
        changed(local[0], b"PK\x00\x00"),
        // Data, then the pickle, of a size beyond the file; a pickle whose header is said to be elsewhere.
        changed(central[3] + 20, &[0xff, 0xff, 0xff, 0x7f]),
        changed(central[0] + 20, &[0xff, 0xff, 0xff, 0x7f]),
        changed(central[0] + 42, &[7, 0, 0, 0]),
    ];
    for bytes in damaged {
        assert!(message(&bytes).contains("`posix.system`"), "{}", message(&bytes));
    }
    let system = pickle(b"cposix\nsystem\n)R");
    let long = [&system[..], &vec![b'N'; LONGEST_PICKLE]].concat();
    let containers: [&[(&str, &[u8])]; 3] = [
        &[("m/data.pkl", &pickle(b"}")), ("n/data.pkl", &system)],
        &[("m/data.pkl", &system), ("m/byteorder", b"big")],
        &[("m/data.pkl", &long)],
    ];
    for files in containers {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, data) in files {
            archive.start_file(*name, stored).unwrap();
            archive.write_all(data).unwrap();
        }
        let bytes = archive.finish().unwrap().into_inner();
        assert!(message(&bytes).contains("`posix.system`"), "{}", message(&bytes));
    }
}

#[test]
fn protocol_4_is_read() {
    let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes(), b"\x94"].concat();
    let global = |module: &str, name: &str| [&short(module)[..], &short(name), b"\x93\x94"].concat();
    let storage = [
        &b"("[..],
        &short("storage"),
        &global("torch", "FloatStorage"),
        &short("0"),
        &short("cpu"),
        b"K\x02t\x94Q",
    ]
    .concat();
    let hooks = [&global("collections", "OrderedDict")[..], b")R\x94"].concat();
    let tensor = [
        &global("torch._utils", "_rebuild_tensor_v2")[..],
        b"(",
        &storage,
        b"K\x00K\x02\x85\x94K\x01\x85\x94\x89",
        &hooks,
        b"t\x94R\x94",
    ];
    let body = [
        b"\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94",
        &short("w")[..],
        &tensor.concat(),
        b"s.",
    ]
    .concat();
    let bytes = zipped(
        &[b"\x80\x04", &body[..]].concat(),
        &[floats("w", &[2], &[1], 0, &[7.0, 8.0])],
    );
    assert_eq!(
        open(&bytes).unwrap().view("w").unwrap().unwrap().to_f32().unwrap(),
        [7.0, 8.0]
    );
}

#[test]
fn what_is_no_state_dict_is_told() {
    assert!(message(&zipped(&pickle(b"K\x01"), &[])).contains("no state dictionary: its top is no dictionary"));
    assert!(message(&zipped(&pickle(b"}"), &[])).contains("it holds no named tensors"));
    assert!(message(&pickle(b"K\x01")).contains("none that torch.save wrote"));
    assert!(message(&zipped(b"\x80\x02}", &[])).contains("it ends at byte 3"));
    assert!(message(&zipped(b"\x80\x02t.", &[])).contains("a mark is missing"));
    assert!(message(&zipped(b"\x80\x02\x82\x01.", &[])).contains("operation 0x82"));
}

#[test]
fn data_that_does_not_fit_is_told() {
    let mut tensors = vec![floats("w", &[2, 2], &[2, 1], 0, &[1.0, 2.0, 3.0, 4.0])];
    let whole = pickle(&state(&tensors));
    tensors[0].data.truncate(15);
    assert!(
        message(&zipped(&whole, &tensors)).contains("tensor `w`: the file of weights is cut short: 15 bytes of 16")
    );
    assert!(message(&zipped(&whole, &[])).contains("tensor `w`: its data m/data/0 is missing"));
    let wide = vec![floats("w", &[5], &[1], 0, &[1.0, 2.0, 3.0, 4.0])];
    assert!(message(&zipped(&pickle(&state(&wide)), &wide)).contains("is larger than its storage of 4 elements"));
    let bytes = legacy(&state(&sample()), &sample());
    let cut = &bytes[..bytes.len() - 1];
    assert!(message(cut).contains(&format!("cut short: {} bytes of {}", cut.len(), bytes.len())));
    let zip = zipped(&whole, &tensors);
    assert!(message(&zip[..zip.len() - 40]).contains("damaged or cut short"));
}

#[test]
fn a_dictionary_that_copies_itself_is_stopped() {
    // A list of many pairs, then OrderedDict(list) again and again, each a copy.
    let mut body = b"](".to_vec();
    body.extend(b"K\x01K\x02\x86q\x00".iter());
    body.extend(std::iter::repeat_n(*b"h\x00", 10_000).flatten());
    body.extend(b"e\x85q\x010");
    body.extend(std::iter::repeat_n(*b"ccollections\nOrderedDict\nh\x01R0", 1000).flatten());
    body.extend(b"}");
    assert!(message(&zipped(&pickle(&body), &[])).contains("more than 1048576 values"));
}

#[test]
fn compressed_data_is_refused() {
    let tensors = sample();
    let mut bytes = zipped(&pickle(&state(&tensors)), &tensors);
    // Method 8 (deflated) in every entry of the central directory.
    let entries: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"PK\x01\x02")
        .map(|(at, _)| at)
        .collect();
    entries.iter().for_each(|at| bytes[at + 10] = 8);
    assert!(
        message(&bytes).contains("compressed or encrypted"),
        "{}",
        message(&bytes)
    );
}

/// Opens and reads everything; the values do not matter, only that nothing panics and sizes agree.
fn read_all(bytes: &[u8]) {
    let Ok(file) = open(bytes) else { return };
    for info in file.tensors() {
        let view = file.view(&info.name).unwrap().unwrap();
        assert_eq!(view.data.len(), info.bytes());
        assert!(view.data.len() <= bytes.len(), "a view larger than the file");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_files_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>(), old in any::<bool>(), whole in any::<bool>()) {
        let tensors = sample();
        let mut bytes = if old { legacy(&state(&tensors), &tensors) } else { zipped(&pickle(&state(&tensors)), &tensors) };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()).max(1));
        }
        read_all(&bytes);
    }

    #[test]
    fn damaged_pickles_in_sound_containers_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let tensors = sample();
        let mut body = pickle(&state(&tensors));
        for (at, value) in flips {
            let at = at.index(body.len());
            body[at] = value;
        }
        read_all(&zipped(&body, &tensors));
    }

    #[test]
    fn damaged_traced_models_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let tensors = sample();
        let [one, two, three] = [0, 1, 2].map(|key| value(key, &tensors[key]));
        let inner = module("b", &[("weight", one), ("bias", two)]);
        let mut body = pickle(&module("a", &[("0", inner), ("scale", three)]));
        for (at, value) in flips {
            let at = at.index(body.len());
            body[at] = value;
        }
        read_all(&zipped(&body, &tensors));
    }

    #[test]
    fn random_operations_never_panic(codes in proptest::collection::vec(prop::sample::select(b"(.012NK)}]tedausRbcQhqloi\x85\x86\x87\x94\x93\x81\x92\x8f\x90\x91".to_vec()), 0..200)) {
        read_all(&zipped(&pickle(&codes), &[]));
    }
}
