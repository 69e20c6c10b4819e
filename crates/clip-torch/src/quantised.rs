//! Products of bytes: activations as u8 with a scale and a zero, weights as i8 with a scale a row.
#![allow(unsafe_code, reason = "calls the shim")]

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::ffi::{
    clip_torch_has_products, clip_torch_pack_quantised, clip_torch_quantise, clip_torch_quantised_linear,
    clip_torch_range, made, outcome, pointer,
};
use crate::packed::{Post, check_bias, check_input, check_other, matrix, product_size};
use crate::processor;

/// How bytes stand for numbers: `scale (byte − zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// The step between two bytes.
    pub scale: f64,
    /// The byte of 0, which is exact.
    pub zero: i64,
}

impl Affine {
    /// Bytes for the numbers from `least` to `greatest` and for 0. Numbers outside are clamped.
    pub fn over(least: f64, greatest: f64) -> Self {
        let (least, greatest) = (least.min(0.0), greatest.max(0.0));
        // A range of one number, or none: any scale will do.
        let scale = ((greatest - least) / 255.0).max(1e-12);
        Self {
            scale,
            zero: (-least / scale).round().clamp(0.0, 255.0) as i64,
        }
    }
}

/// A tensor as bytes.
#[derive(Debug)]
pub struct Bytes {
    tensor: Tensor,
    affine: Affine,
}

impl Bytes {
    /// f32 numbers as bytes.
    pub fn of(x: &Tensor, affine: Affine) -> Result<Self> {
        Self::made(x, None, affine)
    }

    /// f32 numbers `[.., columns]` times `factors` `[columns]` as bytes, in one pass.
    pub fn of_scaled(x: &Tensor, factors: &Tensor, affine: Affine) -> Result<Self> {
        let columns = x.size().last().copied().unwrap_or(0);
        if factors.size() != [columns] || factors.kind() != Kind::Float || factors.device() != Device::Cpu {
            return Err(TorchError::Refused(format!(
                "{:?} factors {:?} for {columns} columns",
                factors.kind(),
                factors.size()
            )));
        }
        Self::made(x, Some(&factors.contiguous()), affine)
    }

    fn made(x: &Tensor, factors: Option<&Tensor>, affine: Affine) -> Result<Self> {
        if x.kind() != Kind::Float || x.device() != Device::Cpu || x.numel() == 0 {
            return Err(TorchError::Refused(format!(
                "bytes of {:?} on {:?}",
                x.kind(),
                x.device()
            )));
        }
        if !(affine.scale > 0.0 && affine.scale.is_finite() && (0..=255).contains(&affine.zero)) {
            return Err(TorchError::Refused(format!("bytes by {affine:?}")));
        }
        let x = x.detach().contiguous();
        // SAFETY: live handles, borrowed for the call; the numbers are contiguous f32, and a factor is there a column.
        let tensor = unsafe {
            made(|result| clip_torch_quantise(x.as_ptr(), pointer(factors), affine.scale, affine.zero, result))?
        };
        Ok(Self { tensor, affine })
    }

    /// The numbers that they stand for, f32.
    pub fn numbers(&self) -> Tensor {
        (self.tensor.to_kind(Kind::Float) - self.affine.zero as f64) * self.affine.scale
    }

    /// Their shape.
    pub fn size(&self) -> Vec<i64> {
        self.tensor.size()
    }
}

/// The least and the greatest number of a tensor.
pub fn range(x: &Tensor) -> Result<(f64, f64)> {
    if !x.defined() || x.numel() == 0 {
        return Err(TorchError::Refused("the range of no numbers".into()));
    }
    let (mut least, mut greatest) = (0.0, 0.0);
    // SAFETY: a live handle and two places to write to, borrowed for the call.
    outcome(unsafe { clip_torch_range(x.as_ptr(), &mut least, &mut greatest) })?;
    Ok((least, greatest))
}

/// A matrix `[output, input]` as i8 with a scale a row, symmetric about 0, and an f32 bias `[output]`, laid out once for
/// many products on a CPU: libtorch's `onednn::qlinear_pointwise`. Sums are exact; the products are outside the graph.
#[derive(Debug)]
pub struct QuantisedMatrix {
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor,
    bias: Option<Tensor>,
    input: i64,
}

