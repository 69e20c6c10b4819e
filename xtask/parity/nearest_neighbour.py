"""Writes tests/fixtures/nearest_neighbour: DeCLIP's nearest-neighbour loss on a given full queue of texts.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 safetensors && venv/bin/python xtask/parity/nearest_neighbour.py

The arithmetic, from the paper (Li et al. 2022) and its published loss: unit features; for each text the one entry of the
queue with the largest cosine, looked up before the text enters; cross-entropy of `scale * image . neighbour` over the
neighbours of the whole batch, the right one being the neighbour of the image's own text; from images to texts only; the
mean over all pairs of an image view and a text view. Computed in double precision from single-precision inputs; gradients
are with respect to the features before they are brought to unit length, and to the logarithm of the scale.
"""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/nearest_neighbour"


class Queue:
    """What DeCLIP's loss does with its queue of texts, which is full and holds nothing of the batch."""

    def __init__(self, features):
        self.features = features

    def replace(self, texts):
        """The nearest entry of each text. Constants: no gradient goes into the queue or the look-up."""
        with torch.no_grad():
            nearest = (texts @ self.features.T).argmax(dim=1)
            return self.features[nearest], nearest


def loss_of(images, texts, queue, log_scale):
    scale = log_scale.exp()
    target = torch.arange(len(images[0]))
    neighbours = [queue.replace(F.normalize(text, dim=-1)) for text in texts]
    losses = [
        F.cross_entropy(scale * F.normalize(image, dim=-1) @ unit.T, target)
        for image in images
        for unit, _ in neighbours
    ]
    return torch.stack(losses).mean(), [places for _, places in neighbours]


def case(name, seed, batch, dim, slots, image_views, text_views, log_scale):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda rows: torch.randn(rows, dim, generator=generator)
    queue = F.normalize(draw(slots), dim=-1)
    images = [draw(batch) for _ in range(image_views)]
    texts = [draw(batch) for _ in range(text_views)]
    leaves = [image.double().requires_grad_() for image in images]
    scale = torch.tensor(log_scale, dtype=torch.float64, requires_grad=True)
    loss, places = loss_of(leaves, [text.double() for text in texts], Queue(queue.double()), scale)
    loss.backward()
    tensors = {f"{name}/queue": queue}
    for view, (image, leaf) in enumerate(zip(images, leaves)):
        tensors[f"{name}/image{view}"] = image
        tensors[f"{name}/grad_image{view}"] = leaf.grad.float()
    for view, text in enumerate(texts):
        tensors[f"{name}/text{view}"] = text
    return tensors, {
        "case": name,
        "log_scale": log_scale,
        "image_views": image_views,
        "text_views": text_views,
        "loss": loss.item(),
        "grad_log_scale": scale.grad.item(),
        "nearest": [view.tolist() for view in places],
    }


def main():
    tensors, cases = {}, []
    for arguments in [
        ("one_view", 1, 7, 16, 50, 1, 1, 2.6592),
        ("two_by_two", 2, 6, 12, 40, 2, 2, 4.0),
        # Fewer entries than rows: some rows share their neighbour.
        ("shared", 3, 9, 8, 5, 1, 2, 3.0),
    ]:
        made, described = case(*arguments)
        tensors.update(made)
        cases.append(described)
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(tensors, FOLDER / "tensors.safetensors")
    (FOLDER / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    print(f"{len(cases)} cases in {FOLDER}")


main()
