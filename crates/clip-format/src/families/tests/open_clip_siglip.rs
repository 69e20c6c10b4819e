//! SigLIP in OpenCLIP's layout, both ways.

use super::layouts::{Builder, open_clip_blocks};
use super::*;

const NAME: &str = "open_clip-siglip";

/// What open_clip's model_configs/ViT-B-16-SigLIP.json says.
fn config() -> Value {
    json!({"model_cfg": {
        "embed_dim": 768, "init_logit_bias": -10, "custom_text": true,
        "vision_cfg": {
            "image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", "timm_model_pretrained": false,
            "timm_pool": "map", "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 64, "vocab_size": 32000, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
            "tokenizer_kwargs": {"clean": "canonicalize"}, "width": 768, "heads": 12, "layers": 12, "no_causal_mask": true,
            "proj_bias": true, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    }})
}

/// Tensors under their names; a mapping goes by names, so they are small.
fn tensors(vision: Sizes, text: Sizes) -> Table {
    let mut out = Builder::new();
    out.add("logit_scale", &[]);
    out.add("logit_bias", &[]);
    let (at, width) = ("visual.trunk", vision.width);
    out.add(format!("{at}.pos_embed"), &[1, 4, width]);
    out.add(format!("{at}.patch_embed.proj.weight"), &[width, 3, 2, 2]);
    out.add(format!("{at}.patch_embed.proj.bias"), &[width]);
    for layer in 0..vision.layers {
        let at = format!("{at}.blocks.{layer}");
        out.norm(&format!("{at}.norm1"), width);
        out.linear(&format!("{at}.attn.qkv"), 3 * width, width);
        out.linear(&format!("{at}.attn.proj"), width, width);
        out.norm(&format!("{at}.norm2"), width);
        out.linear(&format!("{at}.mlp.fc1"), vision.hidden, width);
        out.linear(&format!("{at}.mlp.fc2"), width, vision.hidden);
    }
    out.norm(&format!("{at}.norm"), width);
    out.add(format!("{at}.attn_pool.latent"), &[1, 1, width]);
    out.linear(&format!("{at}.attn_pool.q"), width, width);
    out.linear(&format!("{at}.attn_pool.kv"), 2 * width, width);
    out.linear(&format!("{at}.attn_pool.proj"), width, width);
    out.norm(&format!("{at}.attn_pool.norm"), width);
    out.linear(&format!("{at}.attn_pool.mlp.fc1"), vision.hidden, width);
    out.linear(&format!("{at}.attn_pool.mlp.fc2"), width, vision.hidden);
    out.add("text.positional_embedding", &[7, text.width]);
    out.add("text.token_embedding.weight", &[11, text.width]);
    open_clip_blocks(&mut out, "text.", text);
    out.norm("text.ln_final", text.width);
    out.linear("text.text_projection", text.embed, text.width);
    out.table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn it_goes_both_ways(vision in sizes(), text in sizes()) {
        let (ours, model) = round_trip(NAME, &(config(), tensors(vision, text)));
        prop_assert_eq!(&ours["vision_config"]["num_attention_heads"], 12);
        prop_assert_eq!(&ours["tokenizer"]["cleaning"], "canonical");
        prop_assert_eq!(shape(&model, "image.head.attention.qkv.weight"), Some(vec![3 * vision.width, vision.width]));
        prop_assert_eq!(shape(&model, "image.head.probe"), Some(vec![vision.width]));
        prop_assert_eq!(shape(&model, "text_projection.bias"), Some(vec![text.embed]));
        prop_assert!(model.names().iter().all(|name| !name.contains("trunk")));
    }
}

fn read(change: impl Fn(&mut Value)) -> Result<Value> {
    let mut config = config();
    change(&mut config["model_cfg"]);
    let families = Families::bundled();
    let evidence = evidence(Some(&config), &[]);
    families.recognise(&evidence)?.canonical(&evidence)
}

#[test]
fn a_name_says_sizes_and_activation() {
    let ours = read(|_| ()).unwrap();
    assert_eq!(ours["vision_config"]["hidden_act"], "gelu");
    assert_eq!(ours["text_config"]["hidden_act"], "gelu");
    assert_eq!(ours["text_config"]["pad_token_id"], 1);
    let ours = read(|model| {
        model["embed_dim"] = 1152.into();
        model["vision_cfg"]["timm_model_name"] = "vit_so400m_patch16_siglip_384".into();
        model["text_cfg"]["act_kwargs"] = json!({"approximate": "tanh"});
        model["text_cfg"]["mlp_ratio"] = 3.7362.into();
        model["text_cfg"]["width"] = 1152.into();
    });
    let ours = ours.unwrap();
    let vision = &ours["vision_config"];
    assert_eq!(
        [
            &vision["intermediate_size"],
            &vision["image_size"],
            &vision["num_hidden_layers"]
        ],
        [4304, 384, 27]
    );
    assert_eq!(vision["hidden_act"], "gelu_pytorch_tanh");
    assert_eq!(ours["text_config"]["hidden_act"], "gelu_pytorch_tanh");
    assert_eq!(ours["text_config"]["intermediate_size"], 4304);
}

#[test]
fn what_is_not_built_is_refused_by_its_key() {
    let refused = |key: &'static [&'static str], value: Value| {
        let error = read(|model| {
            let mut at = &mut *model;
            for part in key {
                at = &mut at[*part];
            }
            *at = value.clone();
        });
        error.unwrap_err().to_string()
    };
    for (key, value) in [
        (&["vision_cfg", "timm_pool"][..], json!("avg")),
        (&["vision_cfg", "timm_proj"], json!("linear")),
        (&["text_cfg", "pool_type"], json!("argmax")),
        (&["text_cfg", "pool_type"], Value::Null),
        (&["text_cfg", "no_causal_mask"], json!(false)),
        (&["text_cfg", "hf_model_name"], json!("xlm-roberta-base")),
        (&["text_cfg", "act_kwargs"], json!({"approximate": "sigmoid"})),
        (&["custom_text"], json!(false)),
        (&["embed_dim"], json!(512)),
        (&["vision_cfg", "something"], json!(1)),
    ] {
        let error = refused(key, value);
        assert!(error.contains(key[key.len() - 1]), "{key:?}: {error}");
    }
    let error = refused(&["vision_cfg", "timm_model_name"], json!("vit_huge_patch14_siglip_224"));
    assert!(error.contains("vit_giantopt_patch16_siglip_384"), "{error}");
    // Others of timm's towers are nobody's here, also those that pool by the mean.
    for name in ["vit_base_patch16_siglip_gap_224", "convnext_base"] {
        let error = refused(&["vision_cfg", "timm_model_name"], json!(name));
        assert!(error.contains("timm_model_name` is"), "{error}");
    }
}

