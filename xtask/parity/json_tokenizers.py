"""Small pipelines in tokenizer.json files, with the ids that the tokenizers library gives at context 16.

    python3 -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python -P xtask/parity/json_tokenizers.py crates/clip-tokenizers/tests/json

`siglip.json` is built like SigLIP's (lower case, no punctuation, a unigram model behind `▁`, `</s>` at the end), `siglip2.json`
like SigLIP 2's (byte pairs that fall back on bytes, `<eos>` at the end), `roberta.json` like RoBERTa's (byte pairs over
bytes, between `<s>` and `</s>`). Each file also asks for padding and for a truncation of its own, which a model's reader
must not follow. `cases.jsonl` holds a text a line and its ids in each.
"""

import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = """red dress with white dots, long sleeves and a belt
a photo of a leather bag for women, black, large
running shoes for men, size 42, light and soft
blue jeans with holes, a white t-shirt, a red cap
the summer dress is red and the winter coat is blue
红色连衣裙 蓝色牛仔裤 白色运动鞋 黑色皮包""".split("\n") * 3

TEXTS = [
    "", " ", "a photo of a red dress", "A PHOTO of a  Red DRESS!", "t-shirt, white (large)", "running shoes for men, size 42",
    "\tlong sleeves\nand a belt ", "红色连衣裙", "红色 dress 蓝色", "naïve café Ärmel", "🦄 bag", "dress</s>red", "<eos> bag <pad>",
    "<s>shoes</s>", "▁red", "a" * 40, "red dress with white dots, long sleeves and a belt, a photo of a leather bag for women",
    "42 42 42", "...", "it's", "\u3000full\u3000width", "\u0000\u0001 red", "one two three four five six seven eight nine ten",
]


def siglip():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer, "</s>"


def siglip2():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer, "<pad>"


def roberta():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer, "<pad>"


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    cases = [{"text": text} for text in TEXTS]
    for make in (siglip, siglip2, roberta):
        tokenizer, pad = make()
        tokenizer.enable_truncation(16)
        for case in cases:
            case[make.__name__] = tokenizer.encode(case["text"]).ids
        tokenizer.enable_truncation(4)
        tokenizer.enable_padding(length=20, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
        tokenizer.save(str(folder / f"{make.__name__}.json"), pretty=False)
    lines = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases)
    (folder / "cases.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