impl QuantisedMatrix {
    /// Whether this libtorch has the operators.
    pub fn available() -> bool {
        // SAFETY: looks two names up.
        unsafe { clip_torch_has_products(1) != 0 }
    }

    /// Bits of a weight: 8 where the processor sums products of bytes in 32 bits (VNNI), else 7, since sums of two products
    /// may silently saturate in 16.
    pub fn weight_bits() -> u32 {
        if processor::sums_bytes() { 8 } else { 7 }
    }

    /// Whether the processor is of a kind on which these products were seen to be faster than those of f32.
    pub fn is_fast() -> bool {
        processor::multiplies_bytes()
    }

    /// The greatest weight that a row is scaled to.
    fn top() -> f64 {
        if Self::weight_bits() == 8 { 127.0 } else { 63.0 }
    }

    /// Quantises and lays out a dense f32 matrix on the CPU.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let [output, input] = matrix(weight)?;
        if weight.kind() != Kind::Float {
            return Err(TorchError::Refused(format!(
                "a quantised matrix from {:?}",
                weight.kind()
            )));
        }
        check_bias(bias, output, Kind::Float)?;
        let thrown = |error: tch::TchError| TorchError::Thrown(error.to_string());
        let weight = weight.detach();
        let top = Self::top();
        let scales = weight
            .f_abs()
            .and_then(|weight| weight.f_amax([1], true))
            .map_err(thrown)?;
        let scales = (scales / top).clamp_min(1e-12);
        let rounded = (&weight / &scales)
            .round()
            .clamp(-top, top)
            .to_kind(Kind::Int8)
            .contiguous();
        // SAFETY: a live handle, borrowed for the call; the shim copies what it keeps.
        let packed = unsafe { made(|result| clip_torch_pack_quantised(rounded.as_ptr(), result))? };
        Ok(Self {
            weight: packed,
            scales: scales.flatten(0, -1).contiguous(),
            zeros: Tensor::zeros([output], (Kind::Int, Device::Cpu)),
            bias: bias.map(|bias| bias.detach().contiguous()),
            input,
        })
    }

    /// `post(x Wᵀ + bias)`, `[.., input] -> [.., output]`, f32. (To bf16 oneDNN has no kernel without AVX-512: its plain loops
    /// took 64 s for a product of 400 x 768 by 768 x 3072, and 14 ms to f32.)
    pub fn multiply(&self, x: &Bytes, post: Post) -> Result<Tensor> {
        self.call(x, None, post, None)
    }

    /// `x Wᵀ + bias + other`, f32, where `other` is f32 and of the product's shape: one pass over it less than a sum of its
    /// own.
    pub fn multiply_add(&self, x: &Bytes, other: &Tensor) -> Result<Tensor> {
        let shape = product_size(&x.size(), self.scales.size1().unwrap_or(0));
        check_other(other, &shape, Kind::Float)?;
        self.call(x, Some(&other.contiguous()), Post::None, None)
    }

    /// The same as bytes again, for another product.
    pub fn multiply_to_bytes(&self, x: &Bytes, post: Post, affine: Affine) -> Result<Bytes> {
        let tensor = self.call(x, None, post, Some(affine))?;
        Ok(Bytes { tensor, affine })
    }

    /// The product, as bytes by `bytes` or else in f32.
    fn call(&self, x: &Bytes, other: Option<&Tensor>, post: Post, bytes: Option<Affine>) -> Result<Tensor> {
        check_input(&x.tensor, self.input)?;
        // libtorch's numbers of u8 and f32, which the shim names too.
        let kind = if bytes.is_some() { 0 } else { 6 };
        let output = bytes.unwrap_or(Affine { scale: 1.0, zero: 0 });
        // SAFETY: live handles, borrowed for the call; `x` is u8 as the fast kernel wants (i8 would go to a slow one),
        // and shapes were compared.
        unsafe {
            made(|result| {
                clip_torch_quantised_linear(
                    x.tensor.as_ptr(),
                    x.affine.scale,
                    x.affine.zero,
                    self.weight.as_ptr(),
                    self.scales.as_ptr(),
                    self.zeros.as_ptr(),
                    pointer(self.bias.as_ref()),
                    pointer(other),
                    output.scale,
                    output.zero,
                    kind,
                    post.code(),
                    result,
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn numbers_come_back_within_half_a_step_and_zero_is_exact() {
        let x = drawn(&[50, 20]) + 0.3;
        let (least, greatest) = range(&x).unwrap();
        let affine = Affine::over(least, greatest);
        let bytes = Bytes::of(&x, affine).unwrap();
        assert!(distance(&bytes.numbers(), &x) <= affine.scale * 0.51);
        // With factors, as if they had been multiplied before.
        let factors = drawn(&[20]).abs() + 0.1;
        let (least, greatest) = range(&(&x * &factors)).unwrap();
        let wide = Affine::over(least, greatest);
        let scaled = Bytes::of_scaled(&x, &factors, wide).unwrap();
        assert!(distance(&scaled.numbers(), &(&x * &factors)) <= wide.scale * 0.51);
        let zero = Bytes::of(&Tensor::zeros([1], (Kind::Float, Device::Cpu)), affine).unwrap();
        assert_eq!(zero.numbers().double_value(&[0]), 0.0);
        // All of one sign, and none at all.
        assert_eq!(Affine::over(2.0, 4.0).zero, 0);
        assert_eq!(Affine::over(-4.0, -2.0).zero, 255);
        assert!(Affine::over(0.0, 0.0).scale > 0.0);
        assert!(range(&Tensor::zeros([0], (Kind::Float, Device::Cpu))).is_err());
    }

    #[test]
    fn products_are_those_of_the_rounded_numbers() {
        tch::set_num_threads(1);
        tch::manual_seed(3);
        if !QuantisedMatrix::available() {
            assert_ne!(std::env::consts::ARCH, "x86_64", "libtorch has oneDNN there");
            return;
        }
        // Large enough that sums in 16 bits would saturate.
        let (weight, bias) = (drawn(&[16, 768]).abs(), drawn(&[16]));
        let matrix = QuantisedMatrix::new(&weight, Some(&bias)).unwrap();
        let x = drawn(&[2, 9, 768]).abs();
        let (least, greatest) = range(&x).unwrap();
        let bytes = Bytes::of(&x, Affine::over(least, greatest)).unwrap();
        let steps = weight.amax([1], true) / QuantisedMatrix::top();
        let rounded = (&weight / &steps).round() * &steps;
        let want = bytes.numbers().linear(&rounded, Some(&bias));
        let got = matrix.multiply(&bytes, Post::None).unwrap();
        assert_eq!(got.size(), [2, 9, 16]);
        let size = want.abs().max().double_value(&[]);
        assert!(
            distance(&got, &want) < 1e-5 * size,
            "{} of {size}",
            distance(&got, &want)
        );
        let gelu = matrix.multiply(&bytes, Post::Gelu).unwrap();
        assert!(distance(&gelu, &want.gelu("none")) < 1e-5 * size);
        let other = drawn(&[2, 9, 16]);
        let added = matrix.multiply_add(&bytes, &other).unwrap();
        assert!(distance(&added, &(&want + &other)) < 1e-5 * size);
        let affine = Affine::over(0.0, size);
        let again = matrix.multiply_to_bytes(&bytes, Post::Relu, affine).unwrap();
        assert!(distance(&again.numbers(), &want.relu()) <= affine.scale * 0.51);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let matrix = QuantisedMatrix::new(&drawn(&[4, 3]), None).unwrap();
        let affine = Affine::over(-3.0, 3.0);
        let wide = Bytes::of(&drawn(&[2, 5]), affine).unwrap();
        assert!(matrix.multiply(&wide, Post::None).is_err());
        let bytes = Bytes::of(&drawn(&[2, 3]), affine).unwrap();
        assert!(matrix.multiply_add(&bytes, &drawn(&[2, 3])).is_err());
        assert!(
            matrix
                .multiply_add(&bytes, &drawn(&[2, 4]).to_kind(Kind::Double))
                .is_err()
        );
        assert!(Bytes::of(&drawn(&[2]).to_kind(Kind::Double), affine).is_err());
        assert!(Bytes::of_scaled(&drawn(&[2, 3]), &drawn(&[2]), affine).is_err());
        assert!(Bytes::of_scaled(&drawn(&[2, 3]), &drawn(&[3]).to_kind(Kind::Double), affine).is_err());
        assert!(Bytes::of(&drawn(&[2]), Affine { scale: 0.0, zero: 0 }).is_err());
        assert!(QuantisedMatrix::new(&drawn(&[4, 3]), Some(&drawn(&[3]))).is_err());
    }
}
