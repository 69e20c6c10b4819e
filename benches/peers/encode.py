"""Features of pictures or texts by a peer: `encode.py MODEL BATCH images|texts KIND ROWS ROUNDS THREADS OUTPUT`,
KIND being f32, bf16, ort-f32 or ort-int8.

f32 and bf16 are open_clip (bf16: its weights cast, as `--precision bf16` does); the others are onnxruntime on graphs that
`prepare.py onnx` made, the text graph of dynamic length: texts of a batch are padded to its longest only, which open_clip
cannot. Two rounds go before those that count. The last line is the speed of the best round, by processor time for one
thread and by the clock for several.
"""

import math
import os
import sys
import time

import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

folder, batch, what, kind, rows, rounds, threads, output = sys.argv[1:]
rows, rounds, threads = int(rows), int(rounds), int(threads)
torch.set_num_threads(threads)
batch = load_file(batch)
data = batch["pixels" if what == "images" else "ids"]
data = data[[row % len(data) for row in range(rows)]]
unit = "pictures" if what == "images" else "texts"


def torch_encoder():
    import open_clip

    precision = {"f32": "fp32", "bf16": "bf16"}[kind]
    model = open_clip.create_model(f"local-dir:{folder}", precision=precision).eval()
    images = data.bfloat16() if kind == "bf16" and what == "images" else data
    encode = model.encode_image if what == "images" else model.encode_text

    def run():
        with torch.inference_mode():
            return encode(images, normalize=True).float().numpy()

    return run


def onnx_encoder():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise threads that wait are busy, which a count of processor time would hold against it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = os.path.join(folder, "onnx", f"{what}.{kind.removeprefix('ort-')}.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = data
    if what == "texts":
        given = data[:, : int((data > 0).sum(1).max())]
    given = {session.get_inputs()[0].name: given.numpy()}

    def run():
        features = session.run(None, given)[0]
        return features / (features**2).sum(-1, keepdims=True) ** 0.5

    return run


run = onnx_encoder() if kind.startswith("ort-") else torch_encoder()
clock = time.process_time if threads == 1 else time.perf_counter
best = math.inf
for round in range(rounds + 2):
    start = clock()
    features = run()
    if round >= 2:
        best = min(best, clock() - start)
save_file({f"{what.removesuffix('s')}_features": features.copy()}, output)
print(f"{rows / best:.3f} {unit} per CPU second")
