"""Makes what the benches read.

prepare.py pictures WHEEL FOLDER   photographs from scikit-image's wheel as JPEG, 800 x 600, 4:2:0, quality 90
prepare.py model NAME FOLDER       an OpenCLIP directory: a model of the right shape, random weights
prepare.py chinese FOLDER          the same of a ViT-B/16 and RoBERTa-base in Chinese-CLIP's layout
prepare.py features ROWS FOLDER    unit rows of 512 for texts and images, a text near its image
prepare.py onnx MODEL              graphs of that model's towers for onnxruntime, in f32 and with its dynamic int8
prepare.py pairs ROWS TOP FOLDER   a batch: pixels of 224 and titles of 8 to 20 tokens, both at random; the ids of words are
                                   below TOP as CLIP's are, or `chinese`
prepare.py titles ROWS FOLDER      product titles of common words, sizes and numbers
prepare.py table ROWS PICTURES FOLDER   a table of those pictures in base64, again and again, and titles
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


def model(name, folder):
    import open_clip
    import torch
    from safetensors.torch import save_file

    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(1)
    made = open_clip.create_model(name)
    weights = {name: value.contiguous() for name, value in made.state_dict().items()}
    save_file(weights, os.path.join(folder, "open_clip_model.safetensors"))
    config = {
        "model_cfg": open_clip.get_model_config(name),
        "preprocess_cfg": open_clip.get_model_preprocess_cfg(made),
    }
    with open(os.path.join(folder, "open_clip_config.json"), "w") as file:
        json.dump(config, file, indent=2)
    with open(os.path.join(folder, "texts.txt"), "w") as file:
        file.write("\n".join(TEXTS) + "\n")


def chinese(folder):
    import pathlib
    import shutil

    import cn_clip.clip
    import torch
    from cn_clip.clip.model import CLIP

    os.makedirs(folder, exist_ok=True)
    configs = pathlib.Path(cn_clip.clip.__file__).parent / "model_configs"
    vision, text = configs / "ViT-B-16.json", configs / "RoBERTa-wwm-ext-base-chinese.json"
    torch.manual_seed(1)
    made = CLIP(**json.loads(vision.read_text()), **json.loads(text.read_text()))
    torch.save({"state_dict": made.state_dict()}, os.path.join(folder, "clip_cn_vit-b-16.pt"))
    shutil.copy(vision, os.path.join(folder, "vision.json"))
    shutil.copy(text, os.path.join(folder, "text.json"))


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


def pairs(rows, top, folder):
    import torch
    from safetensors.torch import save_file

    if top == "chinese":
        start, end, context, first, top = 101, 102, 52, 670, 8000
    else:
        first, top = 1, int(top)
        start, end, context = top + 1, top + 2, 77
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(1)
    ids = torch.zeros(int(rows), context, dtype=torch.int64)
    for row in ids:
        tokens = int(torch.randint(8, 21, ()))
        row[:tokens] = torch.randint(first, top, (tokens,))
        row[0], row[tokens - 1] = start, end
    # As wide as pixels are after CLIP's normalisation.
    save_file({"pixels": torch.randn(int(rows), 3, 224, 224), "ids": ids}, os.path.join(folder, "batch.safetensors"))


BRANDS = "Northfell Marlow Aster Quillon Bexley Harrow Tamsin Orla Veldt Juniper Castell Roven Ilmari Sorrel Wren".split()
COLOURS = "black white navy blue red green grey beige pink ivory olive teal mustard burgundy charcoal".split()
MATERIALS = "cotton linen wool leather suede denim silk polyester stainless-steel bamboo ceramic oak merino nylon".split()
THINGS = (
    "dress|t-shirt|running shoes|sneakers|handbag|backpack|coffee mug|desk lamp|phone case|wrist watch|sunglasses|jacket|"
    "trousers|skirt|jumper|scarf|water bottle|frying pan|cushion cover|bath towel|ankle boots|laptop sleeve|necklace"
).split("|")
EXTRAS = "for women|for men|kids|slim fit|waterproof|with pockets|gift box|pack of 2|size M|size 42|500 ml|30 x 40 cm|2024".split("|")


def drawn_titles(rows):
    import random

    draw = random.Random(1)
    for row in range(rows):
        words = [draw.choice(BRANDS), draw.choice(COLOURS), draw.choice(MATERIALS), draw.choice(THINGS)]
        words += draw.sample(EXTRAS, draw.randrange(3))
        # What no two products share: an article number.
        yield " ".join(words) + f", art. {chr(65 + row % 26)}{draw.randrange(10**5)}"


def titles(rows, folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "titles.txt"), "w") as file:
        file.writelines(title + "\n" for title in drawn_titles(int(rows)))


def table(rows, pictures, folder):
    import base64

    os.makedirs(folder, exist_ok=True)
    names = sorted(os.listdir(pictures))
    encoded = [base64.b64encode(open(os.path.join(pictures, name), "rb").read()).decode() for name in names]
    with open(os.path.join(folder, "pictures.tsv"), "w") as file:
        file.write("title\timage\n")
        file.writelines(f"{title}\t{encoded[row % len(encoded)]}\n" for row, title in enumerate(drawn_titles(int(rows))))


WAYS = {way.__name__: way for way in (pictures, model, chinese, features, onnx, pairs, titles, table)}
WAYS[sys.argv[1]](*sys.argv[2:])
