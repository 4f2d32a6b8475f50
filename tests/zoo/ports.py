"""Ports by other people: the TensorFlow classes of transformers 4 with their PyTorch originals, and
tfimm with timm. Their packages stand in a folder of their own (`make zoo` fills it), since the
zoo's environment has a newer transformers.

All Keras models here are subclassed, most layers are composites with raw variables of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pair import Pair, from_timm, pictures

PACKAGES_OF_PORTS = Path(sys.prefix) / "ports"
SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 40
}
# The same under the names of encoders with a decoder behind them.
TWO_STACKS = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "max_position_embeddings": 40
}
GPT = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
T5 = {
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8
}
VISION = {
    "image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
WAVES = {
    **SIZES, "conv_dim": (16, 16, 16), "conv_kernel": (8, 4, 4), "conv_stride": (4, 2, 2),
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2
}
BUCKETS = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
TOWERS = {
    "text_config": {**SIZES, "eos_token_id": 59}, "vision_config": VISION, "projection_dim": 24
}

Inputs = dict[str, np.ndarray]
Draw = Callable[[np.random.Generator], Inputs]


def text(generator: np.random.Generator) -> Inputs:
    """Two sequences of eight token ids."""
    return {"input_ids": generator.integers(5, 55, (2, 8))}


def padded_text(generator: np.random.Generator) -> Inputs:
    """The same, the second of which is padded."""
    mask = np.ones((2, 8), np.int64)
    mask[1, 6:] = 0
    return {**text(generator), "attention_mask": mask}


def two_texts(generator: np.random.Generator) -> Inputs:
    """Token ids for an encoder and for its decoder."""
    return {**text(generator), "decoder_input_ids": generator.integers(5, 55, (2, 6))}


def boxes(generator: np.random.Generator) -> Inputs:
    """Token ids, each with a box on its page."""
    return {**text(generator), "bbox": np.sort(generator.integers(0, 40, (2, 8, 4)), -1)}


def picture(side: int) -> Draw:
    """Two pictures, channels first on both sides."""
    def draw(generator: np.random.Generator) -> Inputs:
        return {"pixel_values": generator.uniform(-1, 1, (2, 3, side, side)).astype("float32")}

    return draw


def text_and_picture(generator: np.random.Generator) -> Inputs:
    """One input for each tower."""
    return {**text(generator), **picture(32)(generator)}


def wave(generator: np.random.Generator) -> Inputs:
    """Two short sounds."""
    return {"input_values": generator.uniform(-1, 1, (2, 800)).astype("float32")}


def table_cells(generator: np.random.Generator) -> Inputs:
    """Token ids with the seven kinds of segments of a table."""
    return {**text(generator), "token_type_ids": generator.integers(0, 2, (2, 8, 7))}


# Class without "TF", its configuration, settings, inputs.
TRANSFORMERS: tuple[tuple[str, str, dict[str, Any], Draw], ...] = (
    ("AlbertModel", "AlbertConfig", {**SIZES, "embedding_size": 16}, padded_text),
    ("BertModel", "BertConfig", SIZES, padded_text),
    ("BertForMaskedLM", "BertConfig", SIZES, padded_text),
    ("BertForQuestionAnswering", "BertConfig", SIZES, text),
    ("RobertaForSequenceClassification", "RobertaConfig", SIZES, text),
    ("DistilBertForTokenClassification", "DistilBertConfig", {
        "vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
        "max_position_embeddings": 40
    }, text),
    ("ElectraForPreTraining", "ElectraConfig", {**SIZES, "embedding_size": 16}, text),
    ("ConvBertModel", "ConvBertConfig", {**SIZES, "embedding_size": 16, "num_groups": 1}, text),
    ("DebertaModel", "DebertaConfig", {**SIZES, **BUCKETS, "max_relative_positions": 16}, text),
    ("DebertaV2Model", "DebertaV2Config", {
        **SIZES, **BUCKETS, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
        "share_att_key": True
    }, text),
    ("MobileBertModel", "MobileBertConfig", {
        **SIZES, "embedding_size": 16, "intra_bottleneck_size": 16
    }, text),
    ("MPNetModel", "MPNetConfig", SIZES, text),
    ("FunnelModel", "FunnelConfig", {
        "vocab_size": 60, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48,
        "block_sizes": [1, 1], "num_decoder_layers": 1
    }, text),
    ("LongformerModel", "LongformerConfig", {**SIZES, "attention_window": 4}, text),
    ("RoFormerModel", "RoFormerConfig", {**SIZES, "embedding_size": 16}, text),
    ("XLNetModel", "XLNetConfig", {
        "vocab_size": 60, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48
    }, text),
    ("GPT2LMHeadModel", "GPT2Config", GPT, text),
    ("GPTJForCausalLM", "GPTJConfig", {**GPT, "rotary_dim": 4}, text),
    ("CTRLModel", "CTRLConfig", {**GPT, "dff": 48}, text),
    ("OPTModel", "OPTConfig", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 16}, text),
    ("XGLMModel", "XGLMConfig", {
        "vocab_size": 60, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48
    }, text),
    ("MistralForCausalLM", "MistralConfig", {**SIZES, "num_key_value_heads": 2}, text),
    ("T5ForConditionalGeneration", "T5Config", T5, two_texts),
    ("MT5Model", "MT5Config", T5, two_texts),
    ("BartForConditionalGeneration", "BartConfig", TWO_STACKS, two_texts),
    ("PegasusModel", "PegasusConfig", TWO_STACKS, two_texts),
    ("MarianMTModel", "MarianConfig", {
        **TWO_STACKS, "pad_token_id": 0, "decoder_start_token_id": 0
    }, two_texts),
    ("LEDModel", "LEDConfig", {
        **TWO_STACKS, "attention_window": [4, 4], "max_encoder_position_embeddings": 40,
        "max_decoder_position_embeddings": 40
    }, two_texts),
    ("ViTModel", "ViTConfig", VISION, picture(32)),
    ("DeiTForImageClassificationWithTeacher", "DeiTConfig", VISION, picture(32)),
    ("Data2VecVisionForImageClassification", "Data2VecVisionConfig", {
        **VISION, "use_relative_position_bias": True
    }, picture(32)),
    ("SwinForImageClassification", "SwinConfig", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 2],
        "window_size": 4
    }, picture(32)),
    ("ConvNextForImageClassification", "ConvNextConfig", STAGES, picture(64)),
    ("ConvNextV2ForImageClassification", "ConvNextV2Config", STAGES, picture(64)),
    ("ResNetForImageClassification", "ResNetConfig", {**STAGES, "embedding_size": 8}, picture(64)),
    ("RegNetForImageClassification", "RegNetConfig", {
        **STAGES, "embedding_size": 8, "groups_width": 8
    }, picture(64)),
    ("SegformerForSemanticSegmentation", "SegformerConfig", {
        "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 4], "decoder_hidden_size": 24
    }, picture(64)),
    ("CLIPModel", "CLIPConfig", TOWERS, text_and_picture),
    ("Wav2Vec2ForCTC", "Wav2Vec2Config", WAVES, wave),
    ("HubertModel", "HubertConfig", WAVES, wave),
    ("LayoutLMModel", "LayoutLMConfig", {**SIZES, "max_2d_position_embeddings": 40}, boxes),
    ("TapasModel", "TapasConfig", {
        **SIZES, "type_vocab_sizes": [3, 8, 8, 2, 8, 8, 4]
    }, table_cells),
    ("RemBertForMaskedLM", "RemBertConfig", {
        **SIZES, "input_embedding_size": 16, "output_embedding_size": 24
    }, text),
    ("FlaubertModel", "FlaubertConfig", {"vocab_size": 60, "emb_dim": 32, "n_layers": 2,
                                         "n_heads": 4}, text),
)  # yapf: disable
# tfimm's name, timm's where that is another, side of the pictures.
TFIMM = """
cait_xxs24_224 224, convnext_tiny 64, deit_tiny_distilled_patch16_224 224, ecaresnet26t 64,
efficientnet_b0=tf_efficientnet_b0 64, mixer_s32_224 224,
mobilenet_v2_100=mobilenetv2_100 64, pit_ti_224 224, poolformer_s12 64, pvt_v2_b0 64, resmlp_12_224
224, resnet18 64, resnet26t 64, resnetv2_50x1_bitm=resnetv2_50x1_bit 64,
swin_tiny_patch4_window7_224 224, vgg11_bn 224, vit_tiny_patch16_224 224
"""


def environment_of_ports() -> dict[str, str]:
    """What must be set for these packages: their folder comes before the environment's own."""
    rest = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGES_OF_PORTS), rest]))}


