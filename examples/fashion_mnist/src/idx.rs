//! The IDX format of MNIST and its relatives, compressed by gzip: a magic number, sizes, bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::bufread::GzDecoder;

/// No data set of this format has more; a file that says so is broken.
const MOST: u32 = 10_000_000;
/// Nor larger pictures.
const WIDEST: u32 = 4096;

/// A reader of one file, behind its magic number.
struct Idx {
    bytes: Box<dyn Read>,
}

/// Pictures of one size, grey, read one after the other.
pub(crate) struct Pictures {
    idx: Idx,
    left: u32,
    pub(crate) height: u32,
    pub(crate) width: u32,
}

impl Idx {
    /// Opens a file of unsigned bytes in so many dimensions.
    fn open(path: &Path, dimensions: u8) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(Box::new(GzDecoder::new(BufReader::new(file))), dimensions)
            .with_context(|| format!("in {}", path.display()))
    }

    fn new(bytes: Box<dyn Read>, dimensions: u8) -> Result<Self> {
        let mut idx = Self { bytes };
        let magic = idx.number()?;
        // Two zeros, the type (8: unsigned bytes), the number of dimensions.
        if magic != 0x0800 + u32::from(dimensions) {
            bail!("this is no IDX file of bytes in {dimensions} dimensions: it begins with {magic:#010x}");
        }
        Ok(idx)
    }

    fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.bytes.read_exact(&mut bytes).context("the file ends too soon")?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn size(&mut self, most: u32) -> Result<u32> {
        let size = self.number()?;
        if size == 0 || size > most {
            bail!("a size of {size}, where 1 to {most} can be");
        }
        Ok(size)
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.bytes.read_exact(&mut bytes).context("the file ends too soon")?;
        Ok(bytes)
    }
}

/// All labels of a file.
pub(crate) fn labels(path: &Path) -> Result<Vec<u8>> {
    let mut idx = Idx::open(path, 1)?;
    let place = || format!("in {}", path.display());
    let count = idx.size(MOST).with_context(place)?;
    idx.take(count as usize).with_context(place)
}

impl Pictures {
    /// Opens a file of pictures.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::new(Idx::open(path, 3)?).with_context(|| format!("in {}", path.display()))
    }

    fn new(mut idx: Idx) -> Result<Self> {
        let (left, height, width) = (idx.size(MOST)?, idx.size(WIDEST)?, idx.size(WIDEST)?);
        Ok(Self {
            idx,
            left,
            height,
            width,
        })
    }

    /// How many are to come.
    pub(crate) fn left(&self) -> usize {
        self.left as usize
    }

    /// The next one, row by row.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.idx.take(self.height as usize * self.width as usize).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut encoder = GzEncoder::new(tempfile::NamedTempFile::new().unwrap(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn pictures_and_labels_are_read() {
        let two = file(&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4]);
        let mut pictures = Pictures::open(two.path()).unwrap();
        assert_eq!((pictures.left(), pictures.height, pictures.width), (2, 1, 2));
        assert_eq!(pictures.next().unwrap(), Some(vec![1, 2]));
        assert_eq!(
            (pictures.next().unwrap(), pictures.next().unwrap()),
            (Some(vec![3, 4]), None)
        );
        assert_eq!(labels(file(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 9]).path()).unwrap(), [7, 9]);
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        let said = |bytes: &[u8]| format!("{:#}", labels(file(bytes).path()).unwrap_err());
        assert!(
            said(&[0, 0, 8, 3, 0, 0, 0, 1, 7])
                .contains("no IDX file of bytes in 1 dimensions: it begins with 0x00000803")
        );
        assert!(said(&[0, 0, 8]).contains("ends too soon"));
        assert!(said(&[0, 0, 8, 1, 0, 0, 0, 3, 7]).contains("ends too soon"));
        assert!(said(&[0, 0, 8, 1, 255, 255, 255, 255]).contains("a size of 4294967295"));
        let plain = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(plain.path(), b"not gzip").unwrap();
        assert!(labels(plain.path()).is_err() && labels(Path::new("gone")).is_err());
    }
}
