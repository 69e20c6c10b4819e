//! Rows on their way to a model: read, decoded, resized and tokenised on worker threads, in order.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clip_apps::PreparedRow;
use clip_core::serde_json::Value;
use clip_core::{
    EncodedImage, Error, FeatureRows, FeatureSink, Image, ImageDecoder, ImageTransform, PairTable, Result, Tokenizer,
};
use clip_data::{BadRows, Decoder, Ordered, Rejects, Roles, Table, at_row, ordered};

use super::args::TableArgs;

/// What turns texts and pictures into a model's input. A part is `None` where no row needs it, so that a model without
/// a tokenizer can still embed pictures.
#[derive(Clone)]
pub(crate) struct Preparer {
    pub(crate) tokenizer: Option<Arc<dyn Tokenizer>>,
    pub(crate) transform: Option<Arc<dyn ImageTransform>>,
    pub(crate) decoder: Decoder,
    pub(crate) workers: usize,
}

impl Preparer {
    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self
            .tokenizer
            .as_ref()
            .ok_or_else(|| Error::internal("texts without a tokenizer"))?;
        let batch = tokenizer.encode(&[text])?;
        Ok(batch.rows().next().unwrap_or_default().to_vec())
    }

    fn pixels(&self, image: &EncodedImage) -> Result<Vec<f32>> {
        let transform = self
            .transform
            .as_ref()
            .ok_or_else(|| Error::internal("pictures without a transform"))?;
        let [height, width] = transform.size();
        let mut pixels = vec![0.0; 3 * height * width];
        transform.apply(&self.decoder.decode(image)?, &mut pixels)?;
        Ok(pixels)
    }

    /// Rows ahead of the model: enough to keep the workers busy, few enough for memory.
    fn ahead(&self) -> usize {
        4 * self.workers + 16
    }

    /// The texts of a file.
    pub(crate) fn texts<T>(&self, texts: T) -> Result<Ordered<PreparedRow>>
    where
        T: Iterator<Item = Result<String>> + Send + 'static,
    {
        let own = self.clone();
        ordered(texts, self.workers, self.ahead(), move |text: Result<String>| {
            Ok(PreparedRow {
                tokens: Some(own.tokens(&text?)?),
                ..Default::default()
            })
        })
    }

    /// Pictures by path.
    pub(crate) fn images(&self, paths: Vec<PathBuf>) -> Result<Ordered<PreparedRow>> {
        let own = self.clone();
        ordered(paths, self.workers, self.ahead(), move |path: PathBuf| {
            let pixels = own
                .pixels(&EncodedImage::File(path.clone()))
                .map_err(|error| error.file(path))?;
            Ok(PreparedRow {
                pixels: Some(pixels),
                ..Default::default()
            })
        })
    }

    /// The rows of a table: texts, pictures, or both, out of the columns that `args` name.
    pub(crate) fn table(&self, table: Arc<Table>, roles: Roles, args: &TableArgs) -> Result<Ordered<PreparedRow>> {
        let all = 0..table.rows();
        self.table_rows(table, all, roles, args)
    }

    /// Some rows of a table, by number.
    pub(crate) fn table_rows<R>(
        &self,
        table: Arc<Table>,
        rows: R,
        roles: Roles,
        args: &TableArgs,
    ) -> Result<Ordered<PreparedRow>>
    where
        R: IntoIterator<Item = usize>,
        R::IntoIter: Send + 'static,
    {
        self.carrying_rows(table, rows, roles, args, Arc::default())
    }

    /// Some rows of a table, by number, and with each the cells of `columns` as they stand in the file.
    pub(crate) fn carrying_rows<R>(
        &self,
        table: Arc<Table>,
        rows: R,
        roles: Roles,
        args: &TableArgs,
        columns: Arc<[String]>,
    ) -> Result<Ordered<PreparedRow>>
    where
        R: IntoIterator<Item = usize>,
        R::IntoIter: Send + 'static,
    {
        let own = self.clone();
        let (text_column, image_column) = (args.text_column.clone(), args.image_column.clone());
        ordered(rows, self.workers, self.ahead(), move |index: usize| {
            let row = table.row(index)?;
            let pair = table.pair(index, &row)?;
            let place = |error: Error, column: &str| at_row(error, &pair.origin).column(column);
            let (mut tokens, mut pixels) = (None, None);
            if roles.texts() {
                let text = pair.texts.first().map(|text| own.tokens(text)).transpose();
                tokens = Some(text.map_err(|error| place(error, &text_column))?.unwrap_or_default());
            }
            if roles.images() {
                let image = pair.images.first().map(|image| own.pixels(image)).transpose();
                pixels = Some(image.map_err(|error| place(error, &image_column))?.unwrap_or_default());
            }
            let columns = match &*columns {
                [] => Value::Null,
                names => Value::Object(row.cells(names.iter().map(String::as_str))?),
            };
            Ok(PreparedRow {
                tokens,
                pixels,
                columns,
            })
        })
    }

    /// What stands in for a refused row: a row without its text and its picture.
    fn blank(&self) -> PreparedRow {
        PreparedRow {
            tokens: self.tokenizer.is_some().then(Vec::new),
            pixels: self.transform.is_some().then(Vec::new),
            ..Default::default()
        }
    }
}

/// Columns of a row that was refused: the cells that can be read, and null for the others.
pub(crate) fn readable(table: &Table, index: usize, columns: &[String]) -> Value {
    let row = table.row(index).ok();
    let cell = |column: &str| row.as_ref()?.cells([column]).ok()?.remove(column);
    let cells = columns
        .iter()
        .map(|column| (column.clone(), cell(column).unwrap_or_default()));
    Value::Object(cells.collect())
}

/// Opens the pictures of one column and names it where one cannot be opened. Training learns the row from the pair; which
/// column a picture stood in, only the flags say.
pub(crate) struct ColumnDecoder {
    pub(crate) decoder: Decoder,
    pub(crate) column: String,
}

impl ImageDecoder for ColumnDecoder {
    fn decode(&self, image: &EncodedImage) -> Result<Image> {
        self.decoder.decode(image).map_err(|error| error.column(&self.column))
    }
}

/// Rows that were refused, by number.
#[derive(Clone, Default)]
pub(crate) struct Refused(Arc<Mutex<HashSet<u64>>>);

impl Refused {
    /// Whether a row was refused.
    pub(crate) fn contains(&self, row: u64) -> bool {
        self.lock().contains(&row)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        // A set of numbers is whole whatever happened to another holder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies the policy for bad rows: stop at the first, or list it and let a blank take its place.
pub(crate) fn policed<'a>(
    rows: impl Iterator<Item = Result<PreparedRow>> + 'a,
    preparer: &'a Preparer,
    policy: BadRows,
    rejects: &'a mut Rejects,
    refused: &'a Refused,
) -> impl Iterator<Item = Result<PreparedRow>> + 'a {
    rows.enumerate().map(move |(number, row)| match row {
        Err(error) if policy == BadRows::Skip => {
            rejects.push(&error)?;
            refused.lock().insert(number as u64);
            Ok(preparer.blank())
        }
        row => row,
    })
}

/// A sink that numbers a pass's rows behind those of earlier passes.
pub(crate) struct Pass<'a> {
    pub(crate) sink: &'a mut dyn FeatureSink,
    pub(crate) base: u64,
}

impl FeatureSink for Pass<'_> {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        self.sink.append(FeatureRows {
            first: self.base + rows.first,
            ..rows
        })
    }

    fn commit(self: Box<Self>) -> Result<()> {
        // The whole output is committed by its owner, after the last pass.
        Ok(())
    }
}
