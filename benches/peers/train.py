"""Training steps of a model on one batch as open_clip's loop makes them: `train.py MODEL BATCH f32|bf16 STEPS`.

Its model, its loss, its groups of weights for AdamW, its order of things (open_clip_train's `train_one_epoch` with
`--grad-clip-norm 1`); one step goes before those that count. The last line is the speed of the best step.
"""

import math
import sys
import time

import open_clip
import torch
from open_clip_train.precision import get_autocast
from safetensors.torch import load_file

folder, batch, dtype, steps = sys.argv[1:]
torch.set_num_threads(1)
model = open_clip.create_model(f"local-dir:{folder}", output_dict=True)
model.train()
batch = load_file(batch)
images, texts = batch["pixels"], batch["ids"]
autocast = get_autocast("amp_bf16" if dtype == "bf16" else "fp32", device_type="cpu")
loss = open_clip.ClipLoss(cache_labels=True)


def spared(name, weight):
    return weight.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name


named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(
    [
        {"params": [weight for name, weight in named if spared(name, weight)], "weight_decay": 0.0},
        {"params": [weight for name, weight in named if not spared(name, weight)], "weight_decay": 0.2},
    ],
    lr=1e-4, betas=(0.9, 0.98), eps=1e-6, foreach=True,
)
best = math.inf
for step in range(int(steps) + 1):
    start = time.process_time()
    optimizer.zero_grad()
    with autocast():
        total = sum(loss(**model(images, texts), output_dict=True).values())
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, norm_type=2.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    seconds = time.process_time() - start
    if step > 0:
        best = min(best, seconds)
    print(f"step {step}: loss {total.item():.7f}, {seconds:.2f} CPU s")
print(f"{len(images) / best:.3f} pairs per CPU second")
