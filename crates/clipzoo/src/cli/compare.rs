//! `clipzoo compare`: two models on the same queries, side by side.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_apps::{
    ComparePage, CompareSummary, Comparison, Contender, Language, Predictor, Relevance, compare, compare_page,
};
use clip_core::serde_json::{Value, json};
use clip_core::{Embedder, Embeddings, Error, PairTable, Result};
use clip_data::{Decoder, PendingFile, Rejects, Roles, Table};
use clip_index::Options;

use super::Cli;
use super::args::{Compute, Cut, Model, PageLanguage, TableArgs, check_batch_size, located, print, to_json};
use super::compare_queries::Queries;
use super::failure::{Outcome, usage};
use super::kept::{Kept, pick, tell_left_out};
use super::pictures::of_row;
use super::progress::Progress;
use super::rows::{Preparer, Refused, policed};

/// Flags of `compare`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo compare --model runs/first/best --model runs/second/best --table gallery.tsv --header \\
      --queries q.txt --output report.html
  clipzoo compare --model ./before --name before --model ./after --name after --table gallery.tsv --header \\
      --item-column item --queries q.tsv --language zh --output report.html

The page shows, for each query, the first pictures of both models beside each other, and marks where they differ. Where right
pictures are known it also says who finds them: by --relevance, lines {\"query\": NUMBER, \"items\": [PICTURE, …]} (rows from 0, or
ids of --id-column); by a .tsv of queries, query<TAB>item, with --item-column; without --queries the table's own texts are the
queries, and each row's own picture (with --item-column all of its product) is right.")]
pub(crate) struct Args {
    /// A model: a directory, a weights file or hf:owner/name[@revision]. Given twice
    #[arg(long, value_name = "PATH", required = true)]
    model: Vec<PathBuf>,
    /// What a model is called on the page, in the order of the models [default: its path]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The gallery: a table of pictures
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Queries: .txt one a line, .jsonl one JSON string a line, .tsv query<TAB>item [default: the table's texts]
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// Which pictures are right for which query, JSON lines
    #[arg(long, value_name = "FILE", requires = "queries")]
    relevance: Option<PathBuf>,
    /// The page, one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Pictures to show of each model
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=100))]
    top: u64,
    /// The most queries to show on the page; all count in the summary
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=1000))]
    show: u64,
    /// Decides which queries the page shows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The language of the page's own words
    #[arg(long, value_enum, default_value_t = PageLanguage::En)]
    language: PageLanguage,
    /// The most tokens of a text [default: each config's; 52 for BERT text towers]
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    #[command(flatten)]
    cut: Cut,
    /// Rows a model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
    fn models(&self) -> Outcome<[&PathBuf; 2]> {
        let [a, b] = self.model.as_slice() else {
            let what = format!("{} models are no comparison of two", self.model.len());
            return usage(what, "give --model twice");
        };
        if !self.name.is_empty() && self.name.len() != 2 {
            return usage(
                format!("{} name for two models", self.name.len()),
                "give --name twice, or not at all",
            );
        }
        Ok([a, b])
    }

    fn names(&self) -> [String; 2] {
        let name = |number: usize| {
            let path = || self.model.get(number).map(|path| path.display().to_string());
            self.name.get(number).cloned().or_else(path).unwrap_or_default()
        };
        [name(0), name(1)]
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    check_batch_size(args.batch_size)?;
    let models = args.models()?;
    let threads = args.compute.set_threads()?;
    let options = Options::default().threads(threads);
    // What is wrong about the files is found before a model is opened.
    let roles = if args.queries.is_some() {
        Roles::Images
    } else {
        Roles::Pairs
    };
    let table = Arc::new(args.table_args.open(&args.table, roles)?);
    let queries = Queries::read(args.queries.as_deref(), &table, &args.table_args)?;
    let right = queries.right(args.relevance.as_deref(), &table, &args.table_args)?;
    let page = PendingFile::create(&args.output)?;
    for model in models {
        let place = located(model)?;
        if !place.exists() {
            let error = Error::not_found("there is no such model").file(place);
            return Err(error.remedy("check the path").into());
        }
    }
    let mut rejects = Rejects::beside(&args.output);
    let refused = Refused::default();
    // One model after the other, so that memory holds one.
    let [a, b] = [
        embed(cli, &args, models[0], &table, &queries, &mut rejects, &refused)?,
        embed(cli, &args, models[1], &table, &queries, &mut rejects, &refused)?,
    ];
    let count = tell_left_out(rejects)?;
    let rows: Vec<usize> = (0..table.rows()).filter(|&row| !refused.contains(row as u64)).collect();
    let galleries = [pick(a.gallery, &rows)?, pick(b.gallery, &rows)?];
    let relevance = right.map(|right| right.among(&rows)).transpose()?;
    let sides = [
        Contender {
            queries: &a.queries,
            gallery: &galleries[0],
        },
        Contender {
            queries: &b.queries,
            gallery: &galleries[1],
        },
    ];
    let top = usize::try_from(args.top).unwrap_or(usize::MAX);
    let comparison = compare(sides, relevance.as_ref(), top, options)?;
    let shown = Shown {
        table: &table,
        rows: &rows,
        queries: &queries,
        relevance: relevance.as_ref(),
    };
    shown.write(&args, &comparison, page)?;
    say(&args, &comparison.summary, count)
}

