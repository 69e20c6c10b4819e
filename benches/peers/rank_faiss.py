"""Recall of texts among images by faiss, its exact index: `rank_faiss.py TEXTS IMAGES`, safetensors of unit rows that
belong together by row.

One direction, the ten best: no rank beyond them, and a tie is broken by faiss. Prints the figures as `clipzoo evaluate
--json` names them.
"""

import json
import sys

import faiss
import numpy as np
from safetensors.numpy import load_file

texts = load_file(sys.argv[1])["text_features"]
images = load_file(sys.argv[2])["image_features"]
index = faiss.IndexFlatIP(images.shape[1])
index.add(images)
_, found = index.search(texts, 10)
hits = found == np.arange(len(texts))[:, None]
print(json.dumps({"text_to_image": {f"r@{k}": 100 * hits[:, :k].any(1).mean() for k in (1, 5, 10)}}))
