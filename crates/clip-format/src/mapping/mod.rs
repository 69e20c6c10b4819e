//! How a family's tensor names and layouts become the canonical ones: data, read one way on load and the other way
//! on save.
//!
//! A [`Mapping`] is a list of [`Row`]s; the first row that knows a name decides. Names are patterns:
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `{i}`, `{j}` | a number without leading zeros: a block, a stage |
//! | `{p}` | `weight` or `bias` |
//! | `{n}` | the same of a norm; old files call them `gamma` and `beta`, which are read and never written |
//! | `{*}` | anything, at least one character |
//!
//! Both sides of a row hold the same placeholders, so either name gives the other.

mod pattern;
mod plan;
mod remapped;

pub use remapped::{AsWeights, Remapped};

use clip_core::{Error, Result};
use pattern::Pattern;

/// One row of a mapping: what the file has, what the model has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row {
    /// The same tensor under another name. Never copied.
    Same {
        /// Name in the file.
        file: &'static str,
        /// Canonical name.
        model: &'static str,
    },
    /// A matrix `[a, b]` in the file that is `[b, a]` in the model.
    Transpose {
        /// Name in the file.
        file: &'static str,
        /// Canonical name.
        model: &'static str,
    },
    /// Several tensors of the file, joined along their first dimension in the model.
    Concat {
        /// Names in the file, in order. On saving they get equal shares; a name that is given several times in a row is one
        /// tensor with as many of them.
        file: &'static [&'static str],
        /// Canonical name.
        model: &'static str,
    },
    /// One tensor of the file, cut along its first dimension into equal parts in the model.
    Split {
        /// Name in the file.
        file: &'static str,
        /// Canonical names, in order.
        model: &'static [&'static str],
    },
    /// The same elements under another number of dimensions: leading dimensions of 1 are taken away or added until the
    /// number is the other side's. So `file_rank: 0, model_rank: 0` reads a scalar that some files hold as `[1]`.
    Reshape {
        /// Name in the file.
        file: &'static str,
        /// Canonical name.
        model: &'static str,
        /// Dimensions in the file.
        file_rank: usize,
        /// Dimensions in the model.
        model_rank: usize,
    },
    /// A vector of zeros that the file does not have. It can be saved only while it is still zero.
    Default {
        /// Canonical name.
        model: &'static str,
        /// The tensor of the file whose first dimension is the vector's length, and whose type it takes.
        rows_of: &'static str,
    },
    /// An integer scalar that no model reads and that peers want beside another tensor: how many batches a norm has
    /// seen (`num_batches_tracked`). Kept as the file has it; where there is none, saved as zero.
    Counter {
        /// Name in the file.
        file: &'static str,
        /// Canonical name.
        model: &'static str,
        /// The tensor it stands beside, by its canonical name.
        beside: &'static str,
    },
    /// A number (f32, no dimensions) that a file may lack, where the reference starts it itself. Another row says how
    /// the file has it.
    Number {
        /// Canonical name.
        model: &'static str,
        /// What it is then.
        value: f32,
    },
    /// A tensor of the file that the model does not need: a buffer, a head. It is not saved.
    Drop {
        /// Name in the file.
        file: &'static str,
    },
}

/// The rows of a family, in order.
///
/// ```
/// use clip_format::{Mapping, Row};
/// const HEAD: &[Row] = &[
///     Row::Transpose { file: "proj", model: "projection.weight" },
///     Row::Same { file: "blocks.{i}.ln.{p}", model: "blocks.{i}.norm.{p}" },
///     Row::Drop { file: "position_ids" },
/// ];
/// let mapping = Mapping::new().under("visual.", "image.", HEAD)?;
/// assert_eq!(mapping.model_name("visual.blocks.11.ln.bias").as_deref(), Some("image.blocks.11.norm.bias"));
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    op: Op,
    file: Vec<Pattern>,
    model: Vec<Pattern>,
    /// What a counter stands beside.
    beside: Option<Pattern>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Same,
    Counter,
    Transpose,
    Concat,
    Split,
    /// To the model's rank, or to the file's.
    Reshape {
        model: usize,
        file: usize,
    },
    Default,
    Number(f32),
    Drop,
}

impl Op {
    /// Whether it makes what the file does not have, so that no name is looked up by it.
    fn makes(self) -> bool {
        matches!(self, Self::Default | Self::Number(_))
    }
}

