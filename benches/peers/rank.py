"""Recall both ways in PyTorch, in chunks: `rank.py TEXTS IMAGES`, safetensors of unit rows that belong together by row.

The exact rank of the own row, a tie counted against it. Prints the figures as `clipzoo evaluate --json` names them.
"""

import json
import sys

import torch
from safetensors.torch import load_file

CHUNK = 1024


def recalls(queries, gallery):
    ranks = []
    for start in range(0, len(queries), CHUNK):
        scores = queries[start:start + CHUNK] @ gallery.T
        rows = torch.arange(len(scores))
        own = scores[rows, rows + start].unsqueeze(1)
        ranks.append((scores >= own).sum(1))
    ranks = torch.cat(ranks)
    return {f"r@{k}": 100 * (ranks <= k).double().mean().item() for k in (1, 5, 10)}


texts = load_file(sys.argv[1])["text_features"]
images = load_file(sys.argv[2])["image_features"]
with torch.inference_mode():
    print(json.dumps({"text_to_image": recalls(texts, images), "image_to_text": recalls(images, texts)}))
