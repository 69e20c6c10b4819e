//! Fashion-Gen as it is published: one HDF5 file a split, an array a field, a row a picture.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{Error, Id, Result};
use hdf5_reader::{Dataset, Datatype, FileStorage, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};
use serde_json::json;

use super::Imported;
use super::outputs::{Lines, beside};
use crate::ordered;
use crate::thumbnail::png_of;

/// The array of pictures, `[rows, height, width, 3]`.
const PICTURES: &str = "input_image";
/// What a row's product is.
const PRODUCT: &str = "input_productID";
/// What arrays are called before the column's name.
const BEFORE: &str = "input_";
/// The most bytes of pictures held at once, and of one other array.
const MOST_PICTURES: usize = 128 << 20;
const MOST_TEXTS: usize = 4 << 30;

/// Rewrites a file such as `fashiongen_256_256_validation.h5` as a table with a header, `text, image, item` and whatever other
/// fields of text or whole numbers there are (`category`, `subcategory`, `gender`, …), and beside it `.relevance.jsonl`: for
/// each text the pictures of its product, by row from 0. The text is the field `text_field` (`description`, or `name`); pictures
/// become PNG files in base64, pixel for pixel.
///
/// Memory holds all fields but the pictures, and 128 MiB of those. Text that is not UTF-8 is read as Latin-1, as the set
/// was written.
///
/// # Errors
/// The file cannot be read, is not HDF5, or lacks the arrays; or the table cannot be written.
pub fn import_fashion_gen(file: &Path, output: &Path, text_field: &str, workers: usize) -> Result<Imported> {
    let source = Source::open(file)?;
    let mut fields = source.fields(text_field).map_err(|error| error.file(file))?;
    let products = fields
        .iter()
        .position(|(name, _)| name == "item")
        .map(|at| fields[at].1.clone());
    let mut table = Lines::create(output.to_owned())?;
    let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
    let header: Vec<&str> = ["text", "image"]
        .into_iter()
        .chain(names.iter().skip(1).map(String::as_str))
        .collect();
    table.row(&header)?;
    let mut pictures = source.pictures(workers)?;
    for row in 0..source.rows {
        let picture = pictures
            .next()
            .ok_or_else(|| Error::internal("the pictures ended early"))?
            .map_err(|error| error.file(file).row(row as u64 + 1))?;
        let cells: Vec<String> = fields
            .iter_mut()
            .map(|(_, cells)| std::mem::take(&mut cells[row]))
            .collect();
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        let (text, others) = cells
            .split_first()
            .map_or(("", &[][..]), |(text, others)| (*text, others));
        let row: Vec<&str> = [text, picture.as_str()]
            .into_iter()
            .chain(others.iter().copied())
            .collect();
        table.row(&row)?;
    }
    let mut relevance = Lines::create(beside(output, "relevance.jsonl"))?;
    write_relevance(&products.unwrap_or_default(), source.rows, &mut relevance)?;
    let rows = source.rows as u64;
    Ok(Imported {
        texts: rows,
        images: rows,
        pairs: rows,
        missing: 0,
        outputs: vec![table.commit()?, relevance.commit()?],
    })
}

/// The pictures of each row's product; a row without one has its own.
fn write_relevance(products: &[String], rows: usize, to: &mut Lines) -> Result<()> {
    let mut of_product: HashMap<Id, Vec<usize>> = HashMap::new();
    for (row, product) in products.iter().enumerate() {
        of_product.entry(Id::of(product)).or_default().push(row);
    }
    (0..rows).try_for_each(|row| {
        let product = products.get(row).filter(|product| !product.is_empty());
        let items = product.and_then(|product| of_product.get(&Id::of(product)));
        to.json(&json!({ "query": row, "items": items.cloned().unwrap_or_else(|| vec![row]) }))
    })
}

/// An opened file.
struct Source {
    file: Hdf5File,
    pictures: Arc<Dataset>,
    rows: usize,
    /// Height and width.
    size: [usize; 2],
}

