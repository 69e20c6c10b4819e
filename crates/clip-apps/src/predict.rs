//! Embeds any number of rows into a file, in bounded memory.

use std::cmp::Reverse;

use clip_core::serde_json::Value;
use clip_core::{Embedder, Embeddings, Error, FeatureRows, FeatureSink, PixelBatch, Result, TokenBatch};

/// A row ready for the encoders. Every row of one run has the same parts; one that lacks a part which others have (it was
/// refused, or its cell is empty) holds that part empty, and its features are zeros.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PreparedRow {
    /// Token ids of the text, special tokens in; empty where there is no text.
    pub tokens: Option<Vec<u32>>,
    /// Pixels of the picture, `[3, height, width]`, normalised; empty where there is no picture.
    pub pixels: Option<Vec<f32>>,
    /// Columns carried along to the output; null for none.
    pub columns: Value,
}

/// Drives an embedder over prepared rows. Preparing (decoding, resizing, tokenising) is the caller's, on as many
/// threads as it likes; the encoders see whole batches, texts of like length together, and the output is in input
/// order.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    embedder: &'a dyn Embedder,
    batch: usize,
}

/// Texts among which those of like length are gathered, in batches. Only ids wait, never pixels.
const WINDOW: usize = 16;

impl<'a> Predictor<'a> {
    /// Gives the embedder at most `batch` rows at once; an error if that is none.
    pub fn new(embedder: &'a dyn Embedder, batch: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error::invalid("a batch must hold at least one row").remedy("use --batch-size 1 or more"));
        }
        Ok(Self { embedder, batch })
    }

    /// Rows are appended to the sink so many at a time, or so many again: where a run goes on at a multiple of this, its
    /// batches are those of a run that was never ended.
    pub fn window(batch: usize) -> usize {
        batch.saturating_mul(WINDOW)
    }

    /// Appends the features of all rows to `sink`, numbered from 0, and says how many rows there were. `progress`
    /// hears that number as it grows. The first bad row ends the run; to commit is the caller's.
    pub fn run(
        &self,
        rows: impl IntoIterator<Item = Result<PreparedRow>>,
        sink: &mut dyn FeatureSink,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64> {
        let mut window = Window::default();
        let mut first = 0;
        for row in rows {
            window.add(row?, first)?;
            if window.pixels.len() == self.batch {
                self.embed_pixels(&mut window)?;
                progress(first + window.len() as u64);
            }
            // Rows without a text have nothing to wait for.
            let full = if window.tokens.is_empty() {
                self.batch
            } else {
                Self::window(self.batch)
            };
            if window.len() >= full {
                first = self.flush(&mut window, first, sink)?;
                progress(first);
            }
        }
        if window.len() > 0 {
            first = self.flush(&mut window, first, sink)?;
            progress(first);
        }
        Ok(first)
    }

    /// Embeds the pixels that wait.
    fn embed_pixels(&self, window: &mut Window) -> Result<()> {
        if window.pixels.is_empty() {
            return Ok(());
        }
        let [height, width] = self.embedder.info().image_size;
        let pixels = std::mem::take(&mut window.pixels);
        let there: Vec<usize> = (0..pixels.len()).filter(|&row| !pixels[row].is_empty()).collect();
        if let Some(&row) = there.iter().find(|&&row| pixels[row].len() != 3 * height * width) {
            return Err(Error::invalid(format!(
                "a picture of {} values, where the model takes [3, {height}, {width}]",
                pixels[row].len()
            )));
        }
        let mut rows = self.zeros(pixels.len());
        if !there.is_empty() {
            let embedded = self
                .embedder
                .embed_pixels(&PixelBatch::new(pixels.concat(), [height, width])?)?;
            self.put(&mut rows, &there, &embedded)?;
        }
        window.images.append(&Embeddings::new(rows, self.dim())?)
    }

    /// Embeds texts longest first, so that each batch is padded little, and puts them back in order.
    fn embed_texts(&self, tokens: &[Vec<u32>]) -> Result<Embeddings> {
        let mut order: Vec<usize> = (0..tokens.len()).filter(|&row| !tokens[row].is_empty()).collect();
        order.sort_by_key(|&row| Reverse(tokens[row].len()));
        let mut rows = self.zeros(tokens.len());
        for part in order.chunks(self.batch) {
            let batch: TokenBatch = part.iter().map(|&row| tokens[row].as_slice()).collect();
            self.put(&mut rows, part, &self.embedder.embed_tokens(&batch)?)?;
        }
        Embeddings::new(rows, self.dim())
    }

    /// Puts embedded rows where they belong among `rows`.
    fn put(&self, rows: &mut [f32], places: &[usize], embedded: &Embeddings) -> Result<()> {
        let dim = self.dim();
        if embedded.len() != places.len() || embedded.dim() != dim {
            return Err(Error::internal(format!(
                "the engine gave {} rows of {} values, and {} of {dim} were asked for",
                embedded.len(),
                embedded.dim(),
                places.len()
            )));
        }
        for (&row, values) in places.iter().zip(embedded.rows()) {
            rows[row * dim..(row + 1) * dim].copy_from_slice(values);
        }
        Ok(())
    }

    fn dim(&self) -> usize {
        self.embedder.info().dim
    }

    fn zeros(&self, rows: usize) -> Vec<f32> {
        vec![0.0; rows * self.dim()]
    }

    /// Writes the window's rows and says which number comes next.
    fn flush(&self, window: &mut Window, first: u64, sink: &mut dyn FeatureSink) -> Result<u64> {
        self.embed_pixels(window)?;
        let Window {
            tokens,
            images,
            columns,
            ..
        } = std::mem::take(window);
        let texts = if tokens.is_empty() {
            None
        } else {
            Some(self.embed_texts(&tokens)?)
        };
        let images = (!images.is_empty()).then_some(images);
        let next = first + texts.as_ref().or(images.as_ref()).map_or(0, Embeddings::len) as u64;
        sink.append(FeatureRows {
            first,
            texts,
            images,
            columns,
        })?;
        Ok(next)
    }
}