#[test]
fn weights_alone_name_the_towers_of_their_sizes() {
    let small = Sizes {
        width: 8,
        hidden: 12,
        layers: 2,
        embed: 8,
    };
    let mut table = tensors(small, small);
    let error = |table: &Table| {
        let error = Families::bundled()
            .recognise(&evidence(None, table.tensors()))
            .unwrap_err();
        error.to_string()
    };
    assert!(error(&table).contains("`timm_model_name`: none that is known has these sizes"));
    // Of SigLIP B/16 at 224 pixels, as far as shapes go.
    table.replace("visual.trunk.pos_embed", &[1, 14 * 14, 768]);
    table.replace("visual.trunk.patch_embed.proj.weight", &[768, 3, 16, 16]);
    for layer in 0..12 {
        table.replace(&format!("visual.trunk.blocks.{layer}.mlp.fc1.weight"), &[3072, 768]);
    }
    let message = error(&table);
    assert!(
        message.starts_with("the weights are those of OpenCLIP's SigLIP, but open_clip_config.json is missing"),
        "{message}"
    );
    let mut shown: Value = serde_json::from_str(&message[message.find(": {").unwrap() + 2..]).unwrap();
    let model = &mut shown["model_cfg"];
    assert_eq!(model["vision_cfg"]["timm_model_name"], "vit_base_patch16_siglip_224");
    model["text_cfg"]["heads"] = 2.into();
    model["text_cfg"]["act_kwargs"]["approximate"] = "tanh".into();
    let config = canonical(&open_clip::Siglip, &shown, table.tensors()).unwrap();
    let text = &config["text_config"];
    assert_eq!(
        [
            &text["hidden_size"],
            &text["num_hidden_layers"],
            &text["vocab_size"],
            &config["context_length"]
        ],
        [8, 2, 11, 7]
    );
    assert_eq!(
        [&config["text_projection"]["bias"], &config["logit_bias"]],
        [true, true]
    );
}
