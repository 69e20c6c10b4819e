"""Writes five tiny models to tests/fixtures/models, in layouts that come without the helpers of their libraries:

    openai_jit_tiny/ViT-tiny.pt            an archive as OpenAI releases them: traced, partly in half precision, three facts
                                           among its tensors, no config
    open_clip_custom_text_tiny/epoch_2.pt  a training checkpoint of a CustomTextCLIP of OpenCLIP, with its optimiser
    easynlp_open_clip_rn_tiny/             EasyNLP's two flat layouts with a ResNet as picture tower, in half precision
    easynlp_chinese_clip_rn_tiny/
    open_clip_siglip_tiny/                 SigLIP as OpenCLIP has it, with a picture tower of timm; that has no tower so small,
                                           so there is no config of theirs, only the sizes in our own canonical.json

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 open_clip_torch==3.3.0 safetensors
    venv/bin/pip install --no-deps cn_clip==1.6.0 lmdb six && venv/bin/python -P xtask/parity/layouts.py

Weights, biases, norms, statistics and counts are random. io.safetensors holds inputs and the outputs of the reference in
single precision; for the first of EasyNLP's, gradients of InfoNCE too, under the names this project gives the tensors.
EasyNLP's own code is not needed: its towers are OpenAI's and Chinese-CLIP's, under a prefix.
"""
import json
import pathlib

import open_clip
import torch
import torch.nn.functional as F
from cn_clip.clip.model import CLIP as ChineseCLIP
from open_clip.model import CLIP, CustomTextCLIP, convert_weights_to_fp16
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

MODELS = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/models"
ROWS = 5


