//! The nearest rows of a queue: a matrix product by tiles, and the best of each.

use std::ops::Range;

use clip_core::{Id, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Asking, door};

use super::slots::{ById, Slots};

/// Queries that are answered together.
const QUERIES: i64 = 1_024;

/// Cosines in memory at a time: 1 MiB of them, for the processor's caches; 64 MiB on a graphics card.
fn tile(device: Device) -> i64 {
    match device {
        Device::Cpu => 1 << 18,
        _ => 1 << 24,
    }
}

/// The nearest slots of some queries, nearest first.
#[derive(Debug)]
pub(super) struct Nearest {
    /// Cosines `[queries, k]`, minus infinity where there are fewer.
    pub(super) similarity: Tensor,
    /// Slots `[queries, k]`, i64; 0 where there are fewer.
    pub(super) slots: Tensor,
}

/// Looks for the `k` nearest of unit rows `queries` `[queries, dim]` among the filled slots of `features`.
pub(super) fn nearest(
    features: &Tensor,
    slots: &Slots,
    queries: &Tensor,
    asking: Option<Asking<'_>>,
    k: i64,
) -> Result<Nearest> {
    door(|| {
        let count = queries.size()[0];
        let (mut similarity, mut found) = (Vec::new(), Vec::new());
        for start in (0..count).step_by(QUERIES as usize) {
            let block = start..count.min(start + QUERIES);
            let rows = queries.narrow(0, block.start, block.end - block.start);
            let own = asking.map(|asking| Own::of(asking, block));
            let best = sweep(features, slots, &rows, own.as_ref(), k);
            similarity.push(best.similarity);
            found.push(best.slots);
        }
        if similarity.is_empty() {
            let none = Best::none(0, queries.device()).padded(k);
            return none.slots(slots);
        }
        Nearest {
            similarity: Tensor::cat(&similarity, 0),
            slots: Tensor::cat(&found, 0),
        }
    })
}

/// One block of queries against all slots, in the order in which they were filled.
fn sweep(features: &Tensor, slots: &Slots, queries: &Tensor, own: Option<&Own>, k: i64) -> Nearest {
    let count = queries.size()[0];
    let width = (tile(queries.device()) / count.max(1)).max(256);
    let mut best = Best::none(count, queries.device());
    let mut before = 0;
    for part in slots.in_order() {
        for start in part.clone().step_by(width as usize) {
            let range = start..part.end.min(start + width as usize);
            let many = (range.end - range.start) as i64;
            let mut cosines = queries.matmul(&features.narrow(0, range.start as i64, many).tr());
            if let Some(own) = own {
                own.mask(slots, range, &mut cosines);
            }
            best = best.with(&cosines, before, k);
            before += many;
        }
    }
    best.padded(k).slots(slots)
}

/// The best so far: cosines and places in the order of filling, best first; of equals, the one before.
struct Best {
    similarity: Tensor,
    places: Tensor,
}

impl Best {
    fn none(queries: i64, device: Device) -> Self {
        Self {
            similarity: Tensor::zeros([queries, 0], (Kind::Float, device)),
            places: Tensor::zeros([queries, 0], (Kind::Int64, device)),
        }
    }

    /// With the cosines of a tile, whose places begin at `before`, after all those seen.
    fn with(self, cosines: &Tensor, before: i64, k: i64) -> Self {
        let (similarity, columns) = top(cosines, k);
        let places = columns + before;
        if self.places.size()[1] == 0 {
            return Self { similarity, places };
        }
        let all = Tensor::cat(&[&self.similarity, &similarity], 1);
        let (similarity, columns) = top(&all, k);
        let places = Tensor::cat(&[&self.places, &places], 1).gather(1, &columns, false);
        Self { similarity, places }
    }

    /// With `k` columns also where there are fewer slots.
    fn padded(self, k: i64) -> Self {
        let missing = k - self.places.size()[1];
        if missing <= 0 {
            return self;
        }
        let shape = [self.places.size()[0], missing];
        let nothing = Tensor::full(shape, f64::NEG_INFINITY, (Kind::Float, self.places.device()));
        Self {
            similarity: Tensor::cat(&[self.similarity, nothing], 1),
            places: self.places.constant_pad_nd([0, missing]),
        }
    }

    fn slots(self, slots: &Slots) -> Nearest {
        let places = self.places + slots.oldest() as i64;
        Nearest {
            similarity: self.similarity,
            slots: places.remainder(slots.len().max(1) as i64),
        }
    }
}

/// The `k` largest of each row, largest first, and their columns; of equals, the column before.
fn top(values: &Tensor, k: i64) -> (Tensor, Tensor) {
    let k = k.min(values.size()[1]);
    if k == 1 {
        // The first of equals is what libtorch promises of a maximum; of the `k` largest it promises nothing.
        return values.max_dim(1, true);
    }
    // Value and column in one whole number, which no two share: the float's bits, made to ascend as the float does, above
    // the columns counted from the end. Adding zero makes one zero of the two.
    let bits = (values + 0.0).view_dtype(Kind::Int);
    let ascending = ascend(&bits).to_kind(Kind::Int64);
    let from_end = LOW - Tensor::arange(values.size()[1], (Kind::Int64, values.device()));
    let (keys, _) = (ascending * (LOW + 1) + from_end).topk(k, 1, true, true);
    let columns = LOW - keys.bitwise_and(LOW);
    let bits = keys.bitwise_right_shift_tensor_scalar(32).to_kind(Kind::Int);
    (ascend(&bits).view_dtype(Kind::Float), columns)
}

/// The lower half of a 64-bit number.
const LOW: i64 = 0xffff_ffff;

/// Bits of floats as integers that ascend with them, and back: those of negative floats descend.
fn ascend(bits: &Tensor) -> Tensor {
    let negative = bits
        .bitwise_right_shift_tensor_scalar(31)
        .bitwise_and(i64::from(i32::MAX));
    bits.bitwise_xor_tensor(&negative)
}

/// Which queries of a block may not find a slot: by the slot's key, and by its product.
struct Own {
    keys: ById<Vec<i64>>,
    items: ById<Vec<i64>>,
}

impl Own {
    fn of(asking: Asking<'_>, block: Range<i64>) -> Self {
        let (mut keys, mut items) = (ById::<Vec<i64>>::default(), ById::<Vec<i64>>::default());
        for row in block.clone() {
            let note = |table: &mut ById<Vec<i64>>, id: Id| table.entry(id).or_default().push(row - block.start);
            note(&mut keys, asking.keys[row as usize]);
            if let Some(item) = asking.items[row as usize] {
                note(&mut items, item);
            }
        }
        Self { keys, items }
    }

    /// Puts the cosines `[queries, range]` of one's own to minus infinity.
    fn mask(&self, slots: &Slots, range: Range<usize>, cosines: &mut Tensor) {
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        for (column, slot) in (0..).zip(&slots.filled[range]) {
            let same = self.keys.get(&slot.key);
            let alike = slot.item.and_then(|item| self.items.get(&item));
            for row in same.into_iter().chain(alike).flatten() {
                rows.push(*row);
                columns.push(column);
            }
        }
        if rows.is_empty() {
            return;
        }
        let device = cosines.device();
        let index = [rows, columns].map(|index: Vec<i64>| Some(Tensor::from_slice(&index).to_device(device)));
        let own = Tensor::from(f32::NEG_INFINITY).to_device(device);
        let _ = cosines.index_put_(&index, &own, false);
    }
}