/// Runs the reader. What a broken file does to it is an error of ours, a panic too.
fn guarded<T>(doing: &str, run: impl FnOnce() -> hdf5_reader::error::Result<T>) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(run)).map_err(Error::from_panic)?;
    done.map_err(|error| Error::invalid(format!("cannot read {doing}: {error}")).source(error))
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let place = |error: Error| error.file(path);
        // Read by position, not mapped: a file that is cut while it is read is an error then, and pages do not count as memory.
        let storage = FileStorage::open(path).map_err(|error| match error {
            hdf5_reader::error::Error::Io(error) => Error::io("read", path, error),
            error => Error::invalid(error.to_string()).file(path),
        })?;
        let options = OpenOptions::default().with_max_read_bytes(MOST_TEXTS);
        let file = guarded("it as HDF5", || {
            Hdf5File::from_storage_with_options(Arc::new(storage), options)
        })
        .map_err(|error| place(error).remedy("name a file such as fashiongen_256_256_validation.h5"))?;
        let pictures = guarded(&format!("`{PICTURES}`"), || file.dataset(PICTURES)).map_err(|error| {
            place(error)
                .remedy("this reads Fashion-Gen's layout: an array a field, `input_image`, `input_description`, …")
        })?;
        let &[rows, height, width, 3] = pictures.shape() else {
            let what = format!(
                "`{PICTURES}` has the shape {:?}, not [rows, height, width, 3]",
                pictures.shape()
            );
            return Err(place(Error::invalid(what)));
        };
        Ok(Self {
            rows: rows as usize,
            size: [height as usize, width as usize],
            pictures: Arc::new(pictures),
            file,
        })
    }

    /// All fields of text and whole numbers as columns: the text first, then the product, then the others by name.
    fn fields(&self, text_field: &str) -> Result<Vec<(String, Vec<String>)>> {
        let root = guarded("the root group", || self.file.root_group())?;
        let (_, names) = guarded("the names of arrays", || root.member_names())?;
        let text = format!("{BEFORE}{text_field}");
        if !names.contains(&text) {
            let there: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(BEFORE)).collect();
            return Err(Error::invalid(format!(
                "there is no field `{text_field}`; there are: {}",
                there.join(", ")
            )));
        }
        let mut fields = Vec::new();
        let others = names
            .iter()
            .filter(|name| ![PICTURES, PRODUCT, &text].contains(&name.as_str()));
        let product = names.iter().filter(|name| *name == PRODUCT);
        for name in [&text].into_iter().chain(product).chain(others) {
            let Some(short) = name.strip_prefix(BEFORE) else {
                continue;
            };
            let called = match name.as_str() {
                PRODUCT => "item",
                name if name == text => "text",
                _ => short,
            };
            if let Some(cells) = self.cells(name)? {
                fields.push((called.to_owned(), cells));
            }
        }
        if fields.first().is_none_or(|(name, _)| name != "text") {
            return Err(Error::invalid(format!("the field `{text_field}` holds no texts")));
        }
        Ok(fields)
    }

    /// An array as cells; `None` if it holds something else than text or whole numbers, or not one a row.
    fn cells(&self, name: &str) -> Result<Option<Vec<String>>> {
        let array = guarded(name, || self.file.dataset(name))?;
        if array.shape().iter().product::<u64>() != self.rows as u64
            || array.shape().first() != Some(&(self.rows as u64))
        {
            return Ok(None);
        }
        let width = guarded(name, || array.raw_element_size())?.max(1);
        match array.dtype() {
            Datatype::String {
                size: hdf5_reader::messages::datatype::StringSize::Fixed(_),
                ..
            } => {
                let bytes = guarded(name, || array.read_raw_bytes())?;
                Ok(Some(bytes.chunks(width).map(text_of).collect()))
            }
            Datatype::String { .. } | Datatype::VarLen { .. } => Ok(Some(guarded(name, || array.read_strings())?)),
            Datatype::FixedPoint { .. } => {
                let bytes = guarded(name, || array.read_native_bytes())?;
                Ok(Some(bytes.chunks(width).map(whole).collect()))
            }
            _ => Ok(None),
        }
    }

    /// The pictures in order, each a PNG file in base64, made on several threads.
    fn pictures(&self, workers: usize) -> Result<impl Iterator<Item = Result<String>>> {
        let [height, width] = self.size;
        let bytes = 3 * height * width;
        // A chunk of the file holds pieces of many pictures; the more of those are read at once, the less often it is.
        let chunk = self
            .pictures
            .chunks()
            .and_then(|sizes| sizes.first().copied())
            .unwrap_or(1) as usize;
        let block = chunk.max(16).min((MOST_PICTURES / bytes.max(1)).max(1));
        let (array, rows) = (Arc::clone(&self.pictures), self.rows);
        let blocks = (0..rows)
            .step_by(block)
            .map(move |first| block_of(&array, first..rows.min(first + block), bytes));
        let each = blocks.flat_map(move |block| match block {
            Ok(block) => block.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        ordered(each, workers, 2 * workers + 2, move |pixels: Result<Vec<u8>>| {
            Ok(STANDARD.encode(png_of(width as u32, height as u32, &pixels?)?))
        })
    }
}

/// Some pictures, each as its RGB bytes.
fn block_of(array: &Dataset, rows: Range<usize>, bytes: usize) -> Result<Vec<Vec<u8>>> {
    let mut selection = SliceInfo::all(4);
    if let Some(first) = selection.selections.first_mut() {
        *first = SliceInfoElem::Slice {
            start: rows.start as u64,
            end: rows.end as u64,
            step: 1,
        };
    }
    let block = guarded(PICTURES, || array.read_slice::<u8>(&selection))?;
    let values: Vec<u8> = block.into_iter().collect();
    Ok(values.chunks(bytes).map(<[u8]>::to_vec).collect())
}

/// The text of a field of fixed length, without what fills it up.
fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let bytes = &bytes[..end];
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => bytes
            .iter()
            .map(|&byte| char::from(byte))
            .collect::<String>()
            .trim()
            .to_owned(),
    }
}

/// A whole number in this machine's order of bytes.
fn whole(bytes: &[u8]) -> String {
    match *bytes {
        [a] => a.to_string(),
        [a, b] => i16::from_ne_bytes([a, b]).to_string(),
        [a, b, c, d] => i32::from_ne_bytes([a, b, c, d]).to_string(),
        [a, b, c, d, e, f, g, h] => i64::from_ne_bytes([a, b, c, d, e, f, g, h]).to_string(),
        _ => String::new(),
    }
}
