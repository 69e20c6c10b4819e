"""What is compared: models of full size that a peer writes at random, and the stored small ones of tests/fixtures/models.

The random weights, pixels and ids are those of xtask/parity/layouts.py, so that no two features are alike.
"""

import dataclasses
import json
import os
import pathlib

import cn_clip
import open_clip
import torch
from cn_clip.clip.model import CLIP as ChineseCLIP
from safetensors.torch import load_file, save_file
from transformers import ChineseCLIPConfig, ChineseCLIPModel, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from layouts import chinese_titles, pictures, randomise, titles

MODELS = pathlib.Path(__file__).resolve().parents[3] / "tests/fixtures/models"
CN_CONFIGS = pathlib.Path(cn_clip.__file__).parent / "clip/model_configs"


@dataclasses.dataclass
class Case:
    # The layout it comes in, as `clipzoo convert --to` calls it.
    own: str
    # The layouts that can hold it.
    others: tuple
    # Writes the model into a folder, or only tells where it lies; gives the path that is opened, and the inputs.
    write: object
    # The stored outputs of a small model, and the prefix of their names.
    stored: object = None


def inputs(pixels, ids, mask=None):
    given = {"pixel_values": pixels, "input_ids": ids}
    return given if mask is None else given | {"attention_mask": mask}


def clip_ids(text):
    return titles(text["vocab_size"], text["context_length"])


def siglip_ids(vocabulary, context):
    # SigLIP pads to its context length with </s>, which is 1.
    ids = chinese_titles(vocabulary, context)
    return ids.masked_fill(ids == 0, 1)


def of_open_clip(name, ids=clip_ids):
    def write(folder):
        model = open_clip.create_model(name)
        randomise(model)
        config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": open_clip.get_model_preprocess_cfg(model)}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file({key: t.contiguous() for key, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
        sizes = config["model_cfg"]
        return folder, inputs(pictures(sizes["vision_cfg"]["image_size"]), ids(sizes["text_cfg"]))

    return write


def of_cn_clip(vision, text, file, beside=False):
    """As Chinese-CLIP's releases: one file in half precision, a data-parallel run's prefix before each name. Two towers that
    it never released together have their configs beside them."""
    def write(folder):
        sizes = json.loads((CN_CONFIGS / f"{vision}.json").read_text())
        layers = sizes["vision_layers"]
        sizes["vision_layers"] = json.loads(layers) if isinstance(layers, str) else layers
        words = json.loads((CN_CONFIGS / f"{text}.json").read_text())
        model = ChineseCLIP(**sizes, **words)
        randomise(model)
        state = {f"module.{key}": t.half() if t.is_floating_point() else t for key, t in model.state_dict().items()}
        torch.save({"epoch": 1, "step": 1, "name": "random", "state_dict": state}, folder / file)
        given = inputs(pictures(sizes["image_resolution"]), chinese_titles(21128, 52))
        if not beside:
            return folder / file, given
        (folder / "vision.json").write_text(json.dumps(sizes))
        (folder / "text.json").write_text(json.dumps(words))
        return folder, given

    return write


def of_transformers(make, config, text):
    def write(folder):
        model = make(config)
        randomise(model)
        model.save_pretrained(folder)
        ids = text(config.text_config)
        mask = ids.ne(0).long() if make is ChineseCLIPModel else None
        return folder, inputs(pictures(config.vision_config.image_size), ids, mask)

    return write


def clip_titles(config):
    return titles(config.vocab_size, config.max_position_embeddings)


def siglip_titles(config):
    return siglip_ids(config.vocab_size, config.max_position_embeddings)


def stored(path):
    """A small model of tests/fixtures/models: a folder, or a file in one."""
    path = MODELS / path
    folder = path if path.is_dir() else path.parent
    io = load_file(folder / "io.safetensors")
    names = ("pixel_values", "input_ids", "attention_mask")
    given = {name: io[name] for name in names if name in io}

    def write(_):
        return path, given

    return write, io


def small(own, others, path, prefix=""):
    write, io = stored(path)
    return Case(own, others, write, {key: io[f"{prefix}{key}_features_norm"] for key in ("image", "text")})


# The config that vit_base_patch32 of OpenAI has in Hugging Face's layout, token ids included.
CLIP_BASE = CLIPConfig(text_config={"bos_token_id": 49406, "eos_token_id": 49407})
CHINESE_BASE = ChineseCLIPConfig(text_config={"vocab_size": 21128}, vision_config={"patch_size": 16})

