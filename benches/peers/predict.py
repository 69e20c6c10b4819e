"""Features of a table's pictures through open_clip and torch's DataLoader:

    predict.py MODEL TABLE f32|bf16 LOADERS OUTPUT

Loader processes read lines, decode base64 and JPEG (Pillow) and transform; the main process encodes 32 at a time on all
cores. The last line is the speed from the opened model to the written file: imports and loading are not in it.
"""

import base64
import io
import sys
import time

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

folder, table, dtype, loaders, output = sys.argv[1:]
precision = {"f32": "fp32", "bf16": "bf16"}[dtype]
model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}", precision=precision)
model.eval()


class Table(torch.utils.data.Dataset):
    """Rows by the positions of their lines."""

    def __init__(self):
        with open(table, "rb") as file:
            self.starts = [file.tell()]
            while file.readline():
                self.starts.append(file.tell())
        # The header's line, and the end.
        self.starts = self.starts[1:-1]

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, row):
        with open(table, "rb") as file:
            file.seek(self.starts[row])
            picture = file.readline().rstrip(b"\n").split(b"\t")[1]
        return transform(Image.open(io.BytesIO(base64.b64decode(picture))))


start = time.perf_counter()
rows = Table()
features = []
with torch.inference_mode():
    for pixels in torch.utils.data.DataLoader(rows, batch_size=32, num_workers=int(loaders)):
        pixels = pixels.bfloat16() if dtype == "bf16" else pixels
        features.append(model.encode_image(pixels, normalize=True).float())
save_file({"image_features": torch.cat(features)}, output)
print(f"{len(rows) / (time.perf_counter() - start):.2f} pictures/s")
