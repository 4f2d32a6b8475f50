"""The tensors of real networks: names and shapes, as their published checkpoints have them.

Each network is a list of lines "name: shape", where a line with {a-b} stands for the layers a to b
- 1. `tensors` leaves layers out until the rest is of the wanted size, so that a race takes seconds
and the shapes stay those that people convert.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod

Shape = tuple[int, ...]


def _words(shape: Shape) -> str:
    return " ".join(map(str, shape))


def _resnet50() -> Iterator[str]:
    yield from ("conv1.weight: 64 3 7 7", *_batch_norm("bn1", 64))
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for number, shape in enumerate(
                ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)), 1):
                yield f"{name}.conv{number}.weight: {_words(shape)}"
                yield from _batch_norm(f"{name}.bn{number}", shape[0])
            if not block:
                yield f"{name}.downsample.0.weight: {4 * width} {inputs} 1 1"
                yield from _batch_norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    yield from ("fc.weight: 1000 2048", "fc.bias: 1000")


def _batch_norm(name: str, width: int) -> Iterator[str]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}: {width}"


def _unet() -> Iterator[str]:
    """Stable Diffusion 1.5's U-Net: 320, 640, 1280 and 1280 channels."""
    yield from ("conv_in.weight: 320 4 3 3", "conv_in.bias: 320")
    yield from (*_linear("time_embedding.linear_1", 320, 1280),
                *_linear("time_embedding.linear_2", 1280, 1280))
    inputs = 320
    for block, width in enumerate((320, 640, 1280, 1280)):
        for number in range(2):
            yield from _residual(f"down_blocks.{block}.resnets.{number}", inputs, width)
            inputs = width
            if block < 3:
                yield from _attention(f"down_blocks.{block}.attentions.{number}", width)
        if block < 3:
            name = f"down_blocks.{block}.downsamplers.0.conv"
            yield from (f"{name}.weight: {width} {width} 3 3", f"{name}.bias: {width}")
    for number in range(2):
        yield from _residual(f"mid_block.resnets.{number}", 1280, 1280)
    yield from _attention("mid_block.attentions.0", 1280)
    skips = [320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280]
    for block, width in enumerate((1280, 1280, 640, 320)):
        for number in range(3):
            yield from _residual(f"up_blocks.{block}.resnets.{number}", inputs + skips.pop(), width)
            inputs = width
            if block:
                yield from _attention(f"up_blocks.{block}.attentions.{number}", width)
        if block < 3:
            name = f"up_blocks.{block}.upsamplers.0.conv"
            yield from (f"{name}.weight: {width} {width} 3 3", f"{name}.bias: {width}")
    yield from (*_norm("conv_norm_out", 320), "conv_out.weight: 4 320 3 3", "conv_out.bias: 4")


def _linear(name: str, inputs: int, outputs: int) -> Iterator[str]:
    yield from (f"{name}.weight: {outputs} {inputs}", f"{name}.bias: {outputs}")


def _norm(name: str, width: int) -> Iterator[str]:
    yield from (f"{name}.weight: {width}", f"{name}.bias: {width}")


def _residual(name: str, inputs: int, width: int) -> Iterator[str]:
    yield from (*_norm(f"{name}.norm1", inputs), f"{name}.conv1.weight: {width} {inputs} 3 3",
                f"{name}.conv1.bias: {width}", *_linear(f"{name}.time_emb_proj", 1280, width),
                *_norm(f"{name}.norm2", width), f"{name}.conv2.weight: {width} {width} 3 3",
                f"{name}.conv2.bias: {width}")
    if inputs != width:
        yield f"{name}.conv_shortcut.weight: {width} {inputs} 1 1"
        yield f"{name}.conv_shortcut.bias: {width}"


def _attention(name: str, width: int) -> Iterator[str]:
    yield from _norm(f"{name}.norm", width)
    block = f"{name}.transformer_blocks.0"
    for end in ("proj_in", "proj_out"):
        yield from (f"{name}.{end}.weight: {width} {width} 1 1", f"{name}.{end}.bias: {width}")
    for number, context in ((1, width), (2, 768)):
        yield f"{block}.attn{number}.to_q.weight: {width} {width}"
        for part in ("to_k", "to_v"):
            yield f"{block}.attn{number}.{part}.weight: {width} {context}"
        yield from _linear(f"{block}.attn{number}.to_out.0", width, width)
    yield from (*_linear(f"{block}.ff.net.0.proj", width, 8 * width),
                *_linear(f"{block}.ff.net.2", 4 * width, width))
    for number in (1, 2, 3):
        yield from _norm(f"{block}.norm{number}", width)


