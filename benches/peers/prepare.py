"""Makes what the benches read.

prepare.py pictures WHEEL FOLDER   photographs from scikit-image's wheel as JPEG, 800 x 600, 4:2:0, quality 90
prepare.py model FOLDER            an OpenCLIP directory: ViT-B/32 of the right shape, random weights
prepare.py features ROWS FOLDER    unit rows of 512 for texts and images, a text near its image
prepare.py onnx MODEL              graphs of that model's towers for onnxruntime, in f32 and with its dynamic int8
prepare.py pairs ROWS FOLDER       a batch to train on: pixels for a ViT-B/32 and titles of 8 to 20 tokens, both at random
"""

import io
import json
import os
import sys
import zipfile

# In colour and of the outside world: no drawing, no scan, no grey texture.
PHOTOGRAPHS = [
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg",
    "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
]
TEXTS = ["a red dress", "a photo of a cat", "brown leather shoes", "a cup of coffee", "women's linen trousers, size 40"]


def pictures(wheel, folder):
    from PIL import Image, ImageOps

    os.makedirs(folder, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in PHOTOGRAPHS:
            picture = Image.open(io.BytesIO(archive.read(f"skimage/data/{name}"))).convert("RGB")
            picture = ImageOps.fit(picture, (800, 600), Image.Resampling.LANCZOS)
            picture.save(os.path.join(folder, name.rsplit(".", 1)[0] + ".jpg"), quality=90, subsampling="4:2:0")


def model(folder):
    import open_clip
    import torch
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(1)
    made = open_clip.create_model("ViT-B-32")
    weights = {name: value.contiguous() for name, value in made.state_dict().items()}
    save_file(weights, os.path.join(folder, "open_clip_model.safetensors"))
    config = {
        "model_cfg": open_clip.get_model_config("ViT-B-32"),
        "preprocess_cfg": open_clip.get_model_preprocess_cfg(made),
    }
    with open(os.path.join(folder, "open_clip_config.json"), "w") as file:
        json.dump(config, file, indent=2)
    with open(os.path.join(folder, "texts.txt"), "w") as file:
        file.write("\n".join(TEXTS) + "\n")


def features(rows, folder):
    import numpy
    from safetensors.numpy import save_file

    os.makedirs(folder, exist_ok=True)
    random = numpy.random.default_rng(1)

    def unit(values):
        return values / numpy.linalg.norm(values, axis=1, keepdims=True)

    images = unit(random.standard_normal((int(rows), 512), dtype="f4"))
    # So much noise that some texts rank their image first and many do not.
    texts = unit(images + 6.0 * unit(random.standard_normal((int(rows), 512), dtype="f4")))
    save_file({"image_features": images}, os.path.join(folder, "images.safetensors"))
    save_file({"text_features": texts}, os.path.join(folder, "texts.safetensors"))


def onnx(folder):
    import open_clip
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = open_clip.create_model(f"local-dir:{folder}").eval()

    class Texts(torch.nn.Module):
        """open_clip's text tower over as many columns as it is given, where its own wants all 77."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, ids):
            length = ids.shape[1]
            x = model.token_embedding(ids) + model.positional_embedding[:length]
            x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
            x = model.ln_final(x)
            return x[torch.arange(x.shape[0]), ids.argmax(-1)] @ model.text_projection

    class Images(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = model.visual

        def forward(self, pixels):
            return self.visual(pixels)

    made = os.path.join(folder, "onnx")
    os.makedirs(made, exist_ok=True)
    ids = torch.zeros(2, 16, dtype=torch.int64)
    ids[:, 0], ids[:, 9] = 49406, 49407
    batch = torch.export.Dim("batch", min=1, max=4096)
    tokens = torch.export.Dim("tokens", min=2, max=77)
    parts = [
        ("images", Images(), torch.zeros(2, 3, 224, 224), {0: batch}),
        ("texts", Texts(), ids, {0: batch, 1: tokens}),
    ]
    for name, module, example, shape in parts:
        path = os.path.join(made, f"{name}.f32.onnx")
        program = torch.onnx.export(
            module.eval(), (example,), dynamo=True, dynamic_shapes=(shape,), external_data=False, verbose=False,
        )
        program.save(path)
        quantize_dynamic(path, os.path.join(made, f"{name}.int8.onnx"), weight_type=QuantType.QInt8)


def pairs(rows, folder):
    import torch
    from safetensors.torch import save_file

    START, END, CONTEXT = 49406, 49407, 77
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(1)
    ids = torch.zeros(int(rows), CONTEXT, dtype=torch.int64)
    for row in ids:
        tokens = int(torch.randint(8, 21, ()))
        row[:tokens] = torch.randint(1, START, (tokens,))
        row[0], row[tokens - 1] = START, END
    # As wide as pixels are after CLIP's normalisation.
    save_file({"pixels": torch.randn(int(rows), 3, 224, 224), "ids": ids}, os.path.join(folder, "batch.safetensors"))


{"pictures": pictures, "model": model, "features": features, "onnx": onnx, "pairs": pairs}[sys.argv[1]](*sys.argv[2:])
