"""One picture and some texts through open_clip, from nothing to features: `cold_start.py MODEL TEXTS PICTURE OUTPUT`."""

import sys

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

folder, texts, picture, output = sys.argv[1:]
model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
model.eval()
tokenizer = open_clip.get_tokenizer("ViT-B-32")
with torch.inference_mode(), open(texts) as lines:
    save_file({
        "text_features": model.encode_text(tokenizer(lines.read().splitlines()), normalize=True),
        "image_features": model.encode_image(transform(Image.open(picture)).unsqueeze(0), normalize=True),
    }, output)