/// Rows on their way: all texts wait for the window to fill, pixels only for a batch.
#[derive(Default)]
struct Window {
    tokens: Vec<Vec<u32>>,
    pixels: Vec<Vec<f32>>,
    images: Embeddings,
    columns: Vec<Value>,
}

impl Window {
    fn len(&self) -> usize {
        self.tokens.len().max(self.images.len() + self.pixels.len())
    }

    fn add(&mut self, row: PreparedRow, first: u64) -> Result<()> {
        let number = first + self.len() as u64;
        let before = (self.len() > 0).then(|| {
            (
                !self.tokens.is_empty(),
                self.images.len() + self.pixels.len() > 0,
                !self.columns.is_empty(),
            )
        });
        let parts = (row.tokens.is_some(), row.pixels.is_some(), !row.columns.is_null());
        if before.is_some_and(|before| before != parts) || !(parts.0 || parts.1) {
            return Err(Error::invalid(format!(
                "row {number} (counted from 0) has not the parts of the rows before"
            ))
            .remedy("give every row a text, or every row a picture, or both to all"));
        }
        self.tokens.extend(row.tokens);
        self.pixels.extend(row.pixels);
        if parts.2 {
            self.columns.push(row.columns);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use clip_core::serde_json::json;
    use clip_core::{ImageTransform, ModelInfo, Probability, Tokenizer};

    use super::*;

    /// A text becomes `[first id, its length]`, a picture `[first value, 1]`; both are exact, so order shows.
    struct Firsts(ModelInfo, Mutex<Vec<(usize, usize)>>);

    impl Embedder for Firsts {
        fn info(&self) -> &ModelInfo {
            &self.0
        }
        fn id(&self) -> Result<String> {
            Ok("firsts".into())
        }
        fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
            Err(Error::not_found("no tokenizer"))
        }
        fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
            Err(Error::not_found("no transform"))
        }
        fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
            self.1
                .lock()
                .unwrap()
                .push((tokens.len(), tokens.lengths().iter().sum()));
            Embeddings::new(
                tokens
                    .rows()
                    .flat_map(|row| [row[0] as f32, row.len() as f32])
                    .collect(),
                2,
            )
        }
        fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings> {
            self.1.lock().unwrap().push((pixels.len(), 0));
            Embeddings::new(pixels.rows().flat_map(|row| [row[0], 1.0]).collect(), 2)
        }
    }

    fn firsts() -> Firsts {
        let probability = Probability::Softmax;
        let info = ModelInfo {
            dim: 2,
            logit_scale: 1.0,
            logit_bias: None,
            probability,
            context_length: 9,
            image_size: [1, 1],
        };
        Firsts(info, Mutex::default())
    }

    #[derive(Default)]
    struct Memory(Vec<FeatureRows>);

    impl FeatureSink for Memory {
        fn append(&mut self, rows: FeatureRows) -> Result<()> {
            self.0.push(rows);
            Ok(())
        }
        fn commit(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    fn row(number: u32) -> PreparedRow {
        let length = 1 + (number as usize * 5) % 7;
        PreparedRow {
            tokens: Some([number].repeat(length)),
            pixels: Some(vec![-(number as f32); 3]),
            columns: json!({ "row": number }),
        }
    }

    #[test]
    fn rows_come_out_in_order_whatever_their_length() {
        let embedder = firsts();
        let (mut sink, mut heard) = (Memory::default(), Vec::new());
        let predictor = Predictor::new(&embedder, 3).unwrap();
        let rows = predictor
            .run((0..100).map(|n| Ok(row(n))), &mut sink, &mut |done| heard.push(done))
            .unwrap();
        assert_eq!((rows, heard.last()), (100, Some(&100)));
        assert!(heard.is_sorted());
        let mut next = 0;
        for part in &sink.0 {
            assert_eq!(part.first, u64::from(next));
            let (texts, images) = (part.texts.as_ref().unwrap(), part.images.as_ref().unwrap());
            for ((text, image), columns) in texts.rows().zip(images.rows()).zip(&part.columns) {
                let wanted = row(next);
                assert_eq!(text, [next as f32, wanted.tokens.unwrap().len() as f32]);
                assert_eq!((image[0], columns), (-(next as f32), &wanted.columns));
                next += 1;
            }
        }
        assert_eq!(next, 100);
        assert!(embedder.1.lock().unwrap().iter().all(|&(rows, _)| rows <= 3));
    }

    #[test]
    fn texts_of_like_length_go_together() {
        let embedder = firsts();
        let texts = (0..8).map(|n| {
            Ok(PreparedRow {
                tokens: Some(vec![n; if n % 2 == 0 { 1 } else { 6 }]),
                ..Default::default()
            })
        });
        Predictor::new(&embedder, 4)
            .unwrap()
            .run(texts, &mut Memory::default(), &mut |_| {})
            .unwrap();
        assert_eq!(*embedder.1.lock().unwrap(), [(4, 24), (4, 4)]);
    }

    #[test]
    fn a_row_without_a_part_has_zeros_there_and_keeps_its_place() {
        let embedder = firsts();
        let rows = (0..50u32).map(|number| {
            let mut row = row(number);
            if number % 3 == 1 || number >= 45 {
                row.tokens = Some(Vec::new());
            }
            if number % 5 == 0 || number >= 45 {
                row.pixels = Some(Vec::new());
            }
            Ok(row)
        });
        let mut sink = Memory::default();
        let done = Predictor::new(&embedder, 4).unwrap().run(rows, &mut sink, &mut |_| {});
        assert_eq!(done.unwrap(), 50);
        let (mut texts, mut images, mut columns) = (Embeddings::default(), Embeddings::default(), Vec::new());
        for part in sink.0 {
            texts.append(&part.texts.unwrap()).unwrap();
            images.append(&part.images.unwrap()).unwrap();
            columns.extend(part.columns);
        }
        for number in 0..50u32 {
            let at = number as usize;
            let text = [number as f32, row(number).tokens.unwrap().len() as f32];
            let none = number >= 45;
            assert_eq!(texts.row(at), if none || number % 3 == 1 { [0.0; 2] } else { text });
            let image = [-(number as f32), 1.0];
            assert_eq!(images.row(at), if none || number % 5 == 0 { [0.0; 2] } else { image });
            assert_eq!(columns[at]["row"], json!(number));
        }
    }

    #[test]
    fn bad_rows_end_the_run() {
        let embedder = firsts();
        let predictor = Predictor::new(&embedder, 2).unwrap();
        let run = |rows: Vec<Result<PreparedRow>>| {
            predictor
                .run(rows, &mut Memory::default(), &mut |_| {})
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            run(vec![Ok(row(0)), Err(Error::invalid("no picture").row(2))]),
            "row 2: no picture"
        );
        let text_only = PreparedRow { pixels: None, ..row(1) };
        assert!(run(vec![Ok(row(0)), Ok(text_only)]).starts_with("row 1 (counted from 0) has not the parts"));
        assert!(run(vec![Ok(PreparedRow::default())]).starts_with("row 0"));
        let small = PreparedRow {
            pixels: Some(vec![0.0; 2]),
            ..row(0)
        };
        assert!(run(vec![Ok(small)]).starts_with("a picture of 2 values"));
        assert!(Predictor::new(&embedder, 0).is_err());
        let none = predictor.run(Vec::new(), &mut Memory::default(), &mut |_| {}).unwrap();
        assert_eq!(none, 0);
    }
}
