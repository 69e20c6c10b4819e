//! Reads safetensors files: the header is checked in full, the data stays mapped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use safetensors::tensor::Metadata;

use crate::map::MappedFile;
use crate::tensor::{Dtype, TensorInfo, TensorView, Weights};

/// A mapped safetensors file. Tensors stand in the order of their data.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    map: MappedFile,
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    /// Where each tensor's bytes lie in the file, and its place in `tensors`.
    places: HashMap<String, (usize, Range<usize>)>,
}

impl SafetensorsFile {
    pub(crate) fn new(map: MappedFile, path: &Path) -> Result<Self> {
        let (start, metadata) = header(&map).map_err(|error| error.file(path))?;
        let mut tensors = Vec::new();
        let mut places = HashMap::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let dtype = dtype(&name, info.dtype).map_err(|error| error.file(path))?;
            let (from, to) = info.data_offsets;
            places.insert(name.clone(), (tensors.len(), start + from..start + to));
            tensors.push(TensorInfo {
                name,
                dtype,
                shape: info.shape.clone(),
            });
        }
        Ok(Self {
            map,
            path: path.to_owned(),
            tensors,
            places,
        })
    }
}

impl Weights for SafetensorsFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let Some((index, range)) = self.places.get(name) else {
            return Ok(None);
        };
        let info = &self.tensors[*index];
        let data = self
            .map
            .get(range.clone())
            .ok_or_else(|| cut_short(range.end, self.map.len()).file(&self.path))?;
        Ok(Some(TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: Cow::Borrowed(data),
        }))
    }

    fn release(&self) {
        self.map.release();
    }
}

/// Checks the header and returns where the data begins. The `safetensors` crate refuses overlaps, holes and lengths
/// that do not fit shape and type; whether the file is as long as its header says is told here, with both sizes.
fn header(bytes: &[u8]) -> Result<(usize, Metadata)> {
    let not = |what: &str| Error::invalid(format!("is not a safetensors file: {what}"));
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(cut_short(8, bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if rest.first().is_some_and(|&first| first != b'{') {
        return Err(not("its header is not JSON").remedy("check what the file is; its name may be wrong"));
    }
    // The format's own limit, which keeps a damaged length from looking like a file cut short.
    if length > 100_000_000 {
        return Err(not(&format!("its header would be {length} bytes long")));
    }
    let length = usize::try_from(length).map_err(|_| not("its header is too long"))?;
    let header = rest.get(..length).ok_or_else(|| cut_short(8 + length, bytes.len()))?;
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| Error::invalid(format!("the safetensors header is damaged: {error}")))?;
    let expected = metadata
        .data_len()
        .checked_add(8 + length)
        .ok_or_else(|| not("its sizes overflow"))?;
    match expected.cmp(&bytes.len()) {
        std::cmp::Ordering::Greater => Err(cut_short(expected, bytes.len())),
        std::cmp::Ordering::Less => {
            let extra = bytes.len() - expected;
            Err(Error::invalid(format!(
                "{extra} bytes follow the last tensor of the safetensors file"
            )))
        }
        std::cmp::Ordering::Equal => Ok((8 + length, metadata)),
    }
}

pub(crate) fn cut_short(expected: usize, found: usize) -> Error {
    Error::invalid(format!("the file of weights is cut short: {found} bytes of {expected}"))
        .remedy("copy or download it again")
}

fn dtype(name: &str, dtype: safetensors::Dtype) -> Result<Dtype> {
    use safetensors::Dtype as Theirs;
    Ok(match dtype {
        Theirs::F64 => Dtype::F64,
        Theirs::F32 => Dtype::F32,
        Theirs::F16 => Dtype::F16,
        Theirs::BF16 => Dtype::BF16,
        Theirs::I64 => Dtype::I64,
        Theirs::I32 => Dtype::I32,
        Theirs::I16 => Dtype::I16,
        Theirs::I8 => Dtype::I8,
        Theirs::U8 => Dtype::U8,
        Theirs::BOOL => Dtype::Bool,
        other => {
            return Err(Error::invalid(format!(
                "tensor `{name}` has the type {other:?}, which is not supported"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &vec![7; data],
        ]
        .concat()
    }

    fn open(bytes: &[u8]) -> Result<SafetensorsFile> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        SafetensorsFile::new(MappedFile::open(file.path())?, Path::new("m.safetensors"))
    }

    const TWO: &str = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#;

    #[test]
    fn tensors_come_in_the_order_of_their_data() {
        let file = open(&file(TWO, 11)).unwrap();
        assert_eq!(file.names(), ["b", "a"]);
        let before = file.view("a").unwrap().unwrap();
        assert_eq!(before.data, vec![7; 3]);
        file.release();
        assert_eq!(before.data, vec![7; 3]);
        assert!(file.view("c").unwrap().is_none());
    }

    #[test]
    fn a_file_cut_short_tells_both_sizes() {
        let whole = file(TWO, 11);
        let message = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
        let total = whole.len();
        assert_eq!(
            message(&whole[..total - 1]),
            format!(
                "m.safetensors: the file of weights is cut short: {} bytes of {total}; copy or download it again",
                total - 1
            )
        );
        assert!(message(&whole[..30]).contains("cut short: 30 bytes of"));
        assert!(message(&whole[..4]).contains("cut short: 4 bytes of 8"));
        assert!(message(&[whole, vec![0]].concat()).contains("1 bytes follow the last tensor"));
    }

    #[test]
    fn holes_overlaps_and_wrong_lengths_are_refused() {
        let hole = TWO.replace("[8,11]", "[9,12]");
        let overlap = TWO.replace("[8,11]", "[7,10]");
        let length = TWO.replace("[3]", "[4]");
        let overflow = TWO.replace("[2]", "[9223372036854775807,16]");
        let narrow = TWO.replace("U8", "F8_E4M3");
        for (header, data) in [(hole, 12), (overlap, 10), (length, 11), (overflow, 11), (narrow, 11)] {
            assert!(open(&file(&header, data)).is_err(), "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..6), valid in any::<bool>()) {
            if valid {
                bytes = file(TWO, 11);
                for (at, value) in flips {
                    let at = at % bytes.len();
                    bytes[at] = value;
                }
            }
            if let Ok(file) = open(&bytes) {
                for name in file.names() {
                    let view = file.view(name).unwrap().unwrap();
                    prop_assert_eq!(view.shape.iter().product::<usize>() * view.dtype.size(), view.data.len());
                }
            }
        }
    }
}
