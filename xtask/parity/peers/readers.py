"""How each peer loads a checkpoint of its own layout, strictly, and what it computes.

A reader takes a path and gives a function from inputs to features, `image` and `text`, unit rows `[rows, dim]`. Whatever is
missing, surplus or misshapen is an error. Pickles are read with `weights_only`.
"""

import json
import pathlib

import open_clip
import torch
import torch.nn.functional as F
from cn_clip.clip import utils as cn_clip
from cn_clip.clip.model import CLIP as ChineseCLIP
from open_clip.model import CLIP
from safetensors.torch import load_file
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, RobertaConfig, RobertaModel

from cases import CN_CONFIGS


def is_archive(path):
    try:
        torch.jit.load(str(path), map_location="cpu")
        return True
    except RuntimeError:
        return False


def tensors(path):
    """The tensors of a model's file, or of the one file of weights in a folder, without the prefix of a parallel run."""
    path = pathlib.Path(path)
    if path.is_dir():
        endings = (".safetensors", ".bin", ".pt")
        found = [p for p in sorted(path.iterdir()) if p.suffix in endings and p.name != "io.safetensors"]
        assert len(found) == 1, f"{path} holds {[p.name for p in found]}"
        path = found[0]
    if path.suffix == ".safetensors":
        return load_file(path)
    if is_archive(path):
        return dict(torch.jit.load(str(path), map_location="cpu").state_dict())
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def encoder(model):
    """The features of a model with the methods of OpenAI's."""
    model = model.float().eval()

    def features(given):
        images, texts = model.encode_image(given["pixel_values"]), model.encode_text(given["input_ids"])
        return {"image": F.normalize(images, dim=-1), "text": F.normalize(texts, dim=-1)}

    return features


def read_open_clip(path):
    path = pathlib.Path(path)
    if path.is_dir():
        # It loads strictly, and so once more do we.
        model = open_clip.create_model(f"local-dir:{path}", precision="fp32", weights_only=True)
        model.load_state_dict(load_file(path / "open_clip_model.safetensors"), strict=True)
    elif is_archive(path):
        model = open_clip.load_openai_model(str(path), precision="fp32")
    else:
        model = open_clip.create_model(f"local-dir:{path.parent}", load_weights=False)
        open_clip.load_checkpoint(model, str(path), strict=True)
    return encoder(model)


