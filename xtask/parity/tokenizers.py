"""Strings that are hard to tokenize, with the ids the reference tokenizers give them, as JSON lines.

    pip install ftfy==6.3.1 transformers==5.23.0 regex six
    pip install --no-deps open_clip_torch==3.3.0 cn_clip==1.6.0
    python xtask/parity/tokenizers.py --count 300 --seed 1 --output crates/clip-tokenizers/tests/fuzz.jsonl
    python xtask/parity/tokenizers.py --tiny crates/clip-tokenizers/tests/tiny
    python xtask/parity/tokenizers.py --tables crates/clip-tokenizers/data

Each line holds `text`; `cleaned` (ftfy, HTML, whitespace, lower case); `open_clip` and `hf_clip` (context 77), `cn_clip` and
`hf_bert` (context 52), all with special tokens and without padding. Torch is not needed. `--tiny` writes small vocabularies
in every format and what the references do with them at context 16. `--tables` writes the two data tables of the cleaning:
HTML's named characters and the single-byte encodings.
"""

import argparse
import gzip
import html
import html.entities
import importlib.util
import json
import pathlib
import random
import site
import sys
import tempfile
import types
import unicodedata

# This file is named like a package that transformers imports: its folder must not be searched first.
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).resolve().parent]
PACKAGES = pathlib.Path(next(p for p in site.getsitepackages() if (pathlib.Path(p) / "open_clip").exists()))


def load_alone(name, path):
    """A module by its file, without the package around it, which would import torch."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def open_clip_module():
    """open_clip's tokenizer, which imports torch for the type of its result only."""
    torch = types.ModuleType("torch")
    torch.LongTensor = torch.Tensor = object
    sys.modules["torch"] = torch
    module = load_alone("open_clip_tokenizer", PACKAGES / "open_clip/tokenizer.py")
    del sys.modules["torch"]
    return module


def open_clip_ids(simple, length=77):
    """How open_clip frames and truncates (its `__call__` without the tensor)."""
    def ids(text):
        ids = [simple.sot_token_id] + simple.encode(text) + [simple.eot_token_id]
        return ids if len(ids) <= length else ids[:length - 1] + [simple.eot_token_id]
    return ids


def cn_clip_ids(vocabulary, length=52):
    """How cn_clip frames and truncates (its `tokenize` without the tensor)."""
    tokenizer = load_alone("cn_clip_tokenizer", PACKAGES / "cn_clip/clip/bert_tokenizer.py").FullTokenizer(str(vocabulary))

    def ids(text):
        ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        return [tokenizer.vocab["[CLS]"]] + ids[:length - 2] + [tokenizer.vocab["[SEP]"]]
    return ids


def hf_ids(tokenizer, length):
    """Hugging Face's call."""
    return lambda text: tokenizer(text, truncation=True, max_length=length)["input_ids"]


def hf_clip(simple):
    """Hugging Face's tokenizer of the same merges."""
    from transformers import CLIPTokenizer
    vocabulary = {name: id for name, id in simple.encoder.items() if id < simple.sot_token_id}
    vocabulary |= {"<|startoftext|>": simple.sot_token_id, "<|endoftext|>": simple.eot_token_id}
    return CLIPTokenizer(vocab=vocabulary, merges=sorted(simple.bpe_ranks, key=simple.bpe_ranks.get))


def references():
    """The reference tokenizers with their own vocabularies: a dict of name to (text -> ids)."""
    from transformers import BertTokenizer
    open_clip = open_clip_module()
    simple = open_clip.SimpleTokenizer()
    vocabulary = PACKAGES / "cn_clip/clip/vocab.txt"
    return {
        "cleaned": open_clip.get_clean_fn("lower"),
        "open_clip": open_clip_ids(simple),
        "hf_clip": hf_ids(hf_clip(simple), 77),
        "cn_clip": cn_clip_ids(vocabulary),
        "hf_bert": hf_ids(BertTokenizer(vocab=str(vocabulary)), 52),
        "hf_bert_cased": hf_ids(BertTokenizer(vocab=str(vocabulary), do_lower_case=False), 52),
    }


