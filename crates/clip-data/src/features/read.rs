//! Features out of files: safetensors and NumPy arrays.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use clip_core::{Embeddings, Error, Result};

use super::npy::MAGIC;
use crate::tensors::{Float, TensorFile, refuse_non_finite};

/// The longest NumPy header that is read: it holds a type and a shape.
const MAX_HEADER_BYTES: u32 = 1 << 16;

/// Reads features `[N, D]` as f32: the array `name` of a `.safetensors` file (f32, f16, bf16 or f64), or the one array
/// of a `.npy` file (f32, f16 or f64), where `name` does not count. Rows are given as they stand, not normalised.
///
/// # Errors
/// The file cannot be read, is cut, holds no array of that name or of another shape, or a value in it is not finite
/// (the message names its row, from 1).
pub fn read_features(path: impl AsRef<Path>, name: &str) -> Result<Embeddings> {
    let path = path.as_ref();
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase());
    let features = match extension.as_deref() {
        Some("safetensors") => {
            let file = TensorFile::open(path)?;
            let [rows, dim] = two_dimensions(file.shape(name)?, name).map_err(|error| error.file(path))?;
            Embeddings::new(file.floats(name, 0..rows)?, dim)
        }
        Some("npy") => npy(path),
        _ => Err(
            Error::invalid("the extension does not say how the features are written")
                .remedy("name it .safetensors or .npy"),
        ),
    };
    features.map_err(|error| error.file(path))
}

fn two_dimensions(shape: &[usize], name: &str) -> Result<[usize; 2]> {
    match *shape {
        [rows, dim] if dim > 0 => Ok([rows, dim]),
        _ => Err(Error::invalid(format!(
            "`{name}` has the shape {shape:?}, and features have [rows, dimensions]"
        ))),
    }
}

fn npy(path: &Path) -> Result<Embeddings> {
    let io = |error| Error::io("read", path, error);
    let file = File::open(path).map_err(io)?;
    let total = file.metadata().map_err(io)?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut start = [0; 8];
    let mut length = [0; 4];
    let read = reader.read_exact(&mut start).and_then(|()| match start[6] {
        1 => reader.read_exact(&mut length[..2]),
        _ => reader.read_exact(&mut length),
    });
    if read.is_err() || &start[..6] != MAGIC || !(1..=3).contains(&start[6]) {
        return Err(Error::invalid("this is no NumPy array").remedy("write it with numpy.save"));
    }
    let length = u32::from_le_bytes(length);
    let begin = if start[6] == 1 { 10 } else { 12 } + u64::from(length);
    if length > MAX_HEADER_BYTES || begin > total {
        return Err(
            Error::invalid(format!("a header of {length} bytes in a file of {total}: it was cut"))
                .remedy("write it again"),
        );
    }
    let mut header = vec![0; length as usize];
    reader.read_exact(&mut header).map_err(io)?;
    let Header { float, shape } = header_of(&String::from_utf8_lossy(&header))?;
    let [rows, dim] = two_dimensions(&shape, "the array")?;
    let wanted = (rows as u64)
        .checked_mul(dim as u64)
        .and_then(|values| values.checked_mul(float.size() as u64));
    if wanted != Some(total - begin) {
        return Err(Error::invalid(format!(
            "the shape {shape:?} does not fit the {} bytes behind the header",
            total - begin
        ))
        .remedy("the file was cut: write it again"));
    }
    let mut values = Vec::with_capacity(rows * dim);
    let mut piece = vec![0; 1 << 16];
    let mut left = total - begin;
    while left > 0 {
        let bytes = &mut piece[..left.min(1 << 16) as usize];
        reader.read_exact(bytes).map_err(io)?;
        float.append(bytes, &mut values);
        left -= bytes.len() as u64;
    }
    refuse_non_finite(&values, dim, 0)?;
    Embeddings::new(values, dim)
}

struct Header {
    float: Float,
    shape: Vec<usize>,
}

/// Reads the Python dictionary of a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
fn header_of(text: &str) -> Result<Header> {
    let wrong = |what: String| Error::invalid(what).remedy("write numpy.save(file, features.astype(\"float32\"))");
    let value = |key: &str| {
        let behind = text.split_once(&format!("'{key}'"))?.1.trim_start().strip_prefix(':')?;
        Some(behind.trim_start())
    };
    let kind = value("descr").and_then(|behind| behind.strip_prefix('\'')?.split('\'').next());
    let float = match kind {
        Some("<f2") => Float::F16,
        Some("<f4") => Float::F32,
        Some("<f8") => Float::F64,
        other => return Err(wrong(format!("the array is of type `{}`", other.unwrap_or("unknown")))),
    };
    if !value("fortran_order").is_some_and(|behind| behind.starts_with("False")) {
        return Err(wrong("the array is in column order".into()));
    }
    let shape = value("shape").and_then(|behind| behind.strip_prefix('(')?.split_once(')'));
    let sizes = shape.map(|(inside, _)| inside.split(',').map(str::trim).filter(|size| !size.is_empty()));
    let shape = sizes.and_then(|sizes| sizes.map(|size| size.parse().ok()).collect::<Option<Vec<usize>>>());
    Ok(Header {
        float,
        shape: shape.ok_or_else(|| wrong("the array has no shape".into()))?,
    })
}
