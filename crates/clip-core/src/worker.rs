//! One thread that owns an embedder, so that many threads can use it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::{Embedder, Embeddings, Error, ImageTransform, ModelInfo, PixelBatch, Result, TokenBatch, Tokenizer};

/// How an [`EmbedWorker`] gathers requests into batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerOptions {
    /// The most rows the embedder gets at once.
    pub batch: usize,
    /// How long the first request of a batch waits for company. Zero: not at all.
    pub wait: Duration,
    /// Requests that may queue before callers block.
    pub queue: usize,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            batch: 64,
            wait: Duration::from_millis(2),
            queue: 1024,
        }
    }
}

/// Owns an [`Embedder`] on a thread of its own and gathers the requests of all callers into batches, by time and size;
/// texts of like length go together, longest first, so that padding is short. Itself an [`Embedder`], `Sync` and
/// `Clone`: apps and servers hold this. Callers tokenise and transform on their own threads.
///
/// A panic of the embedder is caught: the callers of that batch get an error and the worker lives on.
/// The thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct EmbedWorker {
    shared: Arc<Shared>,
}

struct Shared {
    requests: Sender<Request>,
    info: ModelInfo,
    id: OnceLock<Result<String>>,
    tokenizer: OnceLock<Result<Arc<dyn Tokenizer>>>,
    transform: OnceLock<Result<Arc<dyn ImageTransform>>>,
}

enum Request {
    Embed(Input, Sender<Result<Embeddings>>),
    Id(Sender<Result<String>>),
    Tokenizer(Sender<Result<Arc<dyn Tokenizer>>>),
    Transform(Sender<Result<Arc<dyn ImageTransform>>>),
}

enum Input {
    Tokens(TokenBatch),
    Pixels(PixelBatch),
}

impl Input {
    fn rows(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Pixels(pixels) => pixels.len(),
        }
    }
}

fn dead() -> Error {
    Error::unavailable("the embedding thread has ended").remedy("open the model again")
}

impl EmbedWorker {
    /// Moves `embedder` to a thread of its own.
    pub fn new(embedder: Box<dyn Embedder>, options: WorkerOptions) -> Result<Self> {
        Self::start(move || Ok(embedder), options)
    }

