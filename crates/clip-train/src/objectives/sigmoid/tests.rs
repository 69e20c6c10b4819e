//! The sigmoid loss against SigLIP's, and in tiles against autograd over the whole matrix in f64.

use std::ops::Range;

use clip_core::Id;
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Context, Features, Objective, View, unit_rows};
use proptest::prelude::*;

use super::super::parity::{close, fixture, tensor};
use super::super::testing::Batch;
use super::{SameItem, Sigmoid, SigmoidConfig};
use safetensors::SafeTensors;

fn loss(config: SigmoidConfig, features: &Features, context: &Context<'_>) -> Tensor {
    let mut terms = Sigmoid::new(config).loss(features, context).unwrap().0;
    assert_eq!(terms.len(), 1);
    terms.remove(0).1
}

#[test]
fn loss_and_gradients_are_siglips() {
    let (cases, bytes) = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = cases.as_array().unwrap().iter();
    let cases = cases.filter(|case| case["case"].as_str().unwrap().starts_with("siglip"));
    let mut seen = 0;
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let number = |key: &str| case[key].as_f64().unwrap();
        for tile in [0, 1, 5, 16] {
            seen += 1;
            let leaf = |which: &str| tensor(&file, &format!("{name}/{which}")).set_requires_grad(true);
            let scalar = |key| Tensor::from(number(key) as f32).set_requires_grad(true);
            let (image, text, log_scale, bias) = (leaf("image"), leaf("text"), scalar("log_scale"), scalar("bias"));
            // The reference's gradients are with respect to unit rows.
            let view = |unit: &Tensor| {
                vec![View {
                    raw: unit.shallow_clone(),
                    unit: unit.shallow_clone(),
                }]
            };
            let (scale, rows) = (log_scale.exp(), image.size()[0]);
            let batch = Batch::new(&vec![0; rows as usize]);
            let context = Context {
                bias: Some(&bias),
                ..batch.context(&scale, 0..rows)
            };
            let config = SigmoidConfig {
                tile,
                ..SigmoidConfig::default()
            };
            let loss = loss(config, &Features::new(view(&image), view(&text)), &context);
            loss.backward();
            let got = [&loss, &log_scale.grad(), &bias.grad()].map(|value| value.double_value(&[]));
            let wanted = ["loss", "grad_log_scale", "grad_bias"].map(number);
            for (got, wanted) in got.into_iter().zip(wanted) {
                assert!(close(got, wanted), "{name}, tile {tile}: {got} against {wanted}");
            }
            for (leaf, which) in [(&image, "grad_image"), (&text, "grad_text")] {
                let wanted = tensor(&file, &format!("{name}/{which}"));
                let off = (leaf.grad() - &wanted).abs().max().double_value(&[]);
                let most = wanted.abs().max().double_value(&[]);
                assert!(off <= 1e-5 * most.max(1e-3), "{name} {which}: off by {off} of {most}");
            }
        }
    }
    assert_eq!(seen, 16);
}

/// Product, concept (0 for none), whether its name is the text, weight.
type Row = (u64, u64, bool, f32);

/// The loss over the whole matrix by autograd, in f64.
fn by_hand(rows: &[Row], config: SigmoidConfig, leaves: &[Tensor; 4], slice: &Range<i64>) -> Tensor {
    let [image, text, scale, bias] = leaves;
    let logits = unit_rows(image).matmul(&unit_rows(text).tr()) * scale + bias;
    let (mut sign, mut weight) = (Vec::new(), Vec::new());
    let whole: f64 = rows.iter().map(|row| f64::from(row.3)).sum();
    let own = |i: usize| {
        if slice.contains(&(i as i64)) {
            f64::from(rows[i].3)
        } else {
            0.0
        }
    };
    for (i, picture) in rows.iter().enumerate() {
        for (j, words) in rows.iter().enumerate() {
            let same = picture.0 > 0 && picture.0 == words.0;
            let named = words.2 && words.1 > 0 && words.1 == picture.1;
            let right = i == j || (same && config.same_item == SameItem::Positive);
            let left_out = !right && (named || (same && config.same_item == SameItem::Mask));
            sign.push(if right { 1.0 } else { -1.0 });
            weight.push(if left_out { 0.0 } else { (own(i) + own(j)) / 2.0 / whole });
        }
    }
    let matrix = |values: &[f64]| Tensor::from_slice(values).view([rows.len() as i64, -1]);
    -((logits * matrix(&sign)).log_sigmoid() * matrix(&weight)).sum(Kind::Double)
}

fn leaves(seed: i64, rows: usize, kind: Kind) -> [Tensor; 4] {
    tch::manual_seed(seed);
    let features = || Tensor::randn([rows as i64, 6], (Kind::Float, Device::Cpu));
    let all = [features(), features(), Tensor::from(9f32), Tensor::from(-3f32)];
    all.map(|leaf| leaf.to_kind(kind).set_requires_grad(true))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn tiles_are_the_whole_matrix(
        mut rows in prop::collection::vec((0u64..4, 0u64..4, any::<bool>(), prop_oneof![Just(1f32), 0f32..3.0]), 1..14),
        same_item in prop_oneof![Just(SameItem::Positive), Just(SameItem::Mask), Just(SameItem::Negative)],
        (tile, first, many, seed) in (0usize..16, 0usize..14, 1usize..15, any::<i32>()),
    ) {
        rows[0].3 = 1.0;
        let mut batch = Batch::new(&rows.iter().map(|row| row.0).collect::<Vec<_>>());
        let concept = |row: &Row| Some(Id(row.1)).filter(|id| id.0 > 0);
        batch.concepts = rows.iter().map(|row| concept(row).into_iter().collect()).collect();
        batch.captions = rows.iter().map(|row| concept(row).filter(|_| row.2)).collect();
        batch.weights = Tensor::from_slice(&rows.iter().map(|row| row.3).collect::<Vec<_>>());
        let (start, end) = (first % rows.len(), rows.len().min(first % rows.len() + many));
        let slice = start as i64..end as i64;
        let config = SigmoidConfig { same_item, tile };

        let wanted = leaves(i64::from(seed), rows.len(), Kind::Double);
        let loss_wanted = by_hand(&rows, config, &wanted, &slice);
        loss_wanted.backward();
        let got = leaves(i64::from(seed), rows.len(), Kind::Float);
        let view = |leaf: &Tensor| vec![View::new(leaf.shallow_clone())];
        let features = Features::new(view(&got[0]), view(&got[1]));
        let context = Context { bias: Some(&got[3]), ..batch.context(&got[2], slice) };
        let loss = loss(config, &features, &context);
        loss.backward();

        let (value, by_hand) = (loss.double_value(&[]), loss_wanted.double_value(&[]));
        prop_assert!((value - by_hand).abs() <= 2e-6 * by_hand.max(1.0), "{value} against {by_hand}");
        for (got, wanted) in got.iter().zip(&wanted) {
            let off = (got.grad() - wanted.grad()).abs().max().double_value(&[]);
            let most = wanted.grad().abs().max().double_value(&[]);
            prop_assert!(off <= 1e-5 * most.max(0.1), "a gradient is off by {off} of {most}");
        }
    }
}

#[test]
fn a_model_without_a_bias_is_refused() {
    let [image, text, scale, _] = leaves(1, 2, Kind::Float);
    let features = Features::new(vec![View::new(image)], vec![View::new(text)]);
    let batch = Batch::new(&[0; 2]);
    let error = Sigmoid::new(SigmoidConfig::default()).loss(&features, &batch.context(&scale, 0..2));
    assert!(error.unwrap_err().to_string().contains("logit_bias"));
}