FULL = {
    "ViT-B-32": Case("open_clip", ("hf",), of_open_clip("ViT-B-32")),
    "ViT-B-32-quickgelu": Case("open_clip", ("hf", "easynlp"), of_open_clip("ViT-B-32-quickgelu")),
    "ViT-L-14": Case("open_clip", ("hf",), of_open_clip("ViT-L-14")),
    # EasyNLP's large English model, in its layout too.
    "ViT-L-14-quickgelu": Case("open_clip", ("hf", "easynlp"), of_open_clip("ViT-L-14-quickgelu")),
    "RN50": Case("open_clip", (), of_open_clip("RN50")),
    "RN50-quickgelu": Case("open_clip", ("easynlp",), of_open_clip("RN50-quickgelu")),
    "ViT-B-16-SigLIP": Case("open_clip", ("hf",), of_open_clip("ViT-B-16-SigLIP", lambda text: siglip_ids(32000, text["context_length"]))),
    "cn_clip-ViT-B-16": Case(
        "chinese_clip", ("hf", "easynlp"), of_cn_clip("ViT-B-16", "RoBERTa-wwm-ext-base-chinese", "clip_cn_vit-b-16.pt")
    ),
    # The towers of EasyNLP's large Chinese model, which Chinese-CLIP never paired.
    "cn_clip-ViT-L-14-RoBERTa-large": Case(
        "chinese_clip", ("hf", "easynlp"), of_cn_clip("ViT-L-14", "RoBERTa-wwm-ext-large-chinese", "clip_cn_model.pt", beside=True)
    ),
    "cn_clip-RN50": Case("chinese_clip", ("easynlp",), of_cn_clip("RN50", "RBT3-chinese", "clip_cn_rn50.pt")),
    "CLIPModel": Case("hf", ("open_clip", "easynlp"), of_transformers(CLIPModel, CLIP_BASE, clip_titles)),
    "ChineseCLIPModel": Case(
        "hf", ("chinese_clip", "easynlp"), of_transformers(ChineseCLIPModel, CHINESE_BASE, lambda c: chinese_titles(c.vocab_size, 52))
    ),
    "SiglipModel": Case("hf", (), of_transformers(SiglipModel, SiglipConfig(), siglip_titles)),
}


def small_ones():
    return {
        "oc_vit_tiny": small("open_clip", ("hf",), "oc_vit_tiny"),
        "oc_vit_tiny_quickgelu": small("open_clip", ("hf",), "oc_vit_tiny_quickgelu"),
        "oc_rn_tiny": small("open_clip", (), "oc_rn_tiny"),
        "openai_jit_tiny": small("open_clip", ("hf", "easynlp"), "openai_jit_tiny/ViT-tiny.pt"),
        "open_clip_custom_text_tiny": small("open_clip", ("hf",), "open_clip_custom_text_tiny/epoch_2.pt"),
        "cn_vit_tiny": small("chinese_clip", ("hf",), "cn_vit_tiny/clip_cn_fp16.pt", "fp16ckpt_"),
        "cn_rn_tiny": small("chinese_clip", (), "cn_rn_tiny/clip_cn_fp16.pt", "fp16ckpt_"),
        "easynlp_open_clip_rn_tiny": small("easynlp", ("open_clip",), "easynlp_open_clip_rn_tiny"),
        "easynlp_chinese_clip_rn_tiny": small("easynlp", ("chinese_clip",), "easynlp_chinese_clip_rn_tiny"),
        "easynlp_hf_tiny": small("easynlp", (), "easynlp_hf_tiny"),
        "hf_clip_tiny": small("hf", ("open_clip",), "hf_clip_tiny"),
        "hf_clip_tiny_legacy_eos2": small("hf", ("open_clip",), "hf_clip_tiny_legacy_eos2"),
        "hf_chinese_clip_tiny": small("hf", (), "hf_chinese_clip_tiny"),
        "hf_siglip_tiny": small("hf", (), "hf_siglip_tiny"),
        "hf_vtde_bert_clipvision_tiny": small("hf", (), "hf_vtde_bert_clipvision_tiny"),
        "hf_vtde_roberta_vit_tiny": small("hf", (), "hf_vtde_roberta_vit_tiny"),
    }


def find(name):
    return FULL.get(name) or small_ones()[name]


def names():
    return [*FULL, *small_ones()]


# Names of a peer's configs are looked up locally; nothing is to be fetched.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
