//! Random unit vectors in the place of prototypes.

use std::f64::consts::TAU;

use clip_core::{Id, Result};
use clip_nn::tch::{Device, Tensor};
use clip_nn::{door, unit_rows};

use crate::seeds::mix;

/// A number from above 0 to 1.
fn uniform(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// A direction for each concept, drawn evenly from all directions (normal coordinates, Box and Muller 1958) by `draw`
/// and the concept's id alone: `[concepts, dim]`.
pub(super) fn random(concepts: &[Id], dim: i64, draw: u64, device: Device) -> Result<Tensor> {
    let mut values = Vec::with_capacity(concepts.len() * dim as usize);
    for concept in concepts {
        let start = mix(mix(draw) ^ concept.0);
        values.extend((0..dim as u64).map(|at| {
            let (radius, angle) = (mix(start ^ (2 * at)), mix(start ^ (2 * at + 1)));
            ((-2.0 * uniform(radius).ln()).sqrt() * (TAU * uniform(angle)).cos()) as f32
        }));
    }
    door(|| {
        let rows = Tensor::from_slice(&values).view([concepts.len() as i64, dim]);
        unit_rows(&rows).to_device(device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::Kind;

    fn rows(concepts: &[u64], seed: u64) -> Tensor {
        let concepts: Vec<Id> = concepts.iter().map(|&id| Id(id)).collect();
        random(&concepts, 300, seed, Device::Cpu).unwrap()
    }

    #[test]
    fn a_concept_keeps_its_direction_whoever_stands_beside_it() {
        let three = rows(&[5, 6, 1 << 60], 1);
        assert_eq!(three.narrow(0, 1, 1), rows(&[6], 1));
        assert_ne!(rows(&[6], 1), rows(&[6], 2));
        // Unit rows; of 300 dimensions, two directions drawn apart have cosines of about 1 / sqrt(300).
        let cosines = three.matmul(&three.tr());
        let off = (cosines - Tensor::eye(3, (Kind::Float, Device::Cpu))).abs().max();
        assert!(off.double_value(&[]) < 0.25, "{off}");
        let mean = rows(&(0..200).collect::<Vec<_>>(), 3)
            .mean(Kind::Float)
            .double_value(&[]);
        assert!(mean.abs() < 1e-3, "{mean}");
    }
}
