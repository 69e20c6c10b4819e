//! Which Python names a file of weights may mention. None of them is ever called.

use std::collections::HashMap;

use clip_core::{Error, Result};

use super::LONGEST_PICKLE;
use super::op::{Lexer, Op};
use crate::tensor::Dtype;

/// What an allowed name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// `OrderedDict`, `defaultdict`: a dictionary.
    Dict,
    /// `_rebuild_tensor_v2`: a view of a storage.
    Tensor,
    /// `_rebuild_parameter`: its first argument.
    Parameter,
    /// `torch.FloatStorage` and its like; `None` for element types that are not supported.
    Storage(Option<Dtype>),
    /// `torch.Size`: its first argument.
    Size,
    /// A class of a traced model: an object of it is its attributes, and its code is never looked at.
    Module,
    /// Kept as a record without meaning.
    Inert,
}

/// What a name stands for; a name that is not on the list is an error.
pub(crate) fn allowed(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict") => Global::Dict,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::Tensor,
        ("torch._utils", "_rebuild_parameter") => Global::Parameter,
        ("torch", "Size") => Global::Size,
        ("torch", name) if name.ends_with("Storage") => Global::Storage(storage(module, name)?),
        ("torch", "device") => Global::Inert,
        ("torch", name) if DTYPES.contains(&name) => Global::Inert,
        ("numpy", "dtype") | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Inert,
        // How Python 2's protocol spells the bytes of a numpy scalar.
        ("_codecs", "encode") => Global::Inert,
        ("argparse", "Namespace") => Global::Inert,
        // The factory of a defaultdict, and sets.
        ("builtins" | "__builtin__", "dict" | "list" | "set" | "int" | "float") => Global::Inert,
        ("torch.jit._pickle", name) if JIT.contains(&name) => Global::Inert,
        (module, _) if module == "__torch__" || module.starts_with("__torch__.") => Global::Module,
        _ => return Err(refused(module, name)),
    })
}

const DTYPES: [&str; 17] = [
    "float64",
    "double",
    "float32",
    "float",
    "float16",
    "half",
    "bfloat16",
    "int64",
    "long",
    "int32",
    "int",
    "int16",
    "short",
    "int8",
    "uint8",
    "bool",
    "complex64",
];

const JIT: [&str; 6] = [
    "build_intlist",
    "build_tensorlist",
    "build_doublelist",
    "build_boollist",
    "build_tensor_from_id",
    "restore_type_tag",
];

fn storage(module: &str, name: &str) -> Result<Option<Dtype>> {
    Ok(Some(match name {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" | "ComplexDoubleStorage" | "QInt8Storage" | "QUInt8Storage" | "QInt32Storage" => {
            return Ok(None);
        }
        _ => return Err(refused(module, name)),
    }))
}

fn refused(module: &str, name: &str) -> Error {
    // A hostile name may be as long as the file.
    Error::invalid(format!(
        "the file asks to load `{module:.200}.{name:.200}`, which is no part of a file of weights"
    ))
    .remedy("refused; trust only files that hold tensors, or save the weights as safetensors")
}

/// More memo places than any file of weights has, and than the machine gives a file; the scan keeps no more.
const MOST_MEMO: usize = 1 << 20;

