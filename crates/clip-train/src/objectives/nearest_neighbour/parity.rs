//! Against DeCLIP's arithmetic, as `xtask/parity/nearest_neighbour.py` writes it down.

use clip_core::Id;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{FeatureQueue, Features, Modality, Objective, QueueRows, View};

use safetensors::SafeTensors;

use super::tests::{close, with_queue};
use super::{NearestNeighbour, NearestNeighbourConfig};
use crate::objectives::testing::Batch;
use crate::{QueueConfig, RingQueue};

fn tensor(file: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap()
}

/// A queue that is full of given texts, pushed in two parts that go round its end once.
fn full(texts: &Tensor) -> RingQueue {
    let slots = texts.size()[0];
    let config = QueueConfig {
        capacity: slots as usize,
        ..QueueConfig::default()
    };
    let mut queue = RingQueue::new(config, texts.size()[1], Device::Cpu).unwrap();
    let twice = Tensor::cat(&[texts, texts], 0);
    for (start, end) in [(0, slots / 2), (slots / 2, 2 * slots)] {
        let rows = twice.narrow(0, start, end - start);
        let many = (end - start) as usize;
        // No key and no product of the batch is among them.
        let keys: Vec<Id> = (start..end).map(|row| Id(1_000 + (row % slots) as u64)).collect();
        let push = QueueRows {
            images: &rows,
            texts: &rows,
            keys: &keys,
            items: &vec![None; many],
            concepts: &vec![Vec::new(); many],
        };
        queue.push(&push).unwrap();
    }
    queue
}

#[test]
fn one_neighbour_is_declips_loss() {
    let folder = format!("{}/../../tests/fixtures/nearest_neighbour", env!("CARGO_MANIFEST_DIR"));
    let cases = std::fs::read_to_string(format!("{folder}/cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&cases).unwrap();
    let bytes = std::fs::read(format!("{folder}/tensors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for case in cases.as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        let get = |which: String| tensor(&file, &format!("{name}/{which}"));
        let views = |which: &str| 0..case[format!("{which}_views")].as_u64().unwrap();
        let queue = full(&get("queue".into()));
        let images: Vec<Tensor> = views("image")
            .map(|view| get(format!("image{view}")).set_requires_grad(true))
            .collect();
        let texts: Vec<View> = views("text")
            .map(|view| View::new(get(format!("text{view}"))))
            .collect();
        for (text, places) in texts.iter().zip(case["nearest"].as_array().unwrap()) {
            let found = queue.nearest_keys(Modality::Text, &text.unit, 1).unwrap();
            let found: Vec<u64> = found.iter().map(|row| row[0].0.0 - 1_000).collect();
            assert_eq!(serde_json::json!(found), *places, "{name}");
        }
        let batch = Batch::new(&vec![0; images[0].size()[0] as usize]);
        let log_scale = Tensor::from(case["log_scale"].as_f64().unwrap() as f32).set_requires_grad(true);
        let scale = log_scale.exp();
        let views = images.iter().map(|image| View::new(image.shallow_clone())).collect();
        let terms = NearestNeighbour::new(NearestNeighbourConfig::default())
            .unwrap()
            .loss(&Features::new(views, texts), &with_queue(&batch, &scale, &queue))
            .unwrap();
        let (term, loss) = &terms.0[0];
        assert_eq!(*term, "nearest_neighbour");
        loss.backward();
        let (value, wanted) = (loss.double_value(&[]), case["loss"].as_f64().unwrap());
        assert!(close(value, wanted), "{name}: {value} against {wanted}");
        let (slope, wanted) = (
            log_scale.grad().double_value(&[]),
            case["grad_log_scale"].as_f64().unwrap(),
        );
        assert!(close(slope, wanted), "{name}: {slope} against {wanted}");
        for (view, image) in images.iter().enumerate() {
            let wanted = get(format!("grad_image{view}"));
            let off = (image.grad() - &wanted).abs().max().double_value(&[]);
            let most = wanted.abs().max().double_value(&[]);
            assert!(off <= 1e-5 * most, "{name} image {view}: off by {off} of {most}");
        }
    }
}