    /// Makes the embedder on the worker's own thread, for engines that must live where they were made.
    pub fn start(
        make: impl FnOnce() -> Result<Box<dyn Embedder>> + Send + 'static,
        options: WorkerOptions,
    ) -> Result<Self> {
        if options.batch == 0 {
            return Err(Error::invalid("a worker's batch must hold at least one row"));
        }
        let (requests, inbox) = bounded(options.queue.max(1));
        let (ready, opened) = bounded(1);
        thread::Builder::new()
            .name("clipzoo-embed".into())
            .spawn(move || {
                let made = catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|panic| Err(Error::from_panic(panic)));
                match made {
                    Ok(embedder) => {
                        // The opener may be gone already; then the inbox is closed too and the loop ends at once.
                        let _ = ready.send(Ok(embedder.info().clone()));
                        serve(&*embedder, &inbox, options);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|error| Error::exhausted(format!("cannot start the embedding thread: {error}")).source(error))?;
        let info = opened.recv().map_err(|_| dead())??;
        let shared = Shared {
            requests,
            info,
            id: OnceLock::new(),
            tokenizer: OnceLock::new(),
            transform: OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    fn ask<T>(&self, request: impl FnOnce(Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = bounded(1);
        self.shared.requests.send(request(reply)).map_err(|_| dead())?;
        answer.recv().map_err(|_| dead())?
    }

    fn embed(&self, input: Input) -> Result<Embeddings> {
        if input.rows() == 0 {
            return Ok(Embeddings::default());
        }
        self.ask(|reply| Request::Embed(input, reply))
    }
}

impl Embedder for EmbedWorker {
    fn info(&self) -> &ModelInfo {
        &self.shared.info
    }

    fn id(&self) -> Result<String> {
        self.shared.id.get_or_init(|| self.ask(Request::Id)).clone()
    }

    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        self.shared
            .tokenizer
            .get_or_init(|| self.ask(Request::Tokenizer))
            .clone()
    }

    fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        self.shared
            .transform
            .get_or_init(|| self.ask(Request::Transform))
            .clone()
    }

    fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
        self.embed(Input::Tokens(tokens.clone()))
    }

    fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings> {
        self.embed(Input::Pixels(pixels.clone()))
    }
}

type Waiting = (Input, Sender<Result<Embeddings>>);
type WaitingPixels = (PixelBatch, Sender<Result<Embeddings>>);

/// The worker's loop: answers until the last sender is gone.
fn serve(embedder: &dyn Embedder, inbox: &Receiver<Request>, options: WorkerOptions) {
    while let Ok(request) = inbox.recv() {
        let mut waiting = Vec::new();
        answer(embedder, request, &mut waiting);
        if !waiting.is_empty() {
            gather(embedder, inbox, options, &mut waiting);
        }
        let (texts, images): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(input, _)| matches!(input, Input::Tokens(_)));
        run_texts(embedder, texts, options.batch);
        run_images(embedder, images, options.batch);
    }
}

/// Answers what needs no batch, keeps the rest.
fn answer(embedder: &dyn Embedder, request: Request, waiting: &mut Vec<Waiting>) {
    // A caller that has gone away needs no answer, so failed sends are ignored.
    match request {
        Request::Embed(input, reply) => waiting.push((input, reply)),
        Request::Id(reply) => drop(reply.send(guarded(|| embedder.id()))),
        Request::Tokenizer(reply) => drop(reply.send(guarded(|| embedder.tokenizer()))),
        Request::Transform(reply) => drop(reply.send(guarded(|| embedder.transform()))),
    }
}

/// Takes further requests until a batch is full or the first of them has waited long enough.
fn gather(embedder: &dyn Embedder, inbox: &Receiver<Request>, options: WorkerOptions, waiting: &mut Vec<Waiting>) {
    let until = Instant::now() + options.wait;
    let mut rows: usize = waiting.iter().map(|(input, _)| input.rows()).sum();
    while rows < options.batch {
        match inbox.recv_deadline(until) {
            Ok(request) => {
                answer(embedder, request, waiting);
                rows = waiting.iter().map(|(input, _)| input.rows()).sum();
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(Error::from_panic(panic)))
}

/// Embeds the rows of several requests in batches of at most `batch` rows, in the order given by `order`, and hands
/// each request its rows back in their own order.
fn run_rows(
    requests: Vec<(usize, Sender<Result<Embeddings>>)>,
    order: &[(usize, usize)],
    batch: usize,
    mut embed: impl FnMut(&[(usize, usize)]) -> Result<Embeddings>,
) {
    let mut outputs: Vec<Result<Vec<Option<Vec<f32>>>>> =
        requests.iter().map(|(rows, _)| Ok(vec![None; *rows])).collect();
    let mut dim = 0;
    for part in order.chunks(batch) {
        match guarded(|| embed(part)) {
            Ok(rows) if rows.len() == part.len() => {
                dim = rows.dim();
                for (&(request, row), values) in part.iter().zip(rows.rows()) {
                    if let Ok(output) = &mut outputs[request] {
                        output[row] = Some(values.to_vec());
                    }
                }
            }
            Ok(rows) => {
                let error = Error::internal(format!("the engine gave {} rows for {}", rows.len(), part.len()));
                part.iter()
                    .for_each(|&(request, _)| outputs[request] = Err(error.clone()));
            }
            Err(error) => part
                .iter()
                .for_each(|&(request, _)| outputs[request] = Err(error.clone())),
        }
    }
    for ((_, reply), output) in requests.into_iter().zip(outputs) {
        let result = output.and_then(|rows| Embeddings::new(rows.into_iter().flatten().flatten().collect(), dim));
        // The caller may have gone away.
        let _ = reply.send(result);
    }
}

fn run_texts(embedder: &dyn Embedder, waiting: Vec<Waiting>, batch: usize) {
    let (inputs, requests): (Vec<TokenBatch>, Vec<_>) = waiting
        .into_iter()
        .filter_map(|(input, reply)| match input {
            Input::Tokens(tokens) => Some((tokens.len(), tokens, reply)),
            Input::Pixels(_) => None,
        })
        .map(|(rows, tokens, reply)| (tokens, (rows, reply)))
        .unzip();
    let rows: Vec<Vec<&[u32]>> = inputs.iter().map(|tokens| tokens.rows().collect()).collect();
    let mut order: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(request, rows)| (0..rows.len()).map(move |row| (request, row)))
        .collect();
    order.sort_by_key(|&(request, row)| std::cmp::Reverse(rows[request][row].len()));
    run_rows(requests, &order, batch, |part| {
        embedder.embed_tokens(&part.iter().map(|&(request, row)| rows[request][row]).collect())
    });
}

fn run_images(embedder: &dyn Embedder, waiting: Vec<Waiting>, batch: usize) {
    // Requests of one picture size go together; a wrong size is the embedder's to refuse.
    let mut groups: Vec<([usize; 2], Vec<WaitingPixels>)> = Vec::new();
    for (input, reply) in waiting {
        let Input::Pixels(pixels) = input else { continue };
        match groups.iter_mut().find(|(size, _)| *size == pixels.size()) {
            Some((_, group)) => group.push((pixels, reply)),
            None => groups.push((pixels.size(), vec![(pixels, reply)])),
        }
    }
    for (size, group) in groups {
        let (inputs, requests): (Vec<PixelBatch>, Vec<_>) = group
            .into_iter()
            .map(|(pixels, reply)| (pixels.len(), pixels, reply))
            .map(|(n, p, r)| (p, (n, r)))
            .unzip();
        let rows: Vec<Vec<&[f32]>> = inputs.iter().map(|pixels| pixels.rows().collect()).collect();
        let order: Vec<(usize, usize)> = rows
            .iter()
            .enumerate()
            .flat_map(|(request, rows)| (0..rows.len()).map(move |row| (request, row)))
            .collect();
        run_rows(requests, &order, batch, |part| {
            let data = part
                .iter()
                .flat_map(|&(request, row)| rows[request][row])
                .copied()
                .collect();
            embedder.embed_pixels(&PixelBatch::new(data, size)?)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Kind, Probability, Vocabulary};
    use std::sync::Mutex;

    /// Embeds a text as `[sum of ids, longest of its batch]`; panics at id 13.
    struct Sums {
        info: ModelInfo,
        batches: Arc<Mutex<Vec<usize>>>,
    }

    struct Bytes;

    impl Tokenizer for Bytes {
        fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
            let rows: Vec<Vec<u32>> = texts.iter().map(|text| text.bytes().map(u32::from).collect()).collect();
            Ok(rows.iter().map(Vec::as_slice).collect())
        }

        fn context_length(&self) -> usize {
            8
        }

        fn vocabulary(&self) -> Vocabulary {
            Vocabulary {
                size: 256,
                mask: None,
                special: vec![],
            }
        }
    }

    impl Embedder for Sums {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn id(&self) -> Result<String> {
            Ok("sums".into())
        }

        fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
            Ok(Arc::new(Bytes))
        }

        fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
            Err(Error::not_found("no pictures here"))
        }

        fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
            assert!(tokens.rows().all(|row| !row.contains(&13)), "thirteen");
            self.batches.lock().unwrap().push(tokens.len());
            let longest = tokens.longest() as f32;
            Embeddings::new(
                tokens
                    .rows()
                    .flat_map(|row| [row.iter().sum::<u32>() as f32, longest])
                    .collect(),
                2,
            )
        }

        fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings> {
            Embeddings::new(pixels.rows().flat_map(|row| [row[0], row.len() as f32]).collect(), 2)
        }
    }