/// Refuses the first forbidden name that `pickles` pickles in a row mention, however damaged they are otherwise:
/// whoever opens a hostile file should read what it tried, not where it was cut.
///
/// What cannot be read is stepped over, as Python would step over a text that is fine for it and not for us. No more bytes
/// are looked at than pickles may have.
pub(crate) fn refuse_forbidden(bytes: &[u8], mut pickles: usize) -> Result<()> {
    let bytes = &bytes[..bytes.len().min(LONGEST_PICKLE)];
    let mut lexer = Lexer::new(bytes);
    // STACK_GLOBAL takes its names from the stack: the last two texts, said directly or fetched from the memo.
    let mut texts: [&str; 2] = ["", ""];
    let mut memo: HashMap<u64, &str> = HashMap::new();
    let mut memoized = 0;
    while pickles > 0 && lexer.at() < bytes.len() {
        let Ok(op) = lexer.next() else { continue };
        match op {
            Op::Stop => {
                pickles -= 1;
                memo.clear();
                memoized = 0;
            }
            Op::Global(module, name) | Op::Inst(module, name) => {
                allowed(module, name)?;
            }
            Op::StackGlobal => {
                allowed(texts[0], texts[1])?;
            }
            Op::Str(text) => texts = [texts[1], text],
            Op::Get(key) => texts = memo.get(&key).map_or(texts, |text| [texts[1], text]),
            Op::Put(key) if memo.len() < MOST_MEMO => {
                memo.insert(key, texts[1]);
            }
            Op::Memoize if memo.len() < MOST_MEMO => {
                memo.insert(memoized, texts[1]);
                memoized += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_weights_need_is_allowed() {
        assert_eq!(
            allowed("torch", "HalfStorage").unwrap(),
            Global::Storage(Some(Dtype::F16))
        );
        assert_eq!(
            allowed("__torch__.model.___torch_mangle_1", "Linear").unwrap(),
            Global::Module
        );
        let evil = [
            ("os", "system"),
            ("torch", "load"),
            ("builtins", "eval"),
            ("__torch__x", "a"),
            ("torch", "EvilStorage"),
        ];
        for (module, name) in evil {
            let error = allowed(module, name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{module}.{name}`")), "{error}");
        }
    }

    #[test]
    fn a_forbidden_name_is_told_even_from_a_damaged_file() {
        // A stack underflow (REDUCE on nothing) comes first; then a global; then the file ends within an operation.
        let error = refuse_forbidden(b"\x80\x02Rcos\nsystem\nX\xff", 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`os.system`"), "{error}");
        // Protocol 4: names by STACK_GLOBAL, the second by way of the memo.
        let four = b"\x80\x04\x8c\x06system\x94\x8c\x05posix\x94h\x00\x93";
        assert!(
            refuse_forbidden(four, 1)
                .unwrap_err()
                .to_string()
                .contains("`posix.system`")
        );
    }
    #[test]
    fn what_cannot_be_read_is_stepped_over() {
        let long = "x".repeat(5000);
        let before = [
            // A lone surrogate, as Python writes one: in a counted text, with protocol 4, in a line.
            b"X\x03\x00\x00\x00\xed\xa0\x80".to_vec(),
            b"\x8c\x03\xed\xa0\x80\x94".to_vec(),
            b"V\xff\n".to_vec(),
            format!("V{long}\nI{long}\n").into_bytes(),
            // A global that has no name, a memo number that is none, a protocol to come.
            b"c\xff\n\xff\npone\n\x80\x09".to_vec(),
            // A registry's names, and buffers.
            b"\x82\x01\x83\x01\x01\x84\x01\x01\x01\x01\x97\x98".to_vec(),
        ];
        for before in before {
            let bytes = [b"\x80\x04", &before[..], b"cos\nsystem\n)R."].concat();
            let error = refuse_forbidden(&bytes, 1).unwrap_err().to_string();
            assert!(error.contains("`os.system`"), "{before:?}: {error}");
        }
        // A long way to the same function, which Python goes; its beginning is told.
        let name = "path.os.".repeat(600) + "system";
        let bytes = [b"\x80\x04cos\n", name.as_bytes(), b"\n)R."].concat();
        let error = refuse_forbidden(&bytes, 1).unwrap_err().to_string();
        assert!(error.contains("`os.path.os.") && error.len() < 600, "{error}");
        // Behind what is no operation at all there are none.
        refuse_forbidden(b"\x80\x02\xffcos\nsystem\n", 1).unwrap();
        refuse_forbidden(b"\x80\x02Xcos\nsystem\n", 1).unwrap();
    }

    #[test]
    fn a_memo_without_end_hides_nothing() {
        let many = b"]\x940".repeat(MOST_MEMO + 1);
        let bytes = [b"\x80\x04", &many[..], b"cos\nsystem\n)R."].concat();
        assert!(
            refuse_forbidden(&bytes, 1)
                .unwrap_err()
                .to_string()
                .contains("`os.system`")
        );
    }
}
