"""The files of tests/fixtures/weights: one small table of tensors in every container that weights come in.

Run with torch 2.13 and safetensors 0.8: python xtask/parity/weights.py tests/fixtures/weights
"""

import json
import sys
from pathlib import Path

import safetensors.torch
import torch


def table():
    """Every float type, an integer, a scalar, a transposed view, two views of one storage."""
    shared = torch.arange(8, dtype=torch.float32)
    return {
        "plain": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "short": torch.tensor([1.5, -0.25, 65504.0], dtype=torch.float16),
        "brain": torch.tensor([3.0, -1e30], dtype=torch.bfloat16),
        "scalar": torch.tensor(2.5),
        "count": torch.tensor([7, -1]),
        "turned": torch.arange(6, dtype=torch.float32).reshape(2, 3).t(),
        "head": shared[:4],
        "tail": shared[4:].reshape(2, 2),
    }


class Holder(torch.nn.Module):
    """A module whose state is the table, to be traced."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, x):
        return x + self.scalar


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = table()
    nested = {
        "epoch": 3,
        "name": "run",
        "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
    }
    old = {"_use_new_zipfile_serialization": False}
    torch.save(tensors, folder / "zip.bin")
    torch.save(nested, folder / "nested.pt")
    torch.save(tensors, folder / "legacy.bin", **old)
    torch.save(nested, folder / "legacy_nested.pt", **old)
    module = Holder(tensors)
    torch.jit.trace(module, torch.zeros(1)).save(str(folder / "script.pt"))

    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, folder / "one.safetensors", {"format": "pt"})
    names = sorted(plain)
    shards = {"shard-1.safetensors": names[:4], "shard-2.safetensors": names[4:]}
    for file, held in shards.items():
        safetensors.torch.save_file({name: plain[name] for name in held}, folder / file, {"format": "pt"})
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "sharded.index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
