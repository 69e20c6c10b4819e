//! Weights of another floating-point type.

use std::collections::HashMap;

use clip_core::{Error, Result};

use crate::mapping::AsWeights;
use crate::tensor::{Dtype, TensorInfo, TensorView, Weights};

/// Elements that are widened and narrowed at a time.
const CHUNK: usize = 4096;

/// Weights whose floating-point tensors have one type, each converted when it is asked for. Tensors of that type already
/// and integers are handed through as they are.
///
/// Rounds to the nearest, to even in the middle, as PyTorch does; f64 passes through f32. A finite number that the type
/// cannot hold is an error: it would become infinite in silence.
#[derive(Debug)]
pub(crate) struct Cast<W> {
    source: W,
    tensors: Vec<TensorInfo>,
    /// The types of the tensors by name.
    types: HashMap<String, Dtype>,
    to: Dtype,
}

impl<W: AsWeights> Cast<W> {
    /// All floating-point tensors as `to`, which is f32, f16 or bf16; as they are where it is `None`.
    pub(crate) fn new(source: W, to: Option<Dtype>) -> Self {
        let mut tensors = source.weights().tensors().to_vec();
        if let Some(to) = to {
            let floats = tensors.iter_mut().filter(|tensor| tensor.dtype.is_float());
            floats.for_each(|tensor| tensor.dtype = to);
        }
        let types = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.dtype));
        Self {
            source,
            types: types.collect(),
            tensors,
            // Without a type nothing below is converted.
            to: to.unwrap_or(Dtype::F32),
        }
    }
}

impl<W: AsWeights> Weights for Cast<W> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let Some(view) = self.source.weights().view(name)? else {
            return Ok(None);
        };
        if self.types.get(name).is_none_or(|announced| *announced == view.dtype) {
            return Ok(Some(view));
        }
        let data = narrow(&view, self.to)
            .map_err(|error| Error::new(error.kind(), format!("tensor `{name}` {}", error.what())).remedy(REMEDY))?;
        Ok(Some(TensorView {
            dtype: self.to,
            shape: view.shape,
            data: data.into(),
        }))
    }

    fn release(&self) {
        self.source.weights().release();
    }
}

const REMEDY: &str = "use bf16, which has the range of f32, or keep f32";

/// The elements as another floating-point type, a few thousand at a time, so that nothing but the result is held.
fn narrow(view: &TensorView<'_>, to: Dtype) -> Result<Vec<u8>> {
    let count = view.data.len() / view.dtype.size();
    let mut out = Vec::with_capacity(count * to.size());
    for chunk in view.data.chunks(CHUNK * view.dtype.size()) {
        let part = TensorView {
            dtype: view.dtype,
            shape: vec![chunk.len() / view.dtype.size()],
            data: chunk.into(),
        };
        for value in part.to_f32()? {
            let kept = match to {
                Dtype::F16 => {
                    let narrow = half::f16::from_f32(value);
                    out.extend_from_slice(&narrow.to_le_bytes());
                    narrow.is_finite()
                }
                Dtype::BF16 => {
                    let narrow = half::bf16::from_f32(value);
                    out.extend_from_slice(&narrow.to_le_bytes());
                    narrow.is_finite()
                }
                _ => {
                    out.extend_from_slice(&value.to_le_bytes());
                    true
                }
            };
            if !kept && value.is_finite() {
                return Err(Error::invalid(format!("holds {value}, which is beyond {to}")));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Table;
    use proptest::prelude::*;

    fn cast(table: &Table, to: Option<Dtype>) -> Result<Table> {
        let cast = Cast::new(table as &dyn Weights, to);
        for name in table.names() {
            cast.view(name)?;
        }
        Ok(Table::of(&cast))
    }

    #[test]
    fn integers_and_tensors_of_the_type_stay() {
        let mut table = Table::new([("w", vec![3], vec![1.0, f32::NAN, f32::INFINITY])]);
        table.push_bytes("count", Dtype::I64, vec![1], 7i64.to_le_bytes().to_vec());
        assert_eq!(cast(&table, None).unwrap(), Table::of(&table));
        assert_eq!(cast(&table, Some(Dtype::F32)).unwrap(), Table::of(&table));
        let half = cast(&table, Some(Dtype::F16)).unwrap();
        let types: Vec<Dtype> = half.tensors().iter().map(|tensor| tensor.dtype).collect();
        assert_eq!(types, [Dtype::I64, Dtype::F16]);
        let values = half.view("w").unwrap().unwrap().to_f32().unwrap();
        assert!(values[0] == 1.0 && values[1].is_nan() && values[2] == f32::INFINITY);
    }

    #[test]
    fn what_f16_cannot_hold_is_told() {
        let table = Table::new([("w", vec![2], vec![1.0, 70000.0])]);
        assert_eq!(
            cast(&table, Some(Dtype::F16)).unwrap_err().to_string(),
            "tensor `w` holds 70000, which is beyond F16; use bf16, which has the range of f32, or keep f32"
        );
        cast(&table, Some(Dtype::BF16)).unwrap();
    }

    proptest! {
        /// To f32 and back changes nothing, whatever the bits.
        #[test]
        fn widening_is_exact(bits in proptest::collection::vec(any::<u16>(), 1..9000), brain in any::<bool>()) {
            let dtype = if brain { Dtype::BF16 } else { Dtype::F16 };
            let is_nan = |bits: u16| if brain { half::bf16::from_bits(bits).is_nan() } else { half::f16::from_bits(bits).is_nan() };
            let bits: Vec<u16> = bits.into_iter().map(|bits| if is_nan(bits) { 0 } else { bits }).collect();
            let mut table = Table::new([]);
            let data: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            table.push_bytes("w", dtype, vec![bits.len()], data);
            let wide = cast(&table, Some(Dtype::F32)).unwrap();
            prop_assert_eq!(cast(&wide, Some(dtype)).unwrap(), Table::of(&table));
        }
    }
}
