"""Features of pictures or texts by a peer:

    encode.py MODEL BATCH images|texts open_clip|cn_clip|transformers|onnxruntime f32|bf16|int8 ROWS ROUNDS THREADS OUTPUT

bf16 is open_clip's with its weights cast, as `--precision bf16` does. onnxruntime takes graphs that `prepare.py onnx` made,
the text graph of dynamic length. transformers' and onnxruntime's texts are padded to the longest of the batch only, which
open_clip and cn_clip cannot. Two rounds go before those that count. The last line is the speed of the best round, by
processor time for one thread and by the clock for several.
"""

import json
import math
import os
import sys
import time

import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

folder, batch, what, peer, dtype, rows, rounds, threads, output = sys.argv[1:]
rows, rounds, threads = int(rows), int(rounds), int(threads)
torch.set_num_threads(threads)
batch = load_file(batch)
data = batch["pixels" if what == "images" else "ids"]
data = data[[row % len(data) for row in range(rows)]]
longest = int((data > 0).sum(1).max()) if what == "texts" else 0
unit = "pictures" if what == "images" else "texts"


def unit_rows(features):
    return (features / features.norm(dim=-1, keepdim=True)).float().numpy()


def open_clip():
    import open_clip

    precision = {"f32": "fp32", "bf16": "bf16"}[dtype]
    model = open_clip.create_model(f"local-dir:{folder}", precision=precision).eval()
    given = data.bfloat16() if dtype == "bf16" and what == "images" else data
    encode = model.encode_image if what == "images" else model.encode_text
    return lambda: unit_rows(encode(given))


def cn_clip():
    from cn_clip.clip.model import CLIP

    configs = [json.load(open(os.path.join(folder, f"{tower}.json"))) for tower in ("vision", "text")]
    model = CLIP(**configs[0], **configs[1])
    file = next(name for name in os.listdir(folder) if name.endswith(".pt"))
    model.load_state_dict(torch.load(os.path.join(folder, file), weights_only=True)["state_dict"])
    encode = model.eval().encode_image if what == "images" else model.eval().encode_text
    return lambda: unit_rows(encode(data))


def transformers():
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    if what == "images":
        encode = lambda: model.get_image_features(pixel_values=data)
    else:
        ids = data[:, :longest]
        encode = lambda: model.get_text_features(input_ids=ids, attention_mask=(ids > 0).long())

    def run():
        features = encode()
        return unit_rows(getattr(features, "pooler_output", features))

    return run


def onnxruntime():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise threads that wait are busy, which a count of processor time would hold against it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = os.path.join(folder, "onnx", f"{what}.{dtype}.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = data[:, :longest] if what == "texts" else data
    given = {session.get_inputs()[0].name: given.numpy()}

    def run():
        features = session.run(None, given)[0]
        return features / (features**2).sum(-1, keepdims=True) ** 0.5

    return run


run = {way.__name__: way for way in (open_clip, cn_clip, transformers, onnxruntime)}[peer]()
clock = time.process_time if threads == 1 else time.perf_counter
best = math.inf
with torch.inference_mode():
    for round in range(rounds + 2):
        start = clock()
        features = run()
        if round >= 2:
            best = min(best, clock() - start)
save_file({f"{what.removesuffix('s')}_features": features.copy()}, output)
print(f"{rows / best:.3f} {unit}" + (" per CPU second" if threads == 1 else "/s"))
