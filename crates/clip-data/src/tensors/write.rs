//! One f32 array into a safetensors file, written as its rows come.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use clip_core::{Error, Result};
use half::f16;

use super::elements::Number;
use super::header::{Entry, file_start};
use crate::pending::PendingFile;

/// Writes one f32 array of a shape known before, such as `pixels` `[N, 3, H, W]`, row after row. The file appears at
/// [`commit`](Self::commit).
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("pixels.safetensors");
/// use clip_data::{TensorFile, TensorWriter};
/// let mut writer = TensorWriter::create(&path, "pixels", &[2, 3, 1, 1], &Default::default())?;
/// writer.append(&[0.0, 0.5, 1.0])?;
/// writer.append(&[1.0, 0.5, 0.0])?;
/// writer.commit()?;
/// assert_eq!(TensorFile::open(&path)?.floats("pixels", 1..2)?, [1.0, 0.5, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TensorWriter {
    file: PendingFile,
    left: u64,
}

impl TensorWriter {
    /// Starts a file with the array `name` of `shape`, and with `metadata` that says how it was made.
    ///
    /// # Errors
    /// The file cannot be written, or the shape has more bytes than can be counted.
    pub fn create(
        path: impl AsRef<Path>,
        name: &str,
        shape: &[usize],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let shape: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        let values = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
        let Some((values, bytes)) = values.and_then(|values| Some((values, values.checked_mul(4)?))) else {
            return Err(Error::invalid(format!("an array of {shape:?} is too large")).file(path));
        };
        let mut file = PendingFile::create(path)?;
        let start = file_start(
            &[Entry {
                name,
                number: Number::F32,
                shape,
                bytes: [0, bytes],
            }],
            metadata,
            0,
        );
        file.write_all(&start).map_err(|error| file.error(error))?;
        Ok(Self { file, left: values })
    }

    /// Writes the next values.
    ///
    /// # Errors
    /// There are more than the shape has room for, or the disk is full.
    pub fn append(&mut self, values: &[f32]) -> Result<()> {
        let Some(left) = self.left.checked_sub(values.len() as u64) else {
            let what = format!("{} values for an array with room for {}", values.len(), self.left);
            return Err(Error::internal(what).file(self.file.path()));
        };
        self.left = left;
        write_numbers(&mut self.file, values, Number::F32).map_err(|error| self.file.error(error))
    }

    /// Makes the file appear.
    ///
    /// # Errors
    /// Values are missing, or the disk is full.
    pub fn commit(self) -> Result<()> {
        if self.left > 0 {
            return Err(
                Error::internal(format!("{} values of the array are missing", self.left)).file(self.file.path()),
            );
        }
        self.file.commit()
    }
}

/// Writes values as numbers of a type, little-endian.
pub(crate) fn write_numbers(to: &mut impl Write, values: &[f32], number: Number) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    for values in values.chunks(bytes.len() / number.size()) {
        match number {
            Number::F32 => {
                for (place, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                    *place = value.to_le_bytes();
                }
            }
            Number::F16 => {
                for (place, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                    *place = f16::from_f32(value).to_le_bytes();
                }
            }
        }
        to.write_all(&bytes[..number.size() * values.len()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_and_too_few_values_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let create = |shape: &[usize]| TensorWriter::create(&path, "x", shape, &BTreeMap::new());
        let mut writer = create(&[2, 2]).unwrap();
        writer.append(&[0.0; 3]).unwrap();
        assert_eq!(
            writer.append(&[0.0; 2]).unwrap_err().what(),
            "2 values for an array with room for 1"
        );
        assert_eq!(writer.commit().unwrap_err().what(), "1 values of the array are missing");
        assert!(create(&[usize::MAX, 2]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
