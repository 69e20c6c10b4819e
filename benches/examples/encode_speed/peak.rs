//! How near the towers come to what this machine multiplies at best.

use clip_core::serde_json::Value;
use clip_core::{Error, Result};
use clip_nn::Compute;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_torch::{Affine, Bytes, PackedMatrix, Post, QuantisedMatrix, TorchError};

use clipzoo_benches::Clock;

/// Rows, input and output of the product that is the peak: the first half of an MLP of 768 over 8 pictures.
const PRODUCT: [i64; 3] = [400, 768, 3072];
/// Products in a round, and rounds.
const PRODUCTS: usize = 25;
const ROUNDS: usize = 7;

/// Billions of operations a second (a multiplication and an addition are two) of one product over and over, packed or
/// plain: the best of some rounds. `None` where the processor multiplies no packed matrix of the type.
pub(crate) fn peak(compute: Compute, threads: i32) -> Result<Option<f64>> {
    if compute != Compute::Int8 && !PackedMatrix::available(compute.kind()) {
        return Ok(None);
    }
    let [rows, input, output] = PRODUCT;
    let drawn = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let (x, weight) = (drawn([rows, input]), drawn([output, input]));
    let thrown = |error: TorchError| Error::invalid(error.to_string());
    let mut best = f64::INFINITY;
    let mut time = |multiply: &dyn Fn() -> clip_torch::Result<Tensor>| -> Result<()> {
        for _ in 0..ROUNDS {
            let start = Clock::of_threads(threads);
            for _ in 0..PRODUCTS {
                let _product = multiply().map_err(thrown)?;
            }
            best = best.min(start.seconds() / PRODUCTS as f64);
        }
        Ok(())
    };
    if compute == Compute::Int8 {
        let matrix = QuantisedMatrix::new(&weight, None).map_err(thrown)?;
        let bytes = Bytes::of(&x, Affine::over(-4.0, 4.0)).map_err(thrown)?;
        time(&|| matrix.multiply(&bytes, Post::None))?;
    } else {
        let kind = compute.kind();
        let matrix = PackedMatrix::new(&weight.to_kind(kind), None).map_err(thrown)?;
        let x = x.to_kind(kind);
        time(&|| matrix.multiply(&x, Post::None))?;
        let weight = weight.to_kind(kind);
        time(&|| Ok(x.linear(&weight, None::<&Tensor>)))?;
    }
    Ok(Some(2.0 * (rows * input * output) as f64 / best / 1e9))
}

/// Billions of operations that a transformer's features of rows of these token counts need at least: one token alone goes
/// through the last block, and pictures' patches are embedded.
pub(crate) fn operations(config: &Value, images: bool, lengths: &[usize]) -> Option<f64> {
    let tower = &config[if images { "vision_config" } else { "text_config" }];
    let number = |key: &str| tower[key].as_f64();
    let width = number("hidden_size")?;
    let (hidden, layers) = (number("intermediate_size")?, number("num_hidden_layers")?);
    let block = |tokens: f64, through: f64| {
        let keys_and_values = tokens * 2.0 * width * width;
        let rest = through * (2.0 * width * width + 2.0 * width * hidden);
        keys_and_values + rest + 2.0 * through * tokens * width
    };
    let row = |tokens: f64| (layers - 1.0) * block(tokens, tokens) + block(tokens, 1.0);
    let patches = match number("patch_size").filter(|_| images) {
        Some(side) => lengths
            .iter()
            .map(|&tokens| (tokens - 1) as f64 * 3.0 * side * side * width)
            .sum(),
        None => 0.0,
    };
    let all: f64 = lengths.iter().map(|&tokens| row(tokens as f64)).sum();
    Some(2.0 * (all + patches) / 1e9)
}

/// Tokens of a picture: its patches and the class token.
pub(crate) fn picture_tokens(config: &Value) -> Option<usize> {
    let number = |key: &str| config["vision_config"][key].as_u64();
    let side = number("image_size")? / number("patch_size")?;
    usize::try_from(side * side + 1).ok()
}
