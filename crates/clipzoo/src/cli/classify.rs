//! `clipzoo classify`: which of some labels pictures show, without training for them.

use std::io::Write;
use std::path::{Path, PathBuf};

use clip_apps::{
    Class, Classes, ClassifyFigures, ClassifyPage, Language, Predictor, Tally, Templates, ZeroShot, classify_page,
};
use clip_core::serde_json::json;
use clip_core::{Embedder, Error, FeatureRows, FeatureSink, Result};
use clip_data::{BadRows, ConceptNames, Decoder, PendingFile, Rejects, read_labels};
use clip_index::Options;
use clip_nn::Pipeline;

use super::Cli;
use super::args::{Compute, Model, PageLanguage, TableArgs, check_batch_size, note, print};
use super::classify_lines::Lines;
use super::classify_pictures::{Column, Pictures};
use super::failure::{Outcome, usage};
use super::progress::Progress;
use super::rows::{Preparer, Refused, policed};

/// Results that one JSON object may hold; of more pictures they belong in a file.
const IN_ONE_OBJECT: usize = 10_000;

/// Flags of `classify`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo classify --model ./my-model --labels labels.tsv --images photos/
  clipzoo classify --model ./my-model --labels labels.tsv --templates fashion --table products.tsv --header \\
      --label-column category --page confusion.html --output labels.jsonl