    fn worker(options: WorkerOptions) -> (EmbedWorker, Arc<Mutex<Vec<usize>>>) {
        let batches = Arc::new(Mutex::new(Vec::new()));
        let info = ModelInfo {
            dim: 2,
            logit_scale: 1.0,
            logit_bias: None,
            probability: Probability::Softmax,
            context_length: 8,
            image_size: [1, 1],
        };
        let sums = Sums {
            info,
            batches: Arc::clone(&batches),
        };
        (EmbedWorker::new(Box::new(sums), options).unwrap(), batches)
    }

    #[test]
    fn rows_come_back_in_order_and_like_lengths_go_together() {
        let (worker, batches) = worker(WorkerOptions {
            batch: 2,
            ..WorkerOptions::default()
        });
        let rows: [&[u32]; 4] = [&[1], &[2, 2, 2], &[3], &[4, 4, 4]];
        let out = worker.embed_tokens(&rows.into_iter().collect()).unwrap();
        assert_eq!(out.data(), [1.0, 1.0, 6.0, 3.0, 3.0, 1.0, 12.0, 3.0]);
        assert_eq!(*batches.lock().unwrap(), [2, 2]);
    }

    #[test]
    fn callers_share_batches() {
        let wait = Duration::from_secs(5);
        let (worker, batches) = worker(WorkerOptions {
            batch: 4,
            wait,
            ..WorkerOptions::default()
        });
        thread::scope(|scope| {
            for id in 1..=4u32 {
                let worker = worker.clone();
                scope.spawn(move || {
                    let out = worker.embed_tokens(&[&[id][..]].into_iter().collect()).unwrap();
                    assert_eq!(out.row(0)[0], id as f32);
                });
            }
        });
        // One batch, unless a caller came so late that the first had waited five seconds.
        assert_eq!(*batches.lock().unwrap(), [4]);
    }

    #[test]
    fn a_panic_is_an_error_and_the_worker_lives_on() {
        let (worker, _) = worker(WorkerOptions::default());
        let error = worker.embed_tokens(&[&[13u32][..]].into_iter().collect()).unwrap_err();
        assert_eq!((error.kind(), error.what()), (Kind::Internal, "thirteen"));
        assert_eq!(worker.embed_texts(&["A"]).unwrap().row(0), [65.0, 1.0]);
        assert_eq!(worker.id().unwrap(), "sums");
        assert_eq!(
            worker.embed_images(&[] as &[Image]).unwrap_err().what(),
            "no pictures here"
        );
    }

    #[test]
    fn pixels_of_two_sizes_do_not_mix() {
        let (worker, _) = worker(WorkerOptions::default());
        let small = worker
            .embed_pixels(&PixelBatch::new(vec![7.0; 3], [1, 1]).unwrap())
            .unwrap();
        let large = worker
            .embed_pixels(&PixelBatch::new(vec![9.0; 24], [2, 2]).unwrap())
            .unwrap();
        assert_eq!(
            (small.row(0), large.data()),
            (&[7.0, 3.0][..], &[9.0, 12.0, 9.0, 12.0][..])
        );
    }

    #[test]
    fn an_embedder_that_cannot_be_made_says_why() {
        let error = EmbedWorker::start(|| Err(Error::not_found("no weights")), WorkerOptions::default())
            .err()
            .unwrap();
        assert_eq!(error.what(), "no weights");
    }
}
