"""Token ids of texts by a peer: `tokens.py TEXTS open_clip|transformers THREADS`.

The whole file in batches of 1,024, after 1,000 lines that do not count. The last lines are a sum over all ids, which
everyone's must equal, and the speed of the best of three rounds.
"""

import os
import sys
import time

path, peer, threads = sys.argv[1:]
os.environ["RAYON_NUM_THREADS"] = threads
os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == "1" else "true"
with open(path) as file:
    texts = file.read().splitlines()

if peer == "open_clip":
    import open_clip

    encode = open_clip.get_tokenizer("ViT-B-32")
else:
    import json
    import tempfile

    import open_clip
    from transformers import CLIPTokenizerFast

    # Its own vocabulary is fetched from the hub; the same one lies in open_clip.
    known = open_clip.get_tokenizer("ViT-B-32")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "vocab.json"), "w") as file:
            ids = {word.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): id
                   for word, id in known.encoder.items()}
            json.dump(ids, file)
        with open(os.path.join(folder, "merges.txt"), "w") as file:
            file.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in known.bpe_ranks))
        fast = CLIPTokenizerFast.from_pretrained(folder)
    encode = lambda texts: fast(texts, padding="max_length", truncation=True, max_length=77)["input_ids"]

import torch

START, END = 49406, 49407


def total(ids):
    """The sum of each id times its position from 1, up to the end token."""
    ids = torch.as_tensor(ids, dtype=torch.int64)
    kept = torch.arange(ids.shape[1]) <= (ids == END).int().argmax(1, keepdim=True)
    return int((ids * kept * torch.arange(1, ids.shape[1] + 1)).sum())


encode(texts[:1000])
best, sum_of_ids = float("inf"), 0
for _ in range(3):
    seconds, sum_of_ids = 0.0, 0
    for first in range(0, len(texts), 1024):
        start = time.perf_counter()
        ids = encode(texts[first:first + 1024])
        seconds += time.perf_counter() - start
        sum_of_ids += total(ids)
    best = min(best, seconds)
print(f"ids of {len(texts)} texts sum up to {sum_of_ids}")
print(f"{len(texts) / best:.0f} texts/s")
