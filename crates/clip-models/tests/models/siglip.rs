//! SigLIP as OpenCLIP has it. timm has no picture tower so small as the fixture's, so its sizes do not come from a config
//! of OpenCLIP's; its tensors do.

use clip_format::{Extras, Remapped, WeightsFile, save};

use super::*;

#[test]
fn open_clips_siglip_gives_the_references_features() {
    let (zoo, families) = (zoo(), Families::bundled());
    let folder = fixture("open_clip_siglip_tiny");
    let config = fs::read_to_string(folder.join("canonical.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let file = WeightsFile::open(&folder.join("open_clip_model.safetensors")).unwrap();
    let mapping = families.get("open_clip-siglip").unwrap().mapping(&config).unwrap();
    let weights = Remapped::load(&mapping, file.tensors).unwrap();
    assert!(weights.unknown().is_empty(), "{:?}", weights.unknown());
    let native = tempfile::tempdir().unwrap();
    let at = native.path().join("model");
    save(
        &at,
        &*families.get("clipzoo").unwrap(),
        &config,
        &weights,
        Extras::default(),
    )
    .unwrap();

    let _guard = tch::no_grad_guard();
    let reference = Reference::read("open_clip_siglip_tiny");
    let pipeline = open(&at, &zoo, &families, &OpenOptions::default()).unwrap();
    let images = unit_rows(&reference.images(pipeline.model(), Pass::INFER).raw);
    let texts = unit_rows(&reference.texts(pipeline.model(), Pass::INFER).raw);
    assert_near(&images, reference.get("image_features_norm"), 1e-5);
    assert_near(&texts, reference.get("text_features_norm"), 1e-5);
    let info = pipeline.info();
    let logits =
        images.matmul(&texts.transpose(0, 1)) * f64::from(info.logit_scale) + f64::from(info.logit_bias.unwrap());
    assert_near(&logits, reference.get("logits_per_image"), 1e-4);
}
