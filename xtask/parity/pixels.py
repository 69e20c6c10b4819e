"""Writes crates/clip-data/tests/golden/pillow_resize.safetensors: what Pillow makes of noise in every mode.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 && venv/bin/python xtask/parity/pixels.py

The pictures themselves are not stored: a linear congruential generator makes them here and in the test
(crates/clip-data/tests/pillow.rs). Each tensor is the RGB result, u8 [height, width, 3]; the metadata `cases` says how.
"""
import json
import pathlib
import random
import struct

import PIL
from PIL import Image

FILTERS = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]  # Pillow's numbers
CHANNELS = {"1": 1, "P": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 2}
PALETTE = 37


def noise(seed, count, hard):
    """Bytes of noise, or of extremes only."""
    state, out = seed | 1, bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        value = state >> 56
        out.append((255 if value > 127 else 0) if hard else value)
    return bytes(out)


def picture(mode, height, width, seed, hard):
    data = noise(seed, height * width * CHANNELS[mode], hard)
    if mode == "1":
        return Image.frombytes("L", (width, height), data).point(lambda v: 255 if v > 127 else 0).convert("1")
    if mode == "P":
        image = Image.frombytes("P", (width, height), bytes(v % PALETTE for v in data))
        image.putpalette(noise(seed + 1, PALETTE * 3, False))
        return image
    return Image.frombytes(mode, (width, height), data)


def case(rng, number):
    mode = list(CHANNELS)[number % len(CHANNELS)]
    shape = rng.random()
    if shape < 0.15:  # narrow: the order of the passes, one-pixel sides
        height, width = rng.choice([(1, 50), (50, 1), (200, 9), (9, 200), (120, 40)])
    else:
        height, width = rng.randint(2, 90), rng.randint(2, 90)
    to = [rng.randint(1, 24), rng.randint(1, 24)]
    if rng.random() < 0.1:
        to[rng.randint(0, 1)] = 24
    if rng.random() < 0.1 and height <= 24:
        to[0] = height
    size = [rng.randint(max(1, side - 5), side) for side in to]
    return {
        "mode": mode,
        "from": [height, width],
        "to": to,
        "size": size,
        "filter": "bicubic" if rng.random() < 0.5 else rng.choice(FILTERS),
        "seed": rng.randrange(2**32),
        "hard": rng.random() < 0.3,
        "rgb_first": rng.random() < 0.25,
    }


def result(case):
    image = picture(case["mode"], *case["from"], case["seed"], case["hard"])
    if case["rgb_first"]:
        image = image.convert("RGB")
    (height, width), (tall, wide) = case["to"], case["size"]
    image = image.resize((width, height), FILTERS.index(case["filter"])).convert("RGB")
    top, left = (height - tall) // 2, (width - wide) // 2
    return image.crop((left, top, left + wide, top + tall)).tobytes()


def main():
    assert PIL.__version__ == "13.0.0", f"Pillow 13.0.0 is wanted, this is {PIL.__version__}"
    rng = random.Random(20240611)
    cases = [case(rng, number) for number in range(160)]
    header, body = {"__metadata__": {"pillow": PIL.__version__, "cases": json.dumps(cases)}}, b""
    for number, each in enumerate(cases):
        data = result(each)
        header[str(number)] = {"dtype": "U8", "shape": [*each["size"], 3], "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(header).encode()
    target = pathlib.Path(__file__).parents[2] / "crates/clip-data/tests/golden/pillow_resize.safetensors"
    target.write_bytes(struct.pack("<Q", len(head)) + head + body)


if __name__ == "__main__":
    main()