impl Mapping {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The mapping that changes nothing.
    pub fn identity() -> Self {
        let all = || vec![Pattern::anything()];
        Self {
            rules: vec![Rule {
                op: Op::Same,
                file: all(),
                model: all(),
                beside: None,
            }],
        }
    }

    /// Appends rows whose names stand under a prefix in the file and under another in the model.
    /// A row whose two sides hold different placeholders is an error.
    pub fn under(mut self, file: &str, model: &str, rows: &[Row]) -> Result<Self> {
        for row in rows {
            self.rules.push(Rule::new(file, model, *row)?);
        }
        Ok(self)
    }

    /// The canonical name of a tensor that has one of its own; `None` for parts, dropped and unknown ones.
    pub fn model_name(&self, file: &str) -> Option<String> {
        let (rule, _, captures) = find(&self.rules, file, |rule| &rule.file)?;
        matches!(rule.op, Op::Same | Op::Counter | Op::Transpose | Op::Reshape { .. })
            .then(|| rule.model[0].expand(&captures))
    }
}

impl Rule {
    fn new(file_prefix: &str, model_prefix: &str, row: Row) -> Result<Self> {
        let file = |names: &[&str]| patterns(file_prefix, names);
        let model = |names: &[&str]| patterns(model_prefix, names);
        let beside = match row {
            Row::Counter { beside, .. } => Some(Pattern::new(model_prefix, beside)?),
            _ => None,
        };
        let (op, file, model) = match row {
            Row::Same { file: from, model: to } => (Op::Same, file(&[from])?, model(&[to])?),
            Row::Transpose { file: from, model: to } => (Op::Transpose, file(&[from])?, model(&[to])?),
            Row::Concat { file: from, model: to } => (Op::Concat, file(from)?, model(&[to])?),
            Row::Split { file: from, model: to } => (Op::Split, file(&[from])?, model(to)?),
            Row::Reshape {
                file: from,
                model: to,
                file_rank,
                model_rank,
            } => (
                Op::Reshape {
                    model: model_rank,
                    file: file_rank,
                },
                file(&[from])?,
                model(&[to])?,
            ),
            Row::Counter {
                file: from, model: to, ..
            } => (Op::Counter, file(&[from])?, model(&[to])?),
            Row::Default { model: to, rows_of } => (Op::Default, file(&[rows_of])?, model(&[to])?),
            Row::Number { model: to, value } => (Op::Number(value), Vec::new(), model(&[to])?),
            Row::Drop { file: from } => (Op::Drop, file(&[from])?, Vec::new()),
        };
        let mut sides = file.iter().chain(&model).chain(&beside).map(Pattern::placeholders);
        let first = sides.next().unwrap_or_default();
        if op != Op::Drop && sides.any(|side| side != first) {
            return Err(Error::internal(format!(
                "the sides of a mapping row hold different placeholders: {row:?}"
            )));
        }
        Ok(Self {
            op,
            file,
            model,
            beside,
        })
    }

    /// The same rule, read the other way.
    fn inverse(&self) -> Self {
        let op = match self.op {
            Op::Concat => Op::Split,
            Op::Split => Op::Concat,
            Op::Reshape { model, file } => Op::Reshape {
                model: file,
                file: model,
            },
            op @ (Op::Same | Op::Counter | Op::Transpose | Op::Default | Op::Number(_) | Op::Drop) => op,
        };
        Self {
            op,
            file: self.model.clone(),
            model: self.file.clone(),
            beside: self.beside.clone(),
        }
    }
}

fn patterns(prefix: &str, names: &[&str]) -> Result<Vec<Pattern>> {
    names.iter().map(|name| Pattern::new(prefix, name)).collect()
}

/// The first rule with a pattern that matches on the given side, which of its patterns, and the captures.
fn find<'r, 'n>(
    rules: &'r [Rule],
    name: &'n str,
    side: impl Fn(&'r Rule) -> &'r Vec<Pattern>,
) -> Option<(&'r Rule, usize, Vec<&'n str>)> {
    rules.iter().filter(|rule| !rule.op.makes()).find_map(|rule| {
        let found = side(rule).iter().enumerate();
        let mut found = found.filter_map(|(part, pattern)| Some((part, pattern.captures(name)?)));
        found.next().map(|(part, captures)| (rule, part, captures))
    })
}

#[cfg(test)]
mod tests;