def folder(name):
    path = MODELS / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def randomise(model):
    """Every parameter and buffer, so that a forgotten term shows. Matrices keep the size of what passes through them."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(int(torch.randint(1, 5000, ())))
        elif not tensor.is_floating_point():
            continue  # Positions, which are what they are.
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("logit_scale"):
            tensor.fill_(2.3)
        elif tensor.dim() == 1 and name.endswith("weight"):
            tensor.uniform_(0.6, 1.4)
        elif tensor.dim() <= 1:
            tensor.normal_(0, 0.1)
        elif "embedding" in name and tensor.dim() == 2:
            tensor.normal_(0, 0.5)
        else:
            fan = tensor[0].numel() if tensor.dim() > 2 or "weight" in name else tensor.shape[0]
            tensor.normal_(0, (1.5 / fan) ** 0.5)


def titles(vocabulary, context):
    """Random ids between a start and an end token, the two largest, padded with zeros."""
    ids = torch.zeros(ROWS, context, dtype=torch.int64)
    for row, length in enumerate(torch.randint(3, context - 1, (ROWS,)).tolist()):
        ids[row, 0] = vocabulary - 2
        ids[row, 1 : 1 + length] = torch.randint(1, vocabulary - 2, (length,))
        ids[row, 1 + length] = vocabulary - 1
    return ids


def chinese_titles(vocabulary, context):
    ids = torch.zeros(ROWS, context, dtype=torch.int64)
    for row, length in enumerate(torch.randint(3, context, (ROWS,)).tolist()):
        ids[row, :length] = torch.randint(1, vocabulary, (length,))
    return ids


def pictures(side):
    """Pixels of colours that change slowly, or a convolutional tower sees the same in every picture."""
    return 2 * F.interpolate(torch.randn(ROWS, 3, 4, 4), (side, side), mode="bilinear") + torch.randn(ROWS, 3, side, side) / 3


def outputs(model, side, ids, gradients=()):
    """Inputs and outputs, and the gradients of InfoNCE of some parameters: pairs of its name and ours."""
    pixels = pictures(side)
    images, texts = model.encode_image(pixels), model.encode_text(ids)
    unit_images, unit_texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    scale = model.logit_scale.exp()
    logits = scale * unit_images @ unit_texts.T
    cosines = {"image": unit_images @ unit_images.T, "text": unit_texts @ unit_texts.T}
    print({name: f"{(c - torch.eye(ROWS)).max().item():.3f}" for name, c in cosines.items()})
    io = {
        "pixel_values": pixels, "input_ids": ids, "image_features": images, "text_features": texts,
        "image_features_norm": unit_images, "text_features_norm": unit_texts, "logits_per_image": logits,
        "logit_scale_exp": scale.reshape(1),
    }
    if gradients:
        target = torch.arange(ROWS)
        ((F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2).backward()
        parameters = dict(model.named_parameters())
        io |= {f"gradient {ours}": parameters[theirs].grad for theirs, ours in gradients}
    return {name: tensor.detach().contiguous() for name, tensor in io.items()}


def openai_archive():
    path = folder("openai_jit_tiny")
    vision = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2}
    text = {"context_length": 16, "vocab_size": 100, "width": 64, "heads": 1, "layers": 1}
    model = CLIP(32, vision, text, quick_gelu=True).eval()
    randomise(model)
    convert_weights_to_fp16(model)
    model.float()  # Traced in single precision, for a processor; the values are those of half precision.
    # OpenAI's archives have the mask among their constants and three facts among their tensors.
    mask = model.attn_mask
    del model.attn_mask
    model.attn_mask = mask
    for fact, value in [("input_resolution", 32), ("context_length", 16), ("vocab_size", 100)]:
        if hasattr(model, fact):
            delattr(model, fact)
        model.register_buffer(fact, torch.tensor(value))
    with torch.no_grad():
        ids = titles(100, 16)
        traced = torch.jit.trace(model, (torch.randn(1, 3, 32, 32), ids[:1]), check_trace=False, strict=False)
    for name, tensor in traced.named_parameters():
        if ".ln_" not in name and "embedding" not in name and "ln_final" not in name:
            tensor.data = tensor.data.half()
    traced.save(str(path / "ViT-tiny.pt"))
    reference = open_clip.load_openai_model(str(path / "ViT-tiny.pt"), precision="fp32").eval()
    with torch.no_grad():
        save_file(outputs(reference, 32, ids), path / "io.safetensors")


def open_clip_checkpoint():
    path = folder("open_clip_custom_text_tiny")
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 12, "vocab_size": 80, "width": 32, "heads": 2, "layers": 2}
    model = CustomTextCLIP(28, vision, text).eval()
    randomise(model)
    optimizer = torch.optim.AdamW(model.text.ln_final.parameters(), lr=1e-3)
    model.encode_text(titles(80, 12)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 2, "name": "tiny",
        "state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, path / "epoch_2.pt")
    config = {"model_cfg": {"embed_dim": 28, "vision_cfg": vision, "text_cfg": text, "custom_text": True}}
    (path / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    with torch.no_grad():
        save_file(outputs(model, 32, titles(80, 12)), path / "io.safetensors")


def halved(model):
    """The state in half precision, and the model with the same values."""
    state = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    model.load_state_dict(state)
    return state


GRADIENTS = [
    ("visual.conv1.weight", "image.stem.conv1.weight"),
    ("visual.bn2.bias", "image.stem.norm2.bias"),
    ("visual.layer1.0.conv3.weight", "image.stages.1.0.conv3.weight"),
    ("visual.layer2.1.bn2.weight", "image.stages.2.1.norm2.weight"),
    ("visual.layer3.0.downsample.1.bias", "image.stages.3.0.downsample.norm.bias"),
    ("visual.attnpool.positional_embedding", "image.pool.position_embedding"),
    ("visual.attnpool.c_proj.bias", "image_projection.bias"),
    ("token_embedding.weight", "text.token_embedding.weight"),
    ("logit_scale", "logit_scale"),
]


def easynlp_open_clip():
    path = folder("easynlp_open_clip_rn_tiny")
    layers = [1, 2, 1, 1]
    vision = {"image_size": 64, "patch_size": None, "width": 4, "layers": layers}
    text = {"context_length": 14, "vocab_size": 90, "width": 64, "heads": 1, "layers": 1}
    model = CLIP(36, vision, text, quick_gelu=True).eval()
    randomise(model)
    state = halved(model)
    torch.save({f"open_clip.{name}": tensor for name, tensor in state.items()}, path / "pytorch_model.bin")
    config = {
        "model_type": "open_clip", "embed_dim": 36, "image_resolution": 64, "vision_layers": layers, "vision_width": 4,
        "vision_patch_size": None, "context_length": 14, "vocab_size": 90, "transformer_width": 64,
        "transformer_heads": 1, "transformer_layers": 1,
    }
    (path / "config.json").write_text(json.dumps(config) + "\n")
    save_file(outputs(model, 64, titles(90, 14), GRADIENTS), path / "io.safetensors")


def easynlp_chinese_clip():
    path = folder("easynlp_chinese_clip_rn_tiny")
    config = {
        "embed_dim": 24, "image_resolution": 32, "vision_layers": [2, 1, 1, 1], "vision_width": 4,
        "vision_patch_size": None, "vocab_size": 70, "text_attention_probs_dropout_prob": 0.1, "text_hidden_act": "gelu",
        "text_hidden_dropout_prob": 0.1, "text_hidden_size": 32, "text_initializer_range": 0.02,
        "text_intermediate_size": 72, "text_max_position_embeddings": 20, "text_num_attention_heads": 2,
        "text_num_hidden_layers": 2, "text_type_vocab_size": 2,
    }
    model = ChineseCLIP(**config).eval()
    randomise(model)
    state = {f"chinese_clip.{name}": tensor for name, tensor in halved(model).items()}
    # EasyNLP's BERT has a pooler that it never asks, and its positions as a buffer.
    state["chinese_clip.bert.embeddings.position_ids"] = torch.arange(20).reshape(1, 20)
    state["chinese_clip.bert.pooler.dense.weight"] = torch.randn(32, 32).half()
    state["chinese_clip.bert.pooler.dense.bias"] = torch.randn(32).half()
    torch.save(state, path / "pytorch_model.bin")
    (path / "config.json").write_text(json.dumps({"model_type": "chinese_clip"} | config) + "\n")
    with torch.no_grad():
        save_file(outputs(model, 32, chinese_titles(70, 15)), path / "io.safetensors")


def open_clip_siglip():
    path = folder("open_clip_siglip_tiny")
    # The name makes a whole tower of timm's, which gives way to a small one of its kind.
    vision = {"image_size": 32, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}
    text = {
        "context_length": 11, "vocab_size": 80, "width": 24, "heads": 2, "layers": 2, "no_causal_mask": True, "proj_bias": True,
        "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
    }
    model = CustomTextCLIP(32, vision, text, init_logit_bias=-10).eval()
    model.visual.trunk = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=1.5, class_token=False, global_pool="map", num_classes=0
    ).eval()
    randomise(model)
    model.logit_bias.data.fill_(-3.1)
    ids = chinese_titles(80, 11)
    ids[ids == 0] = 1
    with torch.no_grad():
        io = outputs(model, 32, ids)
        io["logits_per_image"] += model.logit_bias
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path / "open_clip_model.safetensors")
    save_file(io, path / "io.safetensors")
    canonical = {
        "embed_dim": 32, "logit_bias": True, "probability": "sigmoid", "context_length": 11,
        "image_projection": {"type": "none"}, "text_projection": {"type": "linear", "bias": True},
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        },
        "text_config": {
            "model_type": "siglip_text_model", "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "vocab_size": 80, "max_position_embeddings": 11, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
            "pad_token_id": 1,
        },
    }
    (path / "canonical.json").write_text(json.dumps(canonical, indent=1) + "\n")


if __name__ == "__main__":
    torch.manual_seed(20260)
    torch.set_num_threads(1)
    for write in (openai_archive, open_clip_checkpoint, easynlp_open_clip, easynlp_chinese_clip, open_clip_siglip):
        write()
