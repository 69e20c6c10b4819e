//! `clipzoo evaluate`: recall both ways.

use std::path::PathBuf;

use clip_apps::{Evaluation, Grouping, Labels, Protocol, Relevance, Rules, chance, evaluate};
use clip_core::{Error, Id, Result};
use clip_index::{Cuts, Options};

use super::Cli;
use super::args::{Compute, Cut, TableArgs, check_batch_size, note, print, to_json};
use super::evaluate_concepts::{Asked, ConceptArgs};
use super::evaluate_page::{self, Shown};
use super::evaluate_report::{report, tell_short};
use super::evaluate_sides::Sides;
use super::failure::{Outcome, usage};

/// Flags of `evaluate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo evaluate --model ./my-model --table valid.tsv
  clipzoo evaluate --model M --table valid.tsv --header --item-column item --group-by item
  clipzoo evaluate --model M --table valid.tsv --header --concept-column category --k 10,50
  clipzoo evaluate --model M --table valid.tsv --header --protocol sampled:100 --category-column kind
  clipzoo evaluate --model M --table queries.tsv --gallery pictures.tsv --header --id-column id \\
      --relevance right.jsonl
  clipzoo evaluate --text-features t.safetensors --image-features i.safetensors --json

What is right for a text: the picture of its own row; with --item-column all pictures of its product; with --same-text \
those of all rows with that text; with --relevance what its lines say: {\"query\": TEXT, \"items\": [IMAGE, …]}, with \
\"grades\": [NUMBER, …] if some are more right than others, or lines as Chinese-CLIP (text_id, image_ids) and MUGE \
(query_id, item_ids) write them. Texts and pictures are named by their --id-column, or else by row, from 0. A tie counts \
against.

Where a query has several right rows, or grades, mean average precision, precision and nDCG are given too: a right row \
gains its grade (or 1) divided by log2(1 + rank), and the gain is divided by that of the best order.

--protocol says what a query is ranked among, and stands beside every figure: figures by different protocols cannot be \
compared. sampled:100 is one right row and 100 drawn from its category, as many papers on fashion report.

With --concept-column the name of each concept is a query too, and all pictures that carry it are right.")]
pub(crate) struct Args {
    /// The model: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH", requires = "table")]
    pub(super) model: Option<PathBuf>,
    /// A table of texts and pictures; with feature files, the table they were made of, whose columns are then known
    #[arg(long, value_name = "FILE")]
    pub(super) table: Option<PathBuf>,
    /// A table of pictures, where these are not row by row those of the texts of --table
    #[arg(long, value_name = "FILE", requires = "table")]
    pub(super) gallery: Option<PathBuf>,
    /// The tensor `text_features` of a safetensors file, or a .npy
    #[arg(long, value_name = "FILE", requires = "image_features", conflicts_with = "model")]
    pub(super) text_features: Option<PathBuf>,
    /// The tensor `image_features` of a safetensors file, or a .npy
    #[arg(long, value_name = "FILE", requires = "text_features")]
    pub(super) image_features: Option<PathBuf>,
    /// The most tokens of a text [default: the config's; 52 for BERT text towers]
    #[arg(long, value_name = "N")]
    pub(super) context_length: Option<usize>,
    #[command(flatten)]
    pub(super) cut: Cut,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch_size: usize,
    /// Also write a self-contained HTML page of queries and what they found
    #[arg(long, value_name = "FILE", requires = "table")]
    pub(super) page: Option<PathBuf>,
    /// Decides which queries the page shows, and which rows sampled:N draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    pub(super) concept_args: ConceptArgs,
    #[command(flatten)]
    pub(super) table_args: TableArgs,
    #[command(flatten)]
    pub(super) compute: Compute,
}

/// Flags that say what is right and how it is counted.
#[derive(clap::Args)]
#[command(next_help_heading = "Figures")]
struct Judging {
    /// Which pictures are right for which text, JSON lines
    #[arg(long, value_name = "FILE")]
    relevance: Option<PathBuf>,
    /// The pictures of all rows with the same text are right for it
    #[arg(long)]
    same_text: bool,
    /// Down to which ranks recall, precision and nDCG look; the mean recall is the mean of these recalls
    #[arg(long, value_name = "K,…", default_value = "1,5,10")]
    k: Cuts,
    /// What a query is ranked among: full, or sampled:N, one right row and N others of its category
    #[arg(long, value_name = "NAME", default_value = "full")]
    protocol: Protocol,
    /// Column of the categories that sampled:N draws from
    #[arg(long, value_name = "NAME")]
    category_column: Option<String>,
    /// Column by which rows count once together, by the best of them: products by their best picture (for a picture:
    /// by their best text)
    #[arg(long, value_name = "NAME")]
    group_by: Option<String>,
}

impl Args {
    /// Whether many rows go through the model.
    pub(super) fn runs_long(&self) -> bool {
        self.model.is_some()
    }

    /// Whether rows are named one by one, so that texts and pictures need not pair up.
    pub(super) fn names_rows(&self) -> bool {
        self.judging.relevance.is_some()
    }

    /// Refuses flags that make no sense together, before anything is read.
    fn check(&self) -> Outcome {
        check_batch_size(self.batch_size)?;
        let judging = &self.judging;
        let item = self.table_args.item_column.is_some();
        let said = [
            ("--relevance", judging.relevance.is_some()),
            ("--item-column", item),
            ("--same-text", judging.same_text),
        ];
        let said: Vec<&str> = said.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
        if let [one, other, ..] = said[..] {
            return usage(format!("{one} and {other} both say what is right"), "give one of them");
        }
        if self.gallery.is_some() && judging.relevance.is_none() && !item {
            let remedy = "say which pictures are right for which text: --relevance, or --item-column of both tables";
            return usage("pictures of a --gallery are not row by row those of the texts", remedy);
        }
        let columns = [
            ("--item-column", &self.table_args.item_column),
            ("--id-column", &self.table_args.id_column),
            ("--category-column", &judging.category_column),
            ("--group-by", &judging.group_by),
        ];
        if self.table.is_none()
            && let Some((flag, _)) = columns.iter().find(|(_, column)| column.is_some())
        {
            return usage(
                format!("{flag} names a column of no table"),
                "give the --table that holds it",
            );
        }
        if judging.same_text && self.table.is_none() {
            return usage("--same-text needs the texts", "give the --table that holds them");
        }
        let sampled = judging.protocol != Protocol::Full;
        if sampled && judging.category_column.is_none() {
            let what = format!("--protocol {} draws from a category", judging.protocol);
            return usage(what, "name the column of the categories: --category-column");
        }
        if !sampled && judging.category_column.is_some() {
            return usage(
                "--category-column is what sampled:N draws from",
                "give --protocol sampled:100",
            );
        }
        if sampled && judging.group_by.is_some() {
            return usage(
                format!("--protocol {} draws rows and --group-by ranks groups", judging.protocol),
                "group in the full gallery",
            );
        }
        Ok(())
    }

    fn rules(&self, sides: &Sides, options: Options) -> Result<Rules> {
        let judging = &self.judging;
        let labels = |column: &str| Ok::<_, Error>([sides.texts.labels(column)?, sides.images.labels(column)?]);
        let grouping = |column: &String| {
            let [texts, images] = labels(column)?;
            Ok::<_, Error>(Grouping {
                name: column.clone(),
                labels: Labels::own(&texts, &images),
            })
        };
        let categories = |column: &String| {
            let [texts, images] = labels(column)?;
            let missing = images.iter().filter(|label| label.is_none()).count();
            if missing > 0 {
                note(&format!(
                    "{missing} pictures have no `{column}`; they are drawn for each other"
                ));
            }
            Ok::<_, Error>(Labels::shared(&texts, &images))
        };
        Ok(Rules {
            cuts: judging.k.clone(),
            protocol: judging.protocol,
            seed: self.seed,
            categories: judging.category_column.as_ref().map(categories).transpose()?,
            grouping: judging.group_by.as_ref().map(grouping).transpose()?,
            options,
        })
    }

    fn relevance(&self, sides: &Sides) -> Result<Relevance> {
        if let Some(file) = &self.judging.relevance {
            let column = self.table_args.id_column.as_deref();
            let [texts, images] = [sides.texts.ids(column)?, sides.images.ids(column)?];
            let named = [
                sides.texts.named(texts.as_deref()),
                sides.images.named(images.as_deref()),
            ];
            let (relevance, unmet) = Relevance::read(file, named[0], named[1])?;
            if unmet != clip_apps::Unmet::default() {
                let (queries, items) = (unmet.queries, unmet.items);
                note(&format!(
                    "{}: {queries} queries and {items} right pictures are rows that were left out",
                    file.display()
                ));
            }
            return Ok(relevance);
        }
        let column = match self.judging.same_text {
            true => Some(&self.table_args.text_column),
            false => self.table_args.item_column.as_ref(),
        };
        let Some(column) = column else {
            return Ok(Relevance::diagonal());
        };
        let texts: Vec<Option<Id>> = sides.texts.labels(column)?;
        Ok(match self.gallery {
            None => Relevance::by_items(&texts),
            Some(_) => Relevance::by_labels(Labels::own(&texts, &sides.images.labels(column)?)),
        })
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    let Ranked {
        sides,
        concepts,
        rules,
        relevance,
        evaluation,
    } = rank(cli, &args)?;
    let (texts, images) = (&sides.texts.features, &sides.images.features);
    let found = concepts
        .as_ref()
        .map(|asked| asked.evaluate(images, &rules))
        .transpose()?;
    tell_short(&evaluation);
    let guessed = chance(&relevance, texts.len(), images.len(), &rules)?;
    if args.json {
        let mut object = to_json(&evaluation)?;
        object["chance"] = to_json(&guessed)?;
        if let (Some(asked), Some(found)) = (concepts, found) {
            object["concept_to_image"] = found.json()?;
            object["chance"]["concept_to_image"] = asked.chance(&rules)?.json()?;
        }
        print(&object.to_string())?;
    } else {
        print(&report(&evaluation, &guessed, [texts.len(), images.len()], &rules))?;
        if let (Some(asked), Some(found)) = (concepts, found) {
            print(&asked.report(&found, &rules)?)?;
        }
    }
    // Behind the figures, so that a page that cannot be written does not cost them.
    if let Some(path) = &args.page {
        show(&args, &sides, &relevance, &evaluation, rules, path)?;
    }
    Ok(())
}

/// The figures, and all that they were made of.
struct Ranked {
    sides: Sides,
    concepts: Option<Asked>,
    rules: Rules,
    relevance: Relevance,
    evaluation: Evaluation,
}

fn rank(cli: &Cli, args: &Args) -> Outcome<Ranked> {
    args.check()?;
    let threads = args.compute.set_threads()?;
    let (sides, concepts) = Sides::open(cli, args)?;
    let rules = args.rules(&sides, Options::default().threads(threads))?;
    let relevance = args.relevance(&sides)?;
    let evaluation = evaluate(&sides.texts.features, &sides.images.features, &relevance, &rules)?;
    Ok(Ranked {
        sides,
        concepts,
        rules,
        relevance,
        evaluation,
    })
}

/// Evaluates as the flags say; gives the figures and the seconds that embedding took.
pub(super) fn measure(cli: &Cli, args: &Args) -> Outcome<(Evaluation, f64)> {
    let ranked = rank(cli, args)?;
    Ok((ranked.evaluation, ranked.sides.seconds))
}

fn show(
    args: &Args,
    sides: &Sides,
    relevance: &Relevance,
    evaluation: &Evaluation,
    rules: Rules,
    path: &std::path::Path,
) -> Result<()> {
    let shown = Shown {
        model: args.model.as_deref(),
        sides,
        relevance,
    };
    evaluate_page::write(&shown, evaluation, rules, path)?;
    if !args.json {
        print(&format!("page: {}", path.display()))?;
    }
    Ok(())
}