The labels file: label<TAB>synonym<TAB>… a row (.csv: the same with commas; .jsonl: {\"label\": \"…\", \"synonyms\": [\"…\"]}), without
a header. Each name is put into each template, the sentences are averaged, and so are the names of a label. Probabilities are
those of the model's own temperature: over all labels (softmax), or each by itself (SigLIP).

OUTPUT's extension is its format: .jsonl (an object a picture) or .tsv (with a header). Without it labels are printed, or, where
--label-column tells the true ones, only how many are right.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: Model,
    /// The labels to choose from, one a row, with synonyms
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// A sentence around each label, {} being the label; several are averaged [default: "A photo of a {}."]
    #[arg(long, value_name = "TEXT", conflicts_with = "templates")]
    template: Vec<String>,
    /// A bundled set of sentences: general, fashion, chinese
    #[arg(long, value_name = "SET")]
    templates: Option<String>,
    /// Pictures: files and folders (sorted by path)
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "table")]
    images: Vec<PathBuf>,
    /// A table of pictures
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Column of the true labels, where they are known: labels or synonyms of the labels file
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// What the column's codes stand for: a TSV file, code<TAB>label
    #[arg(long, value_name = "FILE", requires = "label_column")]
    label_names: Option<PathBuf>,
    /// Labels a picture
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    top_k: u64,
    /// Where the labels go: .jsonl or .tsv
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a self-contained HTML page: what was taken for what, and pictures of it
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The language of the page's own words
    #[arg(long, value_enum, default_value_t = PageLanguage::En, requires = "page")]
    language: PageLanguage,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
    /// Where refused rows are listed: beside the output, else beside the table.
    fn rejects_beside(&self) -> Outcome<&Path> {
        match self.output.as_ref().or(self.table.as_ref()) {
            Some(path) => Ok(path),
            // The first bad picture ends the run, so that nothing is ever listed.
            None if BadRows::from(self.table_args.bad_rows) == BadRows::Stop => Ok(&self.labels),
            None => usage(
                "--bad-rows skip lists refused pictures beside the output, and there is none",
                "give --output",
            ),
        }
    }

    /// The column of true labels, where it is named.
    fn column(&self) -> Result<Option<Column>> {
        let Some(name) = self.label_column.clone() else {
            return Ok(None);
        };
        let names = self.label_names.as_ref().map(ConceptNames::read).transpose()?;
        Ok(Some(Column { name, names }))
    }

    fn templates(&self) -> Outcome<Templates> {
        let templates = match (&self.templates, self.template.is_empty()) {
            (Some(set), _) => Templates::named(set),
            (None, false) => Templates::new(self.template.clone()),
            (None, true) => return Ok(Templates::default()),
        };
        templates.map_err(super::failure::Failure::Usage)
    }

    fn classes(&self) -> Result<Classes> {
        let class = |row: clip_data::LabelRow| Class {
            label: row.label,
            synonyms: row.synonyms,
        };
        let classes = read_labels(&self.labels)?.into_iter().map(class).collect();
        Classes::new(classes).map_err(|error| error.file(&self.labels))
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    check_batch_size(args.batch_size)?;
    if args.label_column.is_some() && args.table.is_none() {
        return usage("--label-column names a column, and there is no table", "give --table");
    }
    // All that can be wrong about the files is found before the model is opened.
    let (templates, classes, rejects_beside) = (args.templates()?, args.classes()?, args.rejects_beside()?);
    let pictures = match &args.table {
        Some(table) => Pictures::table(table, &args.table_args, args.column()?, &classes)?,
        None if args.images.is_empty() => {
            return usage("there are no pictures to classify", "give --images or --table");
        }
        None => Pictures::files(&args.images)?,
    };
    let top_k = usize::try_from(args.top_k).unwrap_or(usize::MAX).min(classes.len());
    let alone = args.output.is_none() && args.label_column.is_none();
    let lines = match &args.output {
        Some(path) => Lines::file(path, &pictures, top_k)?,
        None if alone && args.json && pictures.len() > IN_ONE_OBJECT => {
            let what = format!("{} pictures are too many for one object", pictures.len());
            return usage(what, "give --output, a .jsonl or .tsv file");
        }
        None if alone && args.json => Lines::Kept(Vec::new()),
        None if alone => Lines::Printed,
        None => Lines::None,
    };
    let page = args.page.as_ref().map(PendingFile::create).transpose()?;
    let threads = args.compute.set_threads()?;
    let pipeline = args.model.open(cli, &args.compute)?;
    let zero_shot = read_names(&pipeline, classes, &templates)?;
    let mut sink = Classifying {
        zero_shot: &zero_shot,
        pictures: &pictures,
        top_k,
        options: Options::default().threads(threads),
        refused: Refused::default(),
        tally: Tally::default(),
        lines,
    };
    let refused = classify(&args, &pipeline, &mut sink, rejects_beside)?;
    let Classifying { tally, lines, .. } = sink;
    let results = lines.finish()?;
    let figures = tally.figures(zero_shot.classes());
    if args.json {
        let object = json!({
            "pictures": tally.pictures(), "refused": refused, "labels": zero_shot.classes().len(),
            "dtype": pipeline.compute().name(), "output": args.output, "figures": figures, "results": results,
        });
        print(&object.to_string())?;
    } else {
        if let Some(figures) = &figures {
            print(&report(figures))?;
        }
        if let Some(output) = &args.output {
            note(&format!(
                "{}: labels of {} pictures",
                output.display(),
                tally.pictures()
            ));
        }
    }
    // Behind the figures, so that a page that cannot be written does not cost them.
    if let Some(page) = page {
        write_page(&args, &templates, zero_shot.classes(), &tally, &pictures, page)?;
    }
    Ok(())
}

/// Embeds the labels.
fn read_names(pipeline: &Pipeline, classes: Classes, templates: &Templates) -> Result<ZeroShot> {
    let sentences = classes.names().saturating_mul(templates.sentences().len()) as u64;
    let mut progress = Progress::start("label sentences", Some(sentences));
    let zero_shot = ZeroShot::new(pipeline, classes, templates, &mut |done| progress.reach(done));
    progress.finish();
    zero_shot
}

/// Sends all pictures through the model; gives how many were refused.
fn classify(args: &Args, pipeline: &Pipeline, sink: &mut Classifying<'_>, rejects_beside: &Path) -> Result<u64> {
    let preparer = Preparer {
        tokenizer: None,
        transform: Some(pipeline.transform()?),
        decoder: Decoder::default(),
        workers: args.compute.workers(),
    };
    let (mut rejects, refused) = (Rejects::beside(rejects_beside), sink.refused.clone());
    let rows = sink.pictures.rows(&preparer, &args.table_args)?;
    let rows = policed(rows, &preparer, args.table_args.bad_rows.into(), &mut rejects, &refused);
    let total = Some(sink.pictures.len() as u64);
    let mut progress = Progress::start("pictures", total);
    Predictor::new(pipeline, args.batch_size)?.run(rows, sink, &mut |done| progress.reach(done))?;
    progress.finish();
    let count = rejects.count();
    // Without either nothing can be refused, and a list of an earlier run is not ours.
    if (args.output.is_some() || args.table.is_some())
        && let Some(list) = rejects.finish()?
    {
        let list = list.display();
        note(&format!(
            "{count} pictures were refused and have no label; they are listed in {list}"
        ));
    }
    Ok(count)
}

