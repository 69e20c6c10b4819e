"""Compares one model of a peer with clipzoo, in every layout that can hold it. Run by `cargo xtask parity`.

check.py --list                                  the models' names, a line each
check.py MODEL --clipzoo FILE --folder DIR       compares; a JSON object a line on stdout, what is being done on stderr

The peer writes the model and computes features; clipzoo computes them from the peer's file; clipzoo rewrites it in each
layout; the peer of that layout loads it strictly and computes the features; clipzoo brings it back to the first layout, whose
tensors must be the first ones, bit for bit. Differences are of unit features and of their cosines, the largest anywhere.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

# A folder above holds a file that is named like a package; found last, it hides nothing.
HERE = pathlib.Path(__file__).resolve().parent
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != HERE] + [str(HERE), str(HERE.parent)]

import torch
from safetensors.torch import load_file, save_file

import cases
from readers import READERS, tensors

TOLERANCE = 1e-5
# What no reader needs: counted anew, never asked, or a fact about the rest.
NEEDLESS = ("position_ids", "token_type_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")


def log(text):
    print(text, file=sys.stderr, flush=True)


class Clipzoo:
    def __init__(self, program):
        self.program = program

    def run(self, *words):
        done = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"clipzoo {words[0]}: {done.stderr.strip()}")

    def features(self, model, given, folder):
        named = {"pixels" if name == "pixel_values" else name: tensor.contiguous() for name, tensor in given.items()}
        save_file(named, folder / "inputs.safetensors")
        flags = ["--inputs", folder / "inputs.safetensors", "--output", folder / "ours.safetensors", "--device", "cpu", "--dtype", "f32"]
        self.run("predict", "--model", model, *flags)
        ours = load_file(folder / "ours.safetensors")
        return {"image": ours["image_features"], "text": ours["text_features"]}

    def convert(self, model, layout, to):
        shutil.rmtree(to, ignore_errors=True)
        self.run("convert", "--model", model, "--to", layout, "--output", to)


def compared(got, want):
    """The largest differences, and whether all are small enough."""
    def cosines(features):
        return features["image"].double() @ features["text"].double().T

    largest = {key: (got[key].double() - want[key].double()).abs().max().item() for key in ("image", "text")}
    largest["cosine"] = (cosines(got) - cosines(want)).abs().max().item()
    # A difference that is no number is not small.
    bad = [key for key, value in largest.items() if not value <= TOLERANCE]
    return largest | ({"fault": f"{', '.join(bad)}: more than {TOLERANCE:g} apart"} if bad else {})


def same_tensors(first, back):
    """How many tensors came back bit for bit; an error where one did not."""
    first = {name: tensor for name, tensor in first.items() if not (name.endswith(NEEDLESS) or "bert.pooler." in name)}
    if not any(name.startswith("text.") for name in back):
        # CustomTextCLIP has its text tower under a prefix that CLIP has not, and no other layout remembers which it was.
        first = {name.removeprefix("text."): tensor for name, tensor in first.items()}
    strange = sorted(set(first) ^ set(back))
    assert not strange, f"{len(strange)} tensors are only on one side: {strange[:4]}"
    for name, tensor in first.items():
        other = back[name]
        assert tensor.dtype == other.dtype and tensor.shape == other.shape, f"{name}: {tensor.dtype} {tuple(tensor.shape)} came back as {other.dtype} {tuple(other.shape)}"
        whole = tensor.contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(whole, other.contiguous().reshape(-1).view(torch.uint8)), f"{name}: came back with other bits"
    return len(first)


def attempt(row, work):
    """The row, with what the work adds to it or how it fails."""
    try:
        return row | work()
    except Exception as error:  # Whatever a peer raises is the answer.
        return row | {"fault": f"{type(error).__name__}: {error}"}


def rows(name, case, clipzoo, folder):
    place = folder / "model"
    place.mkdir(exist_ok=True)
    model, given = case.write(place)
    peer, read = READERS[case.own]
    log(f"{name}: features by {peer}")
    want = read(model)(given)
    apart = (want["image"] @ want["image"].T - torch.eye(len(want["image"]))).max().item()
    log(f"{name}: the most alike pictures have a cosine of {apart:.3f}")
    if case.stored:
        yield attempt({"model": name, "what": f"stored, against {peer} now"}, lambda: compared(case.stored, want))
    log(f"{name}: features by clipzoo")
    yield attempt({"model": name, "what": f"as {peer} wrote it, by clipzoo"}, lambda: compared(clipzoo.features(model, given, folder), want))
    first = tensors(model)
    for layout in (case.own, *case.others):
        reader, read = READERS[layout]
        there, back = folder / f"as_{layout}", folder / "back"

        def work():
            clipzoo.convert(model, layout, there)
            result = compared(read(there)(given), want)
            clipzoo.convert(there, case.own, back)
            return result | {"tensors": same_tensors(first, tensors(back))}

        log(f"{name}: as {layout}")
        yield attempt({"model": name, "what": f"`--to {layout}`, by {reader}"}, work)
        for made in (there, back):
            shutil.rmtree(made, ignore_errors=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", nargs="?")
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--clipzoo")
    arguments.add_argument("--folder", type=pathlib.Path)
    options = arguments.parse_args()
    if options.list:
        print("\n".join(cases.names()))
        return
    # Peers print what they load; lines of JSON are ours alone.
    lines, sys.stdout = sys.stdout, sys.stderr
    torch.manual_seed(20261)
    torch.set_num_threads(2)
    options.folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for row in rows(options.model, cases.find(options.model), Clipzoo(options.clipzoo), options.folder):
            print(json.dumps(row), file=lines, flush=True)


if __name__ == "__main__":
    main()
