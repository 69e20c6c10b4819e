//! What a picture and a text of a batch are to each other: right answer, wrong answer, or neither.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use clip_core::Id;
use clip_nn::Context;
use clip_nn::tch::{Device, Kind, Tensor};
use serde::{Deserialize, Serialize};

/// What rows of the same product are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameItem {
    /// All of them are right answers: the target is spread evenly over them.
    #[default]
    Positive,
    /// A pair's own partner is the right answer, the others of its product are left out.
    Mask,
    /// A pair's own partner is the right answer, the others of its product are wrong ones, as for OpenCLIP.
    Negative,
}

/// The relations of a batch, from numbers a row: no matrix of the whole batch is ever made.
///
/// Row `i` of a tile is picture `i`, column `j` is text `j`. A pair's own partner is right, and its product's rows are
/// what [`SameItem`] says. A text that is a concept's name fits every picture whose pair carries that concept (or shows
/// its name as well): where such a picture is not right, the two are left out.
pub(super) struct Answers {
    same_item: SameItem,
    device: Device,
    /// A number a product; rows of no known product have numbers of their own.
    products: Vec<i64>,
    /// Texts that are names, ascending, with the number of their concept in `carriers`.
    names: Vec<(i64, usize)>,
    /// The rows that carry a concept, ascending.
    carriers: Vec<Vec<i64>>,
}

/// The relations of a tile, `[rows, columns]`, boolean; `None` where no place of the tile is meant.
pub(super) struct Relations {
    /// Right answers.
    pub(super) right: Option<Tensor>,
    /// Places that are neither right nor wrong.
    pub(super) masked: Option<Tensor>,
}

impl Relations {
    /// With texts in rows and pictures in columns.
    pub(super) fn transposed(&self) -> Self {
        let turned = |places: &Option<Tensor>| places.as_ref().map(Tensor::tr);
        Self {
            right: turned(&self.right),
            masked: turned(&self.masked),
        }
    }

    /// The places that are not wrong answers.
    pub(super) fn not_wrong(&self) -> Option<Tensor> {
        match (&self.right, &self.masked) {
            (Some(right), Some(masked)) => Some(right.logical_or(masked)),
            (Some(places), None) | (None, Some(places)) => Some(places.shallow_clone()),
            (None, None) => None,
        }
    }
}

impl Answers {
    pub(super) fn new(context: &Context<'_>, same_item: SameItem) -> Self {
        let (names, carriers) = names(context);
        Self {
            same_item,
            device: context.weights.device(),
            products: products(context.items),
            names,
            carriers,
        }
    }

    /// How many pairs.
    pub(super) fn batch(&self) -> i64 {
        self.products.len() as i64
    }

    /// The relations of some pictures and some texts.
    pub(super) fn tile(&self, rows: &Range<i64>, columns: &Range<i64>) -> Relations {
        let own = (rows.start.max(columns.start) < rows.end.min(columns.end)).then(|| {
            let number = |range: &Range<i64>| Tensor::arange_start(range.start, range.end, (Kind::Int64, self.device));
            equal(&number(rows), &number(columns))
        });
        let same = match self.same_item {
            SameItem::Negative => None,
            SameItem::Positive | SameItem::Mask => self.same(rows, columns),
        };
        let named = self.named(rows, columns);
        let (right, left_out) = match self.same_item {
            // The own partner is of the own product.
            SameItem::Positive => (same, named),
            SameItem::Mask => (own, either(same, named)),
            SameItem::Negative => (own, named),
        };
        let masked = match (&right, left_out) {
            (Some(right), Some(left_out)) => Some(left_out.logical_and(&right.logical_not())),
            (_, left_out) => left_out,
        };
        Relations { right, masked }
    }

    /// Where picture and text are of one product.
    fn same(&self, rows: &Range<i64>, columns: &Range<i64>) -> Option<Tensor> {
        let numbers = |range: &Range<i64>| &self.products[range.start as usize..range.end as usize];
        let (rows, columns) = (numbers(rows), numbers(columns));
        let there: HashSet<i64> = rows.iter().copied().collect();
        columns.iter().any(|number| there.contains(number)).then(|| {
            let on_device = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(self.device);
            equal(&on_device(rows), &on_device(columns))
        })
    }

    /// Where a text is the name of a concept that the picture's pair carries.
    fn named(&self, rows: &Range<i64>, columns: &Range<i64>) -> Option<Tensor> {
        let first = self.names.partition_point(|&(text, _)| text < columns.start);
        let mut places = Vec::new();
        for &(text, concept) in self.names[first..].iter().take_while(|(text, _)| *text < columns.end) {
            let carriers = &self.carriers[concept];
            let first = carriers.partition_point(|&row| row < rows.start);
            let inside = carriers[first..].iter().take_while(|&&row| row < rows.end);
            places.extend(inside.map(|row| (row - rows.start) * (columns.end - columns.start) + text - columns.start));
        }
        (!places.is_empty()).then(|| {
            let (height, width) = (rows.end - rows.start, columns.end - columns.start);
            let mut named = Tensor::zeros([height * width], (Kind::Bool, self.device));
            let _ = named.index_fill_(0, &Tensor::from_slice(&places).to_device(self.device), 1);
            named.view([height, width])
        })
    }
}

/// Where a number of `rows` equals one of `columns`.
fn equal(rows: &Tensor, columns: &Tensor) -> Tensor {
    rows.unsqueeze(1).eq_tensor(&columns.unsqueeze(0))
}

fn either(one: Option<Tensor>, other: Option<Tensor>) -> Option<Tensor> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.logical_or(&other)),
        (one, other) => one.or(other),
    }
}

/// A number a product, the same for rows of one product and for no others.
fn products(items: &[Option<Id>]) -> Vec<i64> {
    let mut sorted: Vec<Id> = items.iter().flatten().copied().collect();
    sorted.sort_unstable();
    (0i64..)
        .zip(items)
        .map(|(row, item)| match item {
            Some(item) => sorted.partition_point(|other| other < item) as i64,
            None => -1 - row,
        })
        .collect()
}

/// The texts that are names, and the rows that carry their concepts.
fn names(context: &Context<'_>) -> (Vec<(i64, usize)>, Vec<Vec<i64>>) {
    let mut numbers: HashMap<Id, usize> = HashMap::new();
    let mut names = Vec::new();
    for (row, concept) in (0i64..).zip(context.captions) {
        if let Some(concept) = concept {
            let next = numbers.len();
            names.push((row, *numbers.entry(*concept).or_insert(next)));
        }
    }
    let mut carriers: Vec<Vec<i64>> = vec![Vec::new(); numbers.len()];
    for ((row, concepts), caption) in (0i64..).zip(context.concepts).zip(context.captions) {
        for concept in concepts.iter().chain(caption) {
            if let Some(&number) = numbers.get(concept)
                && carriers[number].last() != Some(&row)
            {
                carriers[number].push(row);
            }
        }
    }
    (names, carriers)
}