def drawn(draw: Draw) -> Callable[[int], tuple[Inputs, Inputs]]:
    """The same arrays for both sides, whole numbers in the type that each takes."""
    def make(seed: int) -> tuple[Inputs, Inputs]:
        inputs = draw(np.random.default_rng(seed))
        return inputs, {
            name: one.astype("int32") if one.dtype.kind == "i" else one
            for name, one in inputs.items()
        }

    return make


def from_transformers_4(name: str, configuration: str, settings: dict[str, Any],
                        build_on: Inputs | None = None) -> Callable[[], Any]:
    """A class of transformers; a Keras one is built by running it on some inputs."""
    def build() -> Any:
        import transformers

        model = getattr(transformers, name)(getattr(transformers, configuration)(**settings))
        if build_on is not None:
            model(build_on, training=False)
        return model

    return build


def port_pairs() -> Iterator[Pair]:
    """All pairs of this file."""
    for name, configuration, settings, draw in TRANSFORMERS:
        inputs = drawn(draw)
        yield Pair(f"tf_{name.lower()}", "transformers-tf", f"transformers TF{name}, {name}",
                   from_transformers_4(name, configuration, settings),
                   from_transformers_4(f"TF{name}", configuration, settings,
                                       inputs(1)[1]), inputs,
                   more_environment=environment_of_ports())
    for entry in TFIMM.replace("\n", " ").split(","):
        names, side = entry.split()
        keras_name, _, torch_name = names.partition("=")
        yield Pair(f"tfimm_{keras_name}", "tfimm", f"tfimm {keras_name}, timm",
                   from_timm(torch_name or keras_name), from_tfimm(keras_name), pictures(int(side)),
                   more_environment=environment_of_ports())


def from_tfimm(name: str) -> Callable[[], Any]:
    """A model of tfimm."""
    def build() -> Any:
        import tfimm

        return tfimm.create_model(name, pretrained=False)

    return build