def write_tiny(folder, count=60):
    """Small vocabularies in every format, and what the references do with them."""
    from transformers import BertTokenizer
    folder.mkdir(exist_ok=True)
    open_clip = open_clip_module()
    lines = gzip.open(PACKAGES / "open_clip/bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")[:301]
    simple = {}
    for name, text in [("cut", "\n".join(lines)), ("cut_with_line_break", "\n".join(lines) + "\n")]:
        with tempfile.NamedTemporaryFile(suffix=".gz") as file:
            file.write(gzip.compress(text.encode()))
            file.flush()
            simple[name] = open_clip.SimpleTokenizer(file.name)
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8", newline="\n")
    clip = hf_clip(simple["cut"])
    clip.backend_tokenizer.save(str(folder / "clip-tokenizer.json"))
    pieces = (PACKAGES / "cn_clip/clip/vocab.txt").read_text(encoding="utf-8").split("\n")
    small = pieces[:1] + pieces[100:104] + pieces[105:1000] + pieces[8100:8200] + [p for p in pieces[8200:] if p.startswith("##")][:200]
    (folder / "bert-vocab.txt").write_text("\n".join(small) + "\n", encoding="utf-8", newline="\n")
    bert = BertTokenizer(vocab=str(folder / "bert-vocab.txt"))
    bert.backend_tokenizer.save(str(folder / "bert-tokenizer.json"))
    clean = open_clip.get_clean_fn("whitespace")
    tokenizers = {name: open_clip_ids(tokenizer, 16) for name, tokenizer in simple.items()} | {
        "hf_clip": hf_ids(clip, 16),
        "open_clip_hf": lambda text: hf_ids(clip, 16)(clean(text)),
        "hf_bert": hf_ids(bert, 16),
        "cn_clip": cn_clip_ids(folder / "bert-vocab.txt", 16),
    }
    write_cases(folder / "cases.jsonl", tokenizers, count)


def write_cases(path, tokenizers, count):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for _ in range(count):
            string = text()
            file.write(json.dumps({"text": string} | {name: run(string) for name, run in tokenizers.items()}) + "\n")


WORDS = """a photo of the cat dress naïve café Müller façade STRASSE Straße İstanbul ılık ΣΊΣΥΦΟΣ ΟΔΟΣ. Σ ὈΔΥΣΣΕΎΣ Москва ѐ ВЕСНА
    it's DON'T they'RE i've I'M we'll he'd 'S 'ſ ’s ’T o’clock 10³ ½ Ⅷ ⅷ ① ² 3.14 1,000 x2 4K 8GB 100% №5 ٣٤٥ १२३ 〇 二〇二四 ㊗ ㍿
    红色连衣裙 皮卡丘 新款女装 ２０２４ ＡＢＣ ｱｲｳｶﾞ ﾊﾟﾝ ﾡ ｈｅｌｌｏ！ 。、「」 한국어 ᄒ각 สวัสดี 日本語 こんにちは カタカナ 𠀀𪚥 豈 丽 שלום مرحبا لا اَلْعَرَبِيَّة हिन्दी தமிழ்
    ﬁne ﬂuﬃeﬆ ĳ Ǆ ǆ ŉ Œuvre ſtraße K Å Ω e\u0301 a\u030a n\u0303 \u0345α ᾳ ᾼ Ⓐⓐ 𝒜𝓑 😀 👩‍👩‍👧 👍🏽 🇨🇳 ❤️ ☺ 🏴\U000e0067\U000e0062\U000e007f
    “quoted” ‘single’ „low“ «guillemets» … — – ‐ • © ® ™ ° € £ ¥ ¢ § ¶ × ÷ ± µ ¿ ¡ ˆ ˜ ¨ ´ ¸ ¯ - _ __init__ snake_case # @ & < > <b> </p> {}[]|\\^~`
    <|endoftext|> <|startoftext|> <start_of_text> <end_of_text> <START_OF_TEXT> <ſtart_of_text> <|ENDOFTEXT|> [CLS] [SEP] [MASK] [PAD] [UNK] [mask] ##ing ##
    &amp; &lt; &gt; &quot; &nbsp; &eacute; &EACUTE; &Eacute &copy &notit; &not &amp;amp; &amp;lt; &ltx &hellip; &#39; &#x27; &#8217; &#128; &#x80; &#150; &#0; &#xD800; &#x110000; &#1114112; &#11; &#xFFFE; &#13; &#99999999999; &#x; &#; &#xZZ; &; &unknown; &NotEqualTilde; &ThickSpace; &fjlig; &SZLIG; &nTILDE; &bne; &CounterClockwiseContourIntegral; &amp&lt &#38;amp; &#59; &AMP &Alpha; &alpha &frac12 &FRAC12;
    """.split()

