"""Reference gradients of Hugging Face's models, and small models in EasyNLP's two layouts of Hugging Face's towers.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.23.0 safetensors
    venv/bin/python xtask/parity/hugging_face.py tests/fixtures/models --easynlp

Each directory under the first argument that has `model_type` in its config.json, a `model.safetensors` and the inputs of
an `io.safetensors` gets a `gradients.json`: for the symmetric InfoNCE loss (SigLIP: the sigmoid loss) of its pairs, the
loss, and for each tensor of the file the Euclidean norm of its gradient and the product of the gradient with
sin(0.37), sin(0.74), sin(1.11), … . `--easynlp` writes `easynlp_hf_tiny` and `easynlp_hf_2022_tiny` there first: random
weights, inputs, outputs and gradients. EasyNLP itself is not run: its towers are RoBERTa and CLIP's vision tower of
transformers, its own part is the linear projections.
"""

import argparse
import json
import pathlib
import sys

# A file beside this one is named like a package that transformers imports.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).resolve().parent]

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, RobertaConfig, RobertaModel


def loss_of(logits_per_image, sigmoid):
    """Both directions of InfoNCE; of SigLIP the mean over pictures of the sum over all texts."""
    count = len(logits_per_image)
    if sigmoid:
        signs = 2 * torch.eye(count) - 1
        return -F.logsigmoid(signs * logits_per_image).sum() / count
    targets = torch.arange(count)
    return (F.cross_entropy(logits_per_image, targets) + F.cross_entropy(logits_per_image.T, targets)) / 2


def probe(gradient):
    flat = gradient.double().flatten()
    wave = torch.sin(0.37 * torch.arange(1, 1 + len(flat), dtype=torch.float64))
    return [flat.norm().item(), flat.dot(wave).item()]


def write_gradients(folder, loss, gradients):
    content = {"loss": loss, "gradients": {name: probe(gradient) for name, gradient in sorted(gradients.items())}}
    (folder / "gradients.json").write_text(json.dumps(content, indent=1) + "\n")


def of_directory(folder):
    """The gradients under the names of the file, which for ViT are not those of the module."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    io = load_file(folder / "io.safetensors")
    inputs = {key: io[key] for key in ("input_ids", "attention_mask", "pixel_values") if key in io}
    output = model(**inputs)
    assert (output.logits_per_image - io["logits_per_image"]).abs().max() < 1e-4
    loss = loss_of(output.logits_per_image, model.config.model_type == "siglip")
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(gradients.get(name, torch.zeros_like(parameter)))
    under_file_names = folder / "gradients"
    model.save_pretrained(under_file_names)
    gradients = load_file(under_file_names / "model.safetensors")
    for path in under_file_names.iterdir():
        path.unlink()
    under_file_names.rmdir()
    write_gradients(folder, loss.item(), gradients)


TEXT = dict(vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=20)
VISION = dict(hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
DIM = 12


def easynlp(folder, old):
    torch.manual_seed(11)
    # EasyNLP's defaults; a class of its own reads them, so they are spelled out for transformers.
    text = RobertaModel(RobertaConfig(**TEXT, type_vocab_size=2, pad_token_id=0, bos_token_id=None, eos_token_id=None))
    vision = CLIPVisionModel(CLIPVisionConfig(**VISION, layer_norm_eps=1e-5))
    text_projection = torch.nn.Linear(16, DIM, bias=not old)
    vision_projection = torch.nn.Linear(16, DIM, bias=not old)
    scale = torch.nn.Parameter(torch.tensor(2.3) if old else torch.tensor([2.3]))
    parts = [text.eval(), vision.eval(), text_projection, vision_projection]
    with torch.no_grad():
        for part in parts:
            for name, parameter in part.named_parameters():
                norm = "norm" in name.lower() and name.endswith("weight")
                parameter.copy_(torch.randn_like(parameter) * 0.25 + (1 if norm else 0))

    ids = torch.zeros(5, 12, dtype=torch.int64)
    for row, length in enumerate([12, 2, 5, 9, 7]):
        ids[row, :length] = torch.randint(5, 60, (length,))
        ids[row, 0], ids[row, length - 1] = 2, 3
    mask = ids.ne(0).long()
    pixels = torch.randn(5, 3, 16, 16)
    texts = text_projection(text(input_ids=ids, attention_mask=mask).pooler_output)
    images = vision_projection(vision(pixel_values=pixels).pooler_output)
    logits = scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    loss = loss_of(logits, False)
    loss.backward()

    prefixes = ("roberta.", "vit.vision_model.") if old else ("text_encoder.", "vision_encoder.vision_model.")
    projection = "visual_projection." if old else "vision_projection."
    named = {}
    for part, prefix in zip(parts, (*prefixes, "text_projection.", projection)):
        named |= {prefix + name: parameter for name, parameter in part.named_parameters()}
    named["logit_scale"] = scale
    weights = {name: parameter.detach() for name, parameter in named.items()}
    # The buffers that older versions of transformers saved.
    weights[prefixes[0] + "embeddings.position_ids"] = torch.arange(20).expand(1, -1).clone()
    weights[prefixes[1] + "embeddings.position_ids"] = torch.arange(5).expand(1, -1).clone()
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "pytorch_model.bin")
    config = {"text_config": TEXT, "vision_config": VISION}
    if not old:
        # EasyNLP writes 512 for every model, and reads no eps for pictures.
        text_config = TEXT | {"pad_token_id": 0, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
        vision_config = VISION | {"layer_norm_eps": 1e-12, "hidden_act": "quick_gelu"}
        config = {"model_type": "clip", "projection_dim": 512, "logit_scale_init_value": 2.6592,
                  "text_config": text_config, "vision_config": vision_config,
                  "text_config_dict": text_config, "vision_config_dict": vision_config}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    with torch.no_grad():
        io = {
            "input_ids": ids, "attention_mask": mask, "pixel_values": pixels, "image_features": images, "text_features": texts,
            "image_features_norm": F.normalize(images, dim=-1), "text_features_norm": F.normalize(texts, dim=-1),
            "logits_per_image": logits, "logit_scale_exp": scale.exp().reshape(1),
        }
        save_file({name: tensor.detach().contiguous() for name, tensor in io.items()}, folder / "io.safetensors")
    gradients = {name: parameter.grad for name, parameter in named.items()}
    # The embeddings of what pads collect none, and kinds of segments but the first are not used.
    write_gradients(folder, loss.item(), {name: gradient for name, gradient in gradients.items() if gradient is not None})


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("models", type=pathlib.Path)
    arguments.add_argument("--easynlp", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    if options.easynlp:
        easynlp(options.models / "easynlp_hf_tiny", False)
        easynlp(options.models / "easynlp_hf_2022_tiny", True)
    for folder in sorted(options.models.iterdir()):
        config = folder / "config.json"
        is_theirs = config.exists() and "model_type" in json.loads(config.read_text())
        if is_theirs and (folder / "model.safetensors").exists():
            of_directory(folder)


if __name__ == "__main__":
    main()