def read_transformers(path):
    # In single precision, whatever the file has: by itself it would round all to the type of some.
    model, report = AutoModel.from_pretrained(path, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
    faults = {key: value for key, value in report.items() if value}
    assert not faults, f"transformers reports {faults}"
    model.eval()
    masks = model.config.model_type == "chinese_clip"

    def features(given):
        if masks and "attention_mask" not in given:
            # Its tokenizer would say so.
            given = given | {"attention_mask": given["input_ids"].ne(0).long()}
        output = model(**given)
        return {"image": F.normalize(output.image_embeds, dim=-1), "text": F.normalize(output.text_embeds, dim=-1)}

    return features


def configs_of_cn_clip(path):
    """The two configs beside a file, and the names under which the package has the same, if it does."""
    folder = path if path.is_dir() else path.parent
    known = {p.stem: json.loads(p.read_text()) for p in CN_CONFIGS.glob("*.json")}
    files = [folder / "vision.json", folder / "text.json"]
    if not all(file.exists() for file in files):
        released = {"clip_cn_vit-b-16.pt": "ViT-B-16", "clip_cn_rn50.pt": "RN50"}[path.name]
        return None, cn_clip._MODEL_INFO[released]["struct"]
    own = [json.loads(file.read_text()) for file in files]

    def plain(config):
        layers = config.get("vision_layers")
        return config | {"vision_layers": json.loads(layers)} if isinstance(layers, str) else config

    same = [[name for name, config in known.items() if plain(config) == plain(one)] for one in own]
    return own[0] | own[1], "@".join(found[0] for found in same) if all(same) else None


def read_chinese_clip(path):
    path = pathlib.Path(path)
    file = path if path.is_file() else next(path.glob("*.pt"))
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    sizes, struct = configs_of_cn_clip(path)
    # What load_from_name does with a file; for sizes that the package has no name for, by its constructor.
    model = cn_clip.create_model(struct, checkpoint) if struct else ChineseCLIP(**sizes)
    # It rounds to half precision. Loaded once more, the weights are as the file has them.
    model.float()
    state = checkpoint["state_dict"]
    if next(iter(state)).startswith("module"):
        state = {name[len("module."):]: tensor for name, tensor in state.items() if "bert.pooler" not in name}
    model.load_state_dict(state, strict=True)
    return encoder(model)


def read_easynlp(path):
    """EasyNLP's own rules, with the towers of the packages that its code was taken from; it is not run itself."""
    path = pathlib.Path(path)
    config = json.loads((path / "config.json").read_text())
    state = torch.load(path / "pytorch_model.bin", map_location="cpu", weights_only=True)
    kind = config.pop("model_type", None)
    if kind == "open_clip":
        keys = {
            "embed_dim", "image_resolution", "vision_layers", "vision_width", "vision_patch_size", "context_length", "vocab_size",
            "transformer_width", "transformer_heads", "transformer_layers",
        }
        assert set(config) == keys, f"config.json has {sorted(set(config) ^ keys)} too many or too few"
        vision = {
            "image_size": config["image_resolution"], "layers": config["vision_layers"], "width": config["vision_width"],
            "patch_size": config["vision_patch_size"],
        }
        text = {
            "context_length": config["context_length"], "vocab_size": config["vocab_size"], "width": config["transformer_width"],
            "heads": config["transformer_heads"], "layers": config["transformer_layers"],
        }
        model = CLIP(config["embed_dim"], vision, text, quick_gelu=True)
        assert all(name.startswith("open_clip.") for name in state), "a name lacks the prefix `open_clip.`"
        model.load_state_dict({name.removeprefix("open_clip."): tensor for name, tensor in state.items()}, strict=True)
        return encoder(model)
    if kind == "chinese_clip":
        # Its constructor takes every key and no other.
        model = ChineseCLIP(**config)
        assert all(name.startswith("chinese_clip.") for name in state), "a name lacks the prefix `chinese_clip.`"
        state = {name.removeprefix("chinese_clip."): tensor for name, tensor in state.items()}
        # It has a pooler that it never asks, and positions as a buffer; neither need be there.
        surplus = [name for name in state if name.startswith("bert.pooler.") or name.endswith("position_ids")]
        for name in surplus:
            del state[name]
        model.load_state_dict(state, strict=True)
        return encoder(model)
    return two_towers(config, state)


def two_towers(config, state):
    """The layout that joins towers of transformers."""
    width = {tower: config[f"{tower}_config"]["hidden_size"] for tower in ("text", "vision")}
    dim = len(state["text_projection.weight"])
    parts = torch.nn.ModuleDict({
        "text_encoder": RobertaModel(RobertaConfig(**{"type_vocab_size": 2} | config["text_config"] | {"bos_token_id": None, "eos_token_id": None})),
        "vision_encoder": CLIPVisionModel(CLIPVisionConfig(**config["vision_config"] | {"layer_norm_eps": 1e-5})),
        "text_projection": torch.nn.Linear(width["text"], dim),
        "vision_projection": torch.nn.Linear(width["vision"], dim),
    })
    # Buffers that today's transformers counts anew; the temperature stands beside the towers.
    state = {name: tensor for name, tensor in state.items() if not name.endswith("position_ids") and name != "logit_scale"}
    if next(iter(parts["vision_encoder"].state_dict())).startswith("embeddings"):
        # Where transformers has no `vision_model.` inside the tower.
        state = {name.replace("vision_encoder.vision_model.", "vision_encoder."): tensor for name, tensor in state.items()}
    parts.load_state_dict(state, strict=True)
    parts.float().eval()

    def features(given):
        ids = given["input_ids"]
        texts = parts["text_encoder"](input_ids=ids, attention_mask=given.get("attention_mask", ids.ne(0).long())).pooler_output
        images = parts["vision_encoder"](pixel_values=given["pixel_values"]).pooler_output
        return {
            "image": F.normalize(parts["vision_projection"](images), dim=-1),
            "text": F.normalize(parts["text_projection"](texts), dim=-1),
        }

    return features


# By the layout's name on the command line: who reads it, and how.
READERS = {
    "open_clip": ("open_clip", read_open_clip),
    "hf": ("transformers", read_transformers),
    "chinese_clip": ("cn_clip", read_chinese_clip),
    "easynlp": ("EasyNLP's rules", read_easynlp),
}