SPACES = [" ", "  ", "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f",
          "\u3000", "\u200b", "\u180e", ""]
ODD = ["\x00", "\x01", "\x07", "\x08", "\x1a", "\x1b", "\x1b[31m", "\x1b[0;1;4m", "\x1b[٣m", "\x7f", "\x80", "\x81", "\x9d", "\xad", "\ufeff", "\ufffd", "\ufffc",
       "\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u202e", "\u2060", "\u206a", "\ue000", "\uf8ff", "\U000f0000", "\U00100000", "\ufdd0", "\uffff", "\ufe0f",
       "\u0301", "\u0308", "\u3099", "\u20dd", "\u0e31", "\U000e0001", "\u2066"]
ENCODINGS = ["latin-1", "windows-1252", "windows-1251", "windows-1250", "windows-1253", "windows-1254", "windows-1257", "iso-8859-2", "macroman", "cp437"]


def sloppy(data, encoding):
    """Bytes read in the wrong single-byte encoding; unassigned bytes keep their number or are lost."""
    return "".join(bytes([b]).decode(encoding, "replace") if b < 0x80 or random.random() < 0.1
                   else (bytes([b]).decode(encoding, "ignore") or chr(b)) for b in data)


def cesu8(text):
    """UTF-8 over UTF-16: each surrogate in three bytes; NUL in two, as Java writes it."""
    units = text.encode("utf-16-be")
    units = [units[i] << 8 | units[i + 1] for i in range(0, len(units), 2)]
    return b"".join(b"\xc0\x80" if u == 0 else chr(u).encode("utf-8", "surrogatepass") for u in units)


def mojibake(text):
    """The text after one to three wrong turns."""
    for _ in range(random.choice([1, 1, 1, 2, 2, 3])):
        data = cesu8(text) if random.random() < 0.1 else text.encode("utf-8")
        text = sloppy(data, random.choice(ENCODINGS[:2] * 3 + ENCODINGS))
        change = random.random()
        if change < 0.15:
            text = text.replace("\xa0", " ")
        elif change < 0.25:
            text = "".join(c if c < "\x80" or random.random() > 0.15 else random.choice("?\ufffd") for c in text)
        elif change < 0.3:
            text = text[random.randrange(len(text) + 1):]
    return text


def code_point():
    """Any assigned character, or one of a chosen block."""
    while True:
        low, high = random.choice([(0, 0x7f), (0x80, 0x24f), (0x250, 0x52f), (0x530, 0x1fff), (0x2000, 0x2bff), (0x2e80, 0x9fff), (0xa000, 0xd7ff), (0xe000, 0xffff),
                                   (0x10000, 0x1ffff), (0x20000, 0x3ffff), (0xe0000, 0xe01ff), (0x80, 0xff), (0xff00, 0xffef), (0xfb00, 0xfb4f), (0x300, 0x36f)])
        char = chr(random.randint(low, high))
        if unicodedata.category(char) not in ("Cn", "Cs"):
            return char


def reference_entity():
    """A character reference, well formed or not."""
    name = random.choice(NAMES)
    number = random.choice([random.randrange(0x120), random.randrange(0x3000), random.randrange(0x120000), random.randrange(1 << 40)])
    form = random.choice([name, name, name.rstrip(";"), name.upper(), name.lower(), name.swapcase(), name[:-2], name + "x;", f"#{number};", f"#{number}", f"#x{number:x};", f"#X{number:X}", f"#{number}a;"])
    return random.choice(["&", "&", "&", "&amp;", "&amp;amp;", "&&"]) + form


NAMES = sorted(html.entities.html5)
CLUES = "ÃÂâãäåæïðÐÑÎÏØÙ€œŠš¢£Ÿž\xa0\xad®©°·»«¿¡“”‘’–—´¨¬¯¸ƒˆ˜†‡‰¦¤ªº¶§²³¹±¼½¾×µ÷√∂∏∑∞∫≈≠≤≥№ˇ˘˛˝¥ВЂГўРСвЂβ€ΒΓΞΟā│┌═╬▀█░ŒÀÉÈÌÍÒÓÖØÙÚÜàáéèìíòóöøùúü ¶a? Z\ufffd\x81\x9d"


