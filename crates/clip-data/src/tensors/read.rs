//! Arrays out of a safetensors file, some rows at a time.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use clip_core::{Error, Result};

use super::elements::{Float, Whole, refuse_non_finite};
use super::header::read_header;
use crate::positioned::read_exact_at;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A safetensors file opened for reading. Sizes in it are checked against its length before anything is read, and
/// nothing is held but what is asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    start: u64,
}

impl TensorFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is no safetensors file, or was cut.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let file = File::open(&path).map_err(|error| Error::io("read", &path, error))?;
        let (header, start) = read_header(&file, &path)?;
        Ok(Self {
            path,
            file,
            header,
            start,
        })
    }

    /// The names of its arrays, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.header.tensors().into_keys().collect();
        names.sort_unstable();
        names
    }

    /// Whether it holds an array of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// What its metadata says of `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The shape of an array.
    ///
    /// # Errors
    /// There is none of this name; the message lists those there are.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        self.info(name).map(|info| info.shape.as_slice())
    }

    /// Whether an array holds whole numbers, to be read by [`integers`](Self::integers).
    ///
    /// # Errors
    /// There is none of this name.
    pub fn is_whole(&self, name: &str) -> Result<bool> {
        let info = self.info(name)?;
        Ok(matches!(info.dtype, Dtype::BOOL | Dtype::U8 | Dtype::I32 | Dtype::I64))
    }

    /// Rows of an array of f32, f16, bf16 or f64, widened or rounded to f32: the entries `rows` of its first dimension.
    ///
    /// # Errors
    /// No such array or row, another type, or a number that is not finite (the message names its row, from 1).
    pub fn floats(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        let float = match info.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            other => return Err(self.wrong_type(name, other, "f32, f16, bf16 or f64")),
        };
        let mut values = Vec::new();
        let first = rows.start as u64;
        let width = self.pieces(name, info, rows, float.size(), |bytes| float.append(bytes, &mut values))?;
        refuse_non_finite(&values, width, first).map_err(|error| error.file(&self.path).column(name))?;
        Ok(values)
    }

    /// Rows of an array of int64, int32, uint8 or truth values: the entries `rows` of its first dimension.
    ///
    /// # Errors
    /// No such array or row, or another type.
    pub fn integers(&self, name: &str, rows: Range<usize>) -> Result<Vec<i64>> {
        let info = self.info(name)?;
        let whole = match info.dtype {
            Dtype::BOOL | Dtype::U8 => Whole::U8,
            Dtype::I32 => Whole::I32,
            Dtype::I64 => Whole::I64,
            other => return Err(self.wrong_type(name, other, "int64, int32, uint8 or bool")),
        };
        let mut values = Vec::new();
        self.pieces(name, info, rows, whole.size(), |bytes| whole.append(bytes, &mut values))?;
        Ok(values)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.header.info(name).ok_or_else(|| {
            let names = self.names();
            let names = if names.is_empty() {
                "none".into()
            } else {
                names.join(", ")
            };
            Error::not_found(format!("there is no array `{name}`; there are: {names}")).file(&self.path)
        })
    }

    fn wrong_type(&self, name: &str, dtype: Dtype, wanted: &str) -> Error {
        Error::invalid(format!("the array `{name}` is of type {dtype}"))
            .file(&self.path)
            .remedy(format!("write it as {wanted}"))
    }

    /// Reads rows piece by piece, each of whole numbers; gives the numbers a row has.
    fn pieces(
        &self,
        name: &str,
        info: &TensorInfo,
        rows: Range<usize>,
        size: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<usize> {
        let held = info.shape.first().copied().unwrap_or(1);
        if rows.start > rows.end || rows.end > held {
            let what = format!(
                "the array `{name}` has {held} rows, not rows {} to {}",
                rows.start, rows.end
            );
            return Err(Error::invalid(what).file(&self.path));
        }
        if rows.is_empty() {
            return Ok(1);
        }
        // The header was checked: the array's bytes lie in the file, so none of this overflows.
        let width = info.shape.iter().skip(1).product::<usize>();
        let mut at = self.start + info.data_offsets.0 as u64 + (rows.start * width * size) as u64;
        let mut left = rows.len() * width * size;
        let mut piece = vec![0; left.min(PIECE)];
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            read_exact_at(&self.file, bytes, at).map_err(|error| Error::io("read", &self.path, error))?;
            take(bytes);
            at += bytes.len() as u64;
            left -= bytes.len();
        }
        Ok(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn file(header: &str, data: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn message(header: &str, data: &[u8]) -> String {
        let (_folder, path) = file(header, data);
        let error = TensorFile::open(&path)
            .and_then(|file| file.floats("x", 0..1))
            .unwrap_err();
        error.to_string().replace(&path.display().to_string(), "x.safetensors")
    }

    #[test]
    fn rows_of_every_type() {
        let header = r#"{"h":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},
            "b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},"i":{"dtype":"I32","shape":[2,1],"data_offsets":[8,16]},
            "m":{"dtype":"BOOL","shape":[2],"data_offsets":[16,18]},"l":{"dtype":"I64","shape":[1],"data_offsets":[18,26]},
            "d":{"dtype":"F64","shape":[1],"data_offsets":[26,34]},"__metadata__":{"model":"m"}}"#;
        let mut data = Vec::new();
        data.extend([1.5, -2.0].map(f16).concat());
        data.extend(
            [1.5f32, -2.0]
                .map(|x| [x.to_le_bytes()[2], x.to_le_bytes()[3]])
                .concat(),
        );
        data.extend([7i32, -8].map(i32::to_le_bytes).concat());
        data.extend([1, 0]);
        data.extend((-9i64).to_le_bytes());
        data.extend(0.1f64.to_le_bytes());
        let (_folder, path) = file(header, &data);
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.floats("h", 0..2).unwrap(), [1.5, -2.0]);
        assert_eq!(file.floats("b", 1..2).unwrap(), [-2.0]);
        assert_eq!(file.floats("d", 0..1).unwrap(), [0.1]);
        assert_eq!(file.integers("i", 0..2).unwrap(), [7, -8]);
        assert_eq!(file.integers("m", 0..2).unwrap(), [1, 0]);
        assert_eq!(file.integers("l", 0..1).unwrap(), [-9]);
        assert_eq!(file.metadata("model"), Some("m"));
        assert_eq!(
            (file.names().join(""), file.shape("h").unwrap()),
            ("bdhilm".into(), [2, 1].as_slice())
        );
        assert!(file.floats("i", 0..1).unwrap_err().what().contains("is of type I32"));
        assert_eq!(
            file.floats("h", 1..3).unwrap_err().what(),
            "the array `h` has 2 rows, not rows 1 to 3"
        );
    }

    fn f16(value: f32) -> [u8; 2] {
        half::f16::from_f32(value).to_le_bytes()
    }

    #[test]
    fn files_that_cannot_be_read() {
        let broken = "; write the file again";
        let cut = r#"{"x":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
        assert_eq!(
            message(cut, &[0; 7]),
            format!(
                "x.safetensors: the file was cut or overwritten: \
                 its arrays have 8 bytes by the header, and 7 are there{broken}"
            )
        );
        let lying = r#"{"x":{"dtype":"F32","shape":[1,3],"data_offsets":[0,8]}}"#;
        assert!(message(lying, &[0; 8]).starts_with("x.safetensors: this is no safetensors file: its header is wrong"));
        let huge = r#"{"x":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}}"#;
        assert!(message(huge, &[0; 8]).starts_with("x.safetensors: this is no safetensors file: its header is wrong"));
        assert!(message("{}", b"").ends_with("there is no array `x`; there are: none"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        let what = "this is no safetensors file, or it was cut: a header of 18446744073709551615 bytes in a file of 8";
        assert_eq!(TensorFile::open(&path).unwrap_err().what(), what);
        fs::write(&path, "abc").unwrap();
        assert_eq!(
            TensorFile::open(&path).unwrap_err().what(),
            "this is no safetensors file: it has 3 bytes"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        let header = r#"{"x":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]}}"#;
        let data = [1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0].map(f32::to_le_bytes).concat();
        let (_folder, path) = file(header, &data);
        let error = TensorFile::open(&path).unwrap().floats("x", 1..3).unwrap_err();
        let expected = format!(
            "{}, row 2, column `x`: it holds NaN, which is no finite number",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(header in "\\PC{0,80}", data in prop::collection::vec(any::<u8>(), 0..40), length: u16) {
            let (_folder, path) = file(&header, &data);
            TensorFile::open(&path).ok();
            let shape = format!(r#"{{"x":{{"dtype":"F32","shape":[{length},2],"data_offsets":[0,{}]}}}}"#, data.len());
            let (_folder, path) = file(&shape, &data);
            TensorFile::open(&path).and_then(|file| file.floats("x", 0..1)).ok();
        }
    }
}