NETWORKS: dict[str, tuple[str, ...]] = {
    "ResNet-50":
        tuple(_resnet50()),
    "ViT-L":
        ("cls_token: 1 1 1024", "pos_embed: 1 197 1024", "patch_embed.proj.weight: 1024 3 16 16",
         "patch_embed.proj.bias: 1024", "blocks.{0-24}.norm1.weight: 1024",
         "blocks.{0-24}.norm1.bias: 1024", "blocks.{0-24}.attn.qkv.weight: 3072 1024",
         "blocks.{0-24}.attn.qkv.bias: 3072", "blocks.{0-24}.attn.proj.weight: 1024 1024",
         "blocks.{0-24}.attn.proj.bias: 1024", "blocks.{0-24}.norm2.weight: 1024",
         "blocks.{0-24}.norm2.bias: 1024", "blocks.{0-24}.mlp.fc1.weight: 4096 1024",
         "blocks.{0-24}.mlp.fc1.bias: 4096", "blocks.{0-24}.mlp.fc2.weight: 1024 4096",
         "blocks.{0-24}.mlp.fc2.bias: 1024", "norm.weight: 1024", "norm.bias: 1024",
         "head.weight: 1000 1024", "head.bias: 1000"),
    "BERT-base":
        ("embeddings.word_embeddings.weight: 30522 768",
         "embeddings.position_embeddings.weight: 512 768",
         "embeddings.token_type_embeddings.weight: 2 768", "embeddings.LayerNorm.weight: 768",
         "embeddings.LayerNorm.bias: 768", *(f"encoder.layer.{{0-12}}.{line}" for line in (
             *_linear("attention.self.query", 768, 768), *_linear("attention.self.key", 768, 768),
             *_linear("attention.self.value", 768, 768),
             *_linear("attention.output.dense", 768, 768),
             *_norm("attention.output.LayerNorm", 768), *_linear("intermediate.dense", 768, 3072),
             *_linear("output.dense", 3072, 768), *_norm("output.LayerNorm", 768))),
         "pooler.dense.weight: 768 768", "pooler.dense.bias: 768"),
    # OpenAI's Conv1D keeps (inputs, outputs), as Keras does; the head is the transposed table.
    "GPT-2 XL":
        ("wte.weight: 50257 1600", "wpe.weight: 1024 1600", *(f"h.{{0-48}}.{line}" for line in (
            *_norm("ln_1", 1600), *_linear("attn.c_attn", 4800, 1600),
            *_linear("attn.c_proj", 1600, 1600), *_norm("ln_2", 1600),
            *_linear("mlp.c_fc", 6400, 1600), *_linear("mlp.c_proj", 1600, 6400))),
         "ln_f.weight: 1600", "ln_f.bias: 1600", "lm_head.weight: 50257 1600"),
    "Stable Diffusion U-Net":
        tuple(_unet()),
    "Llama-7B":
        ("model.embed_tokens.weight: 32000 4096", *(f"model.layers.{{0-32}}.{line}" for line in (
            "self_attn.q_proj.weight: 4096 4096", "self_attn.k_proj.weight: 4096 4096",
            "self_attn.v_proj.weight: 4096 4096", "self_attn.o_proj.weight: 4096 4096",
            "mlp.gate_proj.weight: 11008 4096", "mlp.up_proj.weight: 11008 4096",
            "mlp.down_proj.weight: 4096 11008", "input_layernorm.weight: 4096",
            "post_attention_layernorm.weight: 4096")), "model.norm.weight: 4096",
         "lm_head.weight: 32000 4096")
}  # yapf: disable


def tensors(network: str, most_bytes: float, itemsize: int = 4) -> dict[str, Shape]:
    """Return names and shapes of a network, in total no more than `most_bytes`.

    Left out are the last of the repeated layers, then the largest of what is not repeated, then the
    last tensors.
    """
    lines = NETWORKS[network]
    repeated = [int(found[1]) for line in lines if (found := re.search(r"\{0-(\d+)\}", line))]
    layers = max(repeated, default=0)
    found = _named(lines, layers)
    while layers > 1 and _bytes(found, itemsize) > most_bytes:
        layers -= 1
        found = _named(lines, layers)
    once = sorted(_named(lines, 0) if layers else (), key=lambda name: prod(found[name]))
    while _bytes(found, itemsize) > most_bytes:
        del found[once.pop() if once else list(found)[-1]]
    return found


def takes_transpose(name: str, shape: Shape) -> bool:
    """Return whether Keras keeps this matrix the other way around: tables are the same in both."""
    tables = ("embed", "wte", "wpe", "c_attn", "c_proj", "c_fc", "cls_token")
    return len(shape) == 2 and not any(part in name for part in tables)


def _named(lines: tuple[str, ...], layers: int) -> dict[str, Shape]:
    return dict(
        pair for layer in (None, *range(layers)) for pair in _of_layer(lines, layer, layers))


def _of_layer(lines: tuple[str, ...], layer: int | None,
              layers: int) -> Iterator[tuple[str, Shape]]:
    for line in lines:
        name, _, shape = line.partition(": ")
        if ("{" in name) == (layer is not None):
            yield (re.sub(r"\{0-\d+\}", str(layer), name), tuple(map(int, shape.split())))


def _bytes(found: dict[str, Shape], itemsize: int) -> int:
    return itemsize * sum(map(prod, found.values()))
