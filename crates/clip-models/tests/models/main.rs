//! Whole models against the reference's inputs and outputs, through the doors that the command uses.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod average;
mod features;
mod gradients;
mod opening;
mod reference;
mod siglip;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use clip_format::Families;
use clip_models::{Loaded, OpenOptions, create, load, open, register};
use clip_nn::clip_core::{Embedder, Result, Truncation};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Compute, DualEncoder, ParamOptions, Pass, TextInput, Tokens, Zoo, unit_rows};

use reference::Reference;

/// Directories, and files that are named themselves.
const MODELS: [&str; 17] = [
    "oc_vit_tiny",
    "oc_vit_tiny_quickgelu",
    "hf_vtde_bert_clipvision_tiny",
    "oc_rn_tiny",
    "cn_vit_tiny",
    "cn_rn_tiny",
    "openai_jit_tiny/ViT-tiny.pt",
    "open_clip_custom_text_tiny/epoch_2.pt",
    "easynlp_open_clip_rn_tiny",
    "easynlp_chinese_clip_rn_tiny",
    "hf_vtde_roberta_vit_tiny",
    "hf_clip_tiny",
    "hf_clip_tiny_legacy_eos2",
    "hf_chinese_clip_tiny",
    "hf_siglip_tiny",
    "easynlp_hf_tiny",
    "easynlp_hf_2022_tiny",
];

fn fixture(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/models")
        .join(model)
}

fn zoo() -> Zoo {
    tch::set_num_threads(1);
    let mut zoo = Zoo::new();
    register(&mut zoo).unwrap();
    zoo
}

/// A fixture in hand.
fn opened(model: &str, params: ParamOptions) -> Loaded {
    load(fixture(model), &zoo(), &Families::bundled(), params, None).unwrap()
}

fn trainable() -> ParamOptions {
    ParamOptions {
        trainable: true,
        ..Default::default()
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

#[track_caller]
fn assert_near(a: &Tensor, b: &Tensor, tolerance: f64) {
    let difference = difference(a, b);
    assert!(difference <= tolerance, "{difference:e} apart");
}

/// Equal up to rounding, which differs with the layout of memory and the shape of a product.
#[track_caller]
fn assert_same(a: &Tensor, b: &Tensor) {
    assert_near(a, b, 1e-6 * b.abs().max().double_value(&[]).max(1.0));
}