def bytes_misread():
    """Bytes that are nearly UTF-8 or one of its variants, read in a wrong encoding."""
    pieces = [b"\xc0\x80", b"\xc0", b"\xed\xa0\xbd\xed\xb8\x80", b"\xed", b"\xa0", b"\xb0", b"\x80", b"\x9f", b"\x98", b"\n", b" ", b"\x1a", b"?", b"\xc3", b"\xc2", b"\xe2",
              b"\x82\xac", b"\xf0", b"quele ", b"s ", b"a", b"\xc5", b"\xd0", b"\xe3\x81\x82", b"\xef\xbf\xbd", b"\xe2\x80\x9c", b"\xc3\xa9", b"\xbd", b"\xed\x95\x9c"]
    return sloppy(b"".join(random.choice(pieces) for _ in range(random.randint(2, 9))), random.choice(ENCODINGS[:2] * 4 + ENCODINGS))


def text():
    """One hard string."""
    kind = random.random()
    if kind < 0.05:
        parts = [bytes_misread() for _ in range(random.randint(1, 3))]
    elif kind < 0.30:
        parts = [random.choice(WORDS) for _ in range(random.randint(1, 9))]
    elif kind < 0.50:
        source = " ".join(random.choice(WORDS) for _ in range(random.randint(1, 4)))
        parts = [mojibake(source if random.random() < 0.7 else "".join(code_point() for _ in range(random.randint(1, 5))))]
        parts += [random.choice(WORDS) for _ in range(random.choice([0, 0, 1, 2]))]
        random.shuffle(parts)
    elif kind < 0.62:
        parts = ["".join(random.choice(CLUES) for _ in range(random.randint(1, 10))) for _ in range(random.randint(1, 3))]
    elif kind < 0.76:
        parts = [reference_entity() + random.choice(["", "", "x", ";", " "]) for _ in range(random.randint(1, 5))]
    elif kind < 0.88:
        parts = ["".join(code_point() for _ in range(random.randint(1, 6))) for _ in range(random.randint(1, 5))]
    elif kind < 0.92:
        parts = [random.choice(WORDS + ["ab", "x", "é", "字", "0"]) * random.choice([20, 99, 100, 101, 150, 199, 200, 201, 300])]
    else:
        parts = [random.choice(WORDS + ODD + SPACES) for _ in range(random.randint(2, 12))]
    out = ""
    for part in parts:
        if random.random() < 0.1:
            part = unicodedata.normalize(random.choice(["NFC", "NFD", "NFKC", "NFKD"]), part)
        if random.random() < 0.12:
            part = random.choice([part.upper, part.lower, part.title, part.swapcase])()
        if random.random() < 0.12:
            at = random.randrange(len(part) + 1)
            part = part[:at] + random.choice(ODD + SPACES) + part[at:]
        out += part + random.choice(SPACES + [" "] * 20)
    return "".join(c for c in out if not 0xd800 <= ord(c) <= 0xdfff)


def write_tables(folder):
    """The data that the cleaning needs: HTML's names and the encodings' upper halves."""
    with open(folder / "html5-entities.txt", "w", encoding="utf-8", newline="\n") as file:
        for name in NAMES:
            file.write(name + " " + " ".join(f"{ord(c):X}" for c in html.entities.html5[name]) + "\n")
    with open(folder / "encodings.txt", "w", encoding="utf-8", newline="\n") as file:
        for encoding in ENCODINGS[1:]:
            points = [ord(bytes([b]).decode(encoding, "ignore") or "\0") for b in range(0x80, 0x100)]
            file.write(encoding + " " + " ".join(f"{p:X}" if p else "-" for p in points) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--output", type=pathlib.Path)
    arguments.add_argument("--tiny", type=pathlib.Path)
    arguments.add_argument("--tables", type=pathlib.Path)
    options = arguments.parse_args()
    random.seed(options.seed)
    if options.tables:
        write_tables(options.tables)
    if options.tiny:
        write_tiny(options.tiny)
    if options.output:
        write_cases(options.output, references(), options.count)


if __name__ == "__main__":
    main()
