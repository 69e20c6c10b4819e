//! Rows on their way to a model: read, decoded, resized and tokenised on worker threads, in order.

use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clip_apps::PreparedRow;
use clip_core::{
    Embeddings, EncodedImage, Error, FeatureRows, FeatureSink, Image, ImageDecoder, ImageTransform, PairTable, Result,
    Tokenizer,
};
use clip_data::{BadRows, Decoder, Ordered, Rejects, Roles, Table, TextFile, at_row, ordered};

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
    pub(crate) fn texts(&self, file: TextFile) -> Result<Ordered<PreparedRow>> {
        let own = self.clone();
        ordered(file, self.workers, self.ahead(), move |text: Result<String>| {
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
        let own = self.clone();
        let (text_column, image_column) = (args.text_column.clone(), args.image_column.clone());
        ordered(rows, self.workers, self.ahead(), move |index: usize| {
            let pair = table.get(index)?;
            let place = |error: Error, column: &str| at_row(error, &pair.origin).column(column);
            let (mut tokens, mut pixels) = (None, None);
            if roles.texts() {
                let text = pair.texts.first().map_or("", |text| text);
                tokens = Some(own.tokens(text).map_err(|error| place(error, &text_column))?);
            }
            if roles.images() {
                let image = pair
                    .images
                    .first()
                    .ok_or_else(|| place(Error::invalid("there is no picture"), &image_column))?;
                pixels = Some(own.pixels(image).map_err(|error| place(error, &image_column))?);
            }
            Ok(PreparedRow {
                tokens,
                pixels,
                ..Default::default()
            })
        })
    }

    /// What stands in for a refused row on its way through the model.
    fn blank(&self) -> Result<PreparedRow> {
        let tokens = self.tokenizer.is_some().then(|| self.tokens("")).transpose()?;
        let pixels = self
            .transform
            .as_ref()
            .map(|transform| vec![0.0; 3 * transform.size().iter().product::<usize>()]);
        Ok(PreparedRow {
            tokens,
            pixels,
            ..Default::default()
        })
    }
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
            preparer.blank()
        }
        row => row,
    })
}

/// A sink that numbers a pass's rows behind those of earlier passes and leaves the refused ones out; the sink behind it
/// knows what stands in a gap.
pub(crate) struct Pass<'a> {
    pub(crate) sink: &'a mut dyn FeatureSink,
    pub(crate) base: u64,
    pub(crate) refused: Refused,
}

impl FeatureSink for Pass<'_> {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        let length = rows.texts.as_ref().or(rows.images.as_ref()).map_or(0, Embeddings::len);
        let refused = |row: usize| self.refused.contains(rows.first + row as u64);
        let mut row = 0;
        while row < length {
            let from = (row..length).find(|&row| !refused(row)).unwrap_or(length);
            let to = (from..length).find(|&row| refused(row)).unwrap_or(length);
            // An empty part at the end closes the gap there.
            self.sink.append(part(&rows, from..to, self.base)?)?;
            row = to.max(from);
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        // The whole output is committed by its owner, after the last pass.
        Ok(())
    }
}

/// Some of the rows, numbered from `base` on.
fn part(rows: &FeatureRows, range: Range<usize>, base: u64) -> Result<FeatureRows> {
    let some = |features: &Option<Embeddings>| {
        let cut = |features: &Embeddings| {
            let dim = features.dim();
            Embeddings::new(features.data()[range.start * dim..range.end * dim].to_vec(), dim)
        };
        features.as_ref().map(cut).transpose()
    };
    let columns = if rows.columns.is_empty() {
        Vec::new()
    } else {
        rows.columns[range.clone()].to_vec()
    };
    Ok(FeatureRows {
        first: base + rows.first + range.start as u64,
        texts: some(&rows.texts)?,
        images: some(&rows.images)?,
        columns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory(Vec<(u64, Vec<f32>)>);

    impl FeatureSink for Memory {
        fn append(&mut self, rows: FeatureRows) -> Result<()> {
            self.0.push((rows.first, rows.texts.unwrap().into_data()));
            Ok(())
        }

        fn commit(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn refused_rows_are_gaps_and_the_others_keep_their_numbers() {
        let mut memory = Memory::default();
        let refused = Refused::default();
        refused.lock().extend([0, 3, 5]);
        let mut pass = Pass {
            sink: &mut memory,
            base: 10,
            refused,
        };
        let texts = |from: u8, to: u8| Some(Embeddings::new((from..to).map(f32::from).collect(), 1).unwrap());
        pass.append(FeatureRows {
            first: 0,
            texts: texts(0, 4),
            ..Default::default()
        })
        .unwrap();
        pass.append(FeatureRows {
            first: 4,
            texts: texts(4, 6),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(
            memory.0,
            [(11, vec![1.0, 2.0]), (14, vec![]), (14, vec![4.0]), (16, vec![])]
        );
    }
}