/// Takes features in, gives labels out; holds nothing of a picture but what the tally keeps.
struct Classifying<'a> {
    zero_shot: &'a ZeroShot,
    pictures: &'a Pictures,
    top_k: usize,
    options: Options,
    refused: Refused,
    tally: Tally,
    lines: Lines,
}

impl FeatureSink for Classifying<'_> {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        let images = rows
            .images
            .ok_or_else(|| Error::internal("pictures without features"))?;
        // The tally looks at the first five, whatever is shown.
        let guesses = self.zero_shot.guesses(&images, self.top_k.max(5), self.options)?;
        let classes = self.zero_shot.classes();
        for (row, mut guesses) in (rows.first..).zip(guesses) {
            let truth = self.pictures.truth(row);
            if self.refused.contains(row) {
                self.lines.push(row, self.pictures, classes, None, None)?;
                continue;
            }
            self.tally.add(row, truth, &guesses);
            guesses.truncate(self.top_k);
            self.lines.push(row, self.pictures, classes, truth, Some(&guesses))?;
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        // The lines are finished by their owner.
        Ok(())
    }
}

/// A short account of what is right.
fn report(figures: &ClassifyFigures) -> String {
    let mut lines = vec![
        format!(
            "{} pictures with a known label, {} labels",
            figures.pictures, figures.labels
        ),
        format!("{:<22}{:>7.2} %", "accuracy", figures.accuracy_1),
    ];
    if figures.labels > 5 {
        lines.push(format!("{:<22}{:>7.2} %", "  among the first 5", figures.accuracy_5));
    }
    lines.extend([
        format!("{:<22}{:>7.2} %", "  by chance", figures.chance),
        format!("{:<22}{:>7.2} %", "  always the commonest", figures.commonest),
        format!("{:<22}{:>7.2} %", "macro F1", figures.macro_f1),
    ]);
    // The labels stand last, since nobody knows how wide a script is on a terminal.
    lines.push(format!(
        "{:>7}{:>11}{:>8}{:>10}  label",
        "F1", "precision", "recall", "pictures"
    ));
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    for class in &figures.classes {
        let (f1, precision, recall) = (figure(class.f1), figure(class.precision), figure(class.recall));
        lines.push(format!(
            "{f1:>7}{precision:>11}{recall:>8}{:>10}  {}",
            class.pictures, class.label
        ));
    }
    lines.join("\n")
}

fn write_page(
    args: &Args,
    templates: &Templates,
    classes: &Classes,
    tally: &Tally,
    pictures: &Pictures,
    mut file: PendingFile,
) -> Result<()> {
    let language = Language::from(args.language);
    let say = |english: &str, chinese: &str| language.say(english, chinese).to_owned();
    let sentences = templates.sentences();
    let shown = match sentences {
        [one] => one.clone(),
        several => args.templates.clone().unwrap_or_else(|| several.len().to_string()),
    };
    let source = args.table.as_ref().or(args.images.first());
    let source = source.map(|path| path.display().to_string()).unwrap_or_default();
    let facts = [
        (say("Model", "模型"), args.model.path().display().to_string()),
        (say("Pictures", "图片"), format!("{source} ({})", tally.pictures())),
        (
            say("Labels", "标签"),
            format!("{} ({})", args.labels.display(), classes.len()),
        ),
        (say("Template", "模板"), shown),
    ];
    let shown = ClassifyPage {
        title: &say("What pictures were taken for", "图片分类结果"),
        language,
        facts: &facts,
        classes,
        tally,
        picture: &|row| pictures.picture(row),
    };
    let html = classify_page(&shown)?.render();
    file.write_all(html.as_bytes()).map_err(|error| file.error(error))?;
    if !args.json {
        note(&format!("page: {}", file.path().display()));
    }
    file.commit()
}
