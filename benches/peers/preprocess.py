"""Pictures to pixels in Python, one thread: `preprocess.py pillow|torchvision PIXELS.safetensors PICTURE...`.

pillow: Pillow decodes, then open_clip's own transform. torchvision: the same steps on tensors (decode_jpeg, antialiased
resize). Prints pictures a second, the best of some rounds over all pictures, as the Rust side does.
"""

import io
import sys
import time

import torch
from PIL import Image
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import image_transform
from safetensors.torch import save_file
from torchvision.io import decode_jpeg
from torchvision.transforms import InterpolationMode, v2

ROUNDS = 20


def pillow():
    transform = image_transform(224, is_train=False)
    return lambda encoded: transform(Image.open(io.BytesIO(encoded)))


def torchvision():
    transform = v2.Compose([
        v2.Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop(224),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD),
    ])
    return lambda encoded: transform(decode_jpeg(torch.frombuffer(encoded, dtype=torch.uint8)))


torch.set_num_threads(1)
way, output, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
prepare = {"pillow": pillow, "torchvision": torchvision}[way]()
pictures = [bytearray(open(path, "rb").read()) for path in paths]
save_file({"pixels": torch.stack([prepare(picture) for picture in pictures])}, output)
best = float("inf")
for _ in range(ROUNDS):
    start = time.perf_counter()
    for picture in pictures:
        prepare(picture)
    best = min(best, time.perf_counter() - start)
print(f"{len(pictures) / best:.1f} pictures/s on one thread")
