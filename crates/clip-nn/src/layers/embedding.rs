//! A table of vectors, looked up by id.

use tch::Tensor;

use crate::{Init, Params, Role};

/// A table `[rows, width]`.
#[derive(Debug)]
pub struct Embedding {
    weight: Tensor,
    padding: i64,
}

impl Embedding {
    /// Takes `weight` `[rows, width]` from `params`.
    pub fn new(params: &Params, [rows, width]: [i64; 2], init: Init) -> Self {
        Self {
            weight: params.tensor("weight", &[rows, width], Role::Embedding, init),
            padding: -1,
        }
    }

    /// The row of this id collects no gradient: what texts are padded with.
    #[must_use]
    pub fn with_padding(self, id: i64) -> Self {
        Self { padding: id, ..self }
    }

    /// Ids `[..]` (i64) to rows `[.., width]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, ids, self.padding, false, false)
    }

    /// The first rows in their order, `[rows, width]`: the vectors of positions, or the one of a type.
    pub fn first(&self, rows: i64) -> Tensor {
        self.weight.narrow(0, 0, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{built, values};
    use tch::Kind;

    #[test]
    fn looks_up_rows_and_spares_the_padding_row() {
        let (embedding, parameters) =
            built(|params| Embedding::new(params, [3, 2], Init::Normal(0.02)).with_padding(0));
        let rows = embedding.forward(&Tensor::from_slice(&[2i64, 0, 2]));
        let table = values(&parameters.iter().next().unwrap().tensor);
        assert_eq!(
            values(&rows),
            [table[4], table[5], table[0], table[1], table[4], table[5]]
        );
        rows.sum(Kind::Float).backward();
        let gradient = parameters.iter().next().unwrap().tensor.grad();
        assert_eq!(values(&gradient), [0.0, 0.0, 0.0, 0.0, 2.0, 2.0]);
    }
}