/// What one model makes of queries and gallery; a refused row of the gallery has features that mean nothing.
struct Embedded {
    queries: Embeddings,
    gallery: Embeddings,
}

fn embed(
    cli: &Cli,
    args: &Args,
    model: &Path,
    table: &Arc<Table>,
    queries: &Queries,
    rejects: &mut Rejects,
    refused: &Refused,
) -> Outcome<Embedded> {
    let model = Model {
        model: model.to_owned(),
        context_length: args.context_length,
        cut: args.cut,
    };
    let pipeline = model.open(cli, &args.compute)?;
    let mut texts = Embeddings::default();
    for part in queries.texts().chunks(args.batch_size) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        texts.append(&pipeline.embed_texts(&part)?)?;
    }
    let preparer = Preparer {
        tokenizer: None,
        transform: Some(pipeline.transform()?),
        decoder: Decoder::default(),
        workers: args.compute.workers(),
    };
    let rows = preparer.table(Arc::clone(table), Roles::Images, &args.table_args)?;
    let rows = policed(rows, &preparer, args.table_args.bad_rows.into(), rejects, refused);
    let mut kept = Kept::default();
    let mut progress = Progress::start("pictures", Some(table.rows() as u64));
    Predictor::new(&pipeline, args.batch_size)?.run(rows, &mut kept, &mut |done| progress.reach(done))?;
    progress.finish();
    Ok(Embedded {
        queries: texts,
        gallery: kept.images,
    })
}

/// What the page shows. Row `i` of the gallery is row `rows[i]` of the table.
struct Shown<'a> {
    table: &'a Table,
    rows: &'a [usize],
    queries: &'a Queries,
    relevance: Option<&'a Relevance>,
}

impl Shown<'_> {
    fn write(&self, args: &Args, comparison: &Comparison, mut file: PendingFile) -> Result<()> {
        let language = Language::from(args.language);
        let [a, b] = args.names();
        let gallery = self.table.path().display().to_string();
        let of_table = || language.say(format!("the texts of {gallery}"), format!("{gallery} 中的文本"));
        let asked = args
            .queries
            .as_ref()
            .map_or_else(of_table, |path| path.display().to_string());
        let facts = [
            (language.say("Table", "图库").to_owned(), gallery.clone()),
            (language.say("Asked", "查询来源").to_owned(), asked),
        ];
        let picture = |row: usize| {
            let row = self
                .rows
                .get(row)
                .copied()
                .ok_or_else(|| Error::internal("there is no such picture"))?;
            // A table may lack the text, and a picture needs other words then.
            let text = self.table.cell(row, &args.table_args.text_column);
            let words = text.unwrap_or_else(|_| language.say(format!("row {row}"), format!("第 {row} 行")));
            of_row(self.table, row, words)
        };
        let page = ComparePage {
            title: language.say("Two models, the same queries", "两个模型，同样的查询"),
            language,
            names: [&a, &b],
            facts: &facts,
            comparison,
            relevance: self.relevance,
            query: &|query| self.queries.texts().get(query).cloned().unwrap_or_default(),
            picture: &picture,
            queries: usize::try_from(args.show).unwrap_or(usize::MAX),
            seed: args.seed,
        };
        let html = compare_page(&page)?.render();
        file.write_all(html.as_bytes()).map_err(|error| file.error(error))?;
        file.commit()
    }
}

/// Prints the summary.
fn say(args: &Args, summary: &CompareSummary, refused: u64) -> Outcome {
    if args.json {
        let [a, b] = args.names();
        let mut object = json!({ "output": args.output, "a": a, "b": b, "refused": refused });
        let summary = to_json(summary)?;
        if let (Some(object), Value::Object(summary)) = (object.as_object_mut(), summary) {
            object.extend(summary);
        }
        return Ok(print(&object.to_string())?);
    }
    let [a, b] = args.names();
    print(&format!(
        "A: {a}\nB: {b}\n{}\npage: {}",
        report(summary),
        args.output.display()
    ))?;
    Ok(())
}

/// A short account for people.
fn report(summary: &CompareSummary) -> String {
    let mut lines = vec![format!(
        "{} queries over {} pictures: {:.1} % of the first {} are shared, the first picture is the same for {:.1} % of the queries",
        summary.queries, summary.gallery, summary.overlap, summary.top, summary.same_first
    )];
    if let Some(judged) = &summary.judged {
        let line = |name: &str, a: String, b: String| format!("{name:<14}{a:>8}{b:>8}");
        let percent = |name: &str, a: f64, b: f64| line(name, format!("{a:.2}"), format!("{b:.2}"));
        let (a, b) = (&judged.a, &judged.b);
        lines.extend([
            line("recall in %", "A".into(), "B".into()),
            percent("R@1", a.recall_1, b.recall_1),
            percent("R@5", a.recall_5, b.recall_5),
            percent("R@10", a.recall_10, b.recall_10),
            line("MRR", format!("{:.4}", a.mrr), format!("{:.4}", b.mrr)),
            line("median rank", format!("{:.1}", a.median_rank), format!("{:.1}", b.median_rank)),
            line("queries won", judged.wins_a.to_string(), judged.wins_b.to_string()),
            format!(
                "of {} queries with a known right picture; {} draws, {} that neither shows among the first {}; as uneven by chance: {}",
                judged.queries, judged.draws, judged.neither, summary.top, judged.sign_test_shown()
            ),
        ]);
    }
    lines.join("\n")
}
