"""Families of pairs: one architecture at several depths and widths, the smallest first.

A member is a pair of the kind that registry.py has. run_families.py learns each family from its
first members and measures the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from registry import (DECODERS, ENCODERS, PAIRS, Pair, as_published, backbone, backbone_of,
                      from_transformers, last_state, pictures, sequence, tensors, tokens,
                      tokens_and_segments)

# Layers, width, heads, heads of keys and values, inner width, vocabulary. No two widths are equal
# where a size could be taken for another; D has as many heads as a head has entries.
SIZES = {
    "a": (2, 32, 4, 2, 64, 60), "b": (3, 60, 6, 3, 112, 71), "d": (2, 36, 6, 6, 80, 64),
    "e": (5, 32, 4, 2, 64, 60), "c": (12, 96, 8, 4, 130, 67)
}
# The names that transformers' configurations have for them.
USUAL = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
         "intermediate_size", "vocab_size")
OWN_NAMES = {
    "DistilBertModel": ("n_layers", "dim", "n_heads", "", "hidden_dim", "vocab_size"),
    "GPT2Model": ("n_layer", "n_embd", "n_head", "", "", "vocab_size")
}
# Members beside a, b and d.
MORE = {"BertModel": "ec", "LlamaForCausalLM": "ec", "GPT2Model": "c", "MixtralForCausalLM": "e"}
ALONE: dict[str, dict[str, Any]] = {
    "AlbertModel": {"embedding_size": 16, "num_hidden_groups": 1, "inner_group_num": 1},
    "RobertaModel": {"pad_token_id": 1}, "XLMRobertaModel": {"pad_token_id": 1}
}


def transformer_families() -> Iterator[tuple[str, list[Pair]]]:
    """keras-hub's backbones that a config.json describes, with transformers."""
    for model, configuration, settings in (*ENCODERS, *DECODERS):
        is_decoder = (model, configuration, settings) in DECODERS
        names = OWN_NAMES.get(model, USUAL)
        members = []
        for size in "abd" + MORE.get(model, ""):
            sizes = dict(zip(names, SIZES[size], strict=True))
            if not is_decoder:
                sizes.pop("num_key_value_heads", None)
            sizes.pop("", None)
            made: dict[str, Any] = {**settings, **sizes}
            if is_decoder:
                made = {"max_position_embeddings": 64, "tie_word_embeddings": True, **made}
            if "head_dim" in made and size != "a":
                made["head_dim"] = 10
            if "query_pre_attn_scalar" in made:
                made["query_pre_attn_scalar"] = made["head_dim"]
            segments = model in ("BertModel", "AlbertModel")
            members.append(
                Pair(f"{model}_{size}", "keras-hub", f"keras-hub backbone, transformers {model}",
                     from_transformers(model, configuration, made),
                     backbone(as_published(configuration, made)),
                     tokens_and_segments if segments else tokens, last_state, sequence))
        yield f"hub_{model.removesuffix('Model').removesuffix('ForCausalLM').lower()}", members


def described_in_code() -> Iterator[tuple[str, list[Pair]]]:
    """keras-hub's backbones whose arguments are given by hand."""
    def sizes_of(size: str) -> tuple[dict[str, Any], dict[str, Any]]:
        layers, width, heads, _, inner, vocabulary = SIZES[size]
        return ({
            "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": inner, "max_position_embeddings": 40
        }, {
            "vocabulary_size": vocabulary, "num_layers": layers, "num_heads": heads,
            "hidden_dim": width, "intermediate_dim": inner
        })

    found: dict[str, list[Pair]] = {}
    for size in "abd":
        one, other = sizes_of(size)
        bloom = {
            "vocab_size": one["vocab_size"], "hidden_size": one["hidden_size"],
            "n_layer": one["num_hidden_layers"], "n_head": one["num_attention_heads"]
        }
        longest = {"max_sequence_length": 40}
        for name, model, configuration, settings, options in ((
                "Bloom", "BloomModel", "BloomConfig", bloom,
            {**other, "intermediate_dim": 4 * other["hidden_dim"]}
        ), ("OPT", "OPTModel", "OPTConfig",
            {**one, "ffn_dim": one["intermediate_size"], "word_embed_proj_dim": one["hidden_size"]},
            {**other,
             **longest}), ("GPTNeoX", "GPTNeoXModel", "GPTNeoXConfig", {**one, "rotary_pct": 0.25},
                           {**other, **longest, "rotary_percentage": 0.25})):
            if name == "GPTNeoX" and size != "a":
                settings["rotary_pct"] = options["rotary_percentage"] = 0.4
            found.setdefault(name, []).append(
                Pair(f"{model}_{size}", "keras-hub", f"keras-hub {name}, transformers {model}",
                     from_transformers(model, configuration, settings),
                     backbone_of(f"{name}Backbone", options), tokens, last_state, sequence))
    yield from ((f"hub_{name.lower()}", members) for name, members in found.items())


def two_sides(seed: int) -> tuple[Any, Any]:
    """Token ids for an encoder and a decoder."""
    ids = np.random.default_rng(seed).integers(5, 60, (1, 9))
    inputs = {}
    for side in ("encoder", "decoder"):
        inputs[f"{side}_token_ids"] = ids.astype("int32")
        inputs[f"{side}_padding_mask"] = np.ones(ids.shape, "int32")
    return ids, inputs


def run_two_sides(module: Any, ids: Any) -> Any:
    """The decoder's output, the same ids on both sides."""
    ids = tensors(ids)
    return module(input_ids=ids, decoder_input_ids=ids).last_hidden_state


def decoder_output(model: Any, inputs: Any) -> Any:
    """The same of keras-hub."""
    return model(inputs, training=False)["decoder_sequence_output"]


def encoder_decoders() -> Iterator[tuple[str, list[Pair]]]:
    """BART, T5 and Whisper."""
    found: dict[str, list[Pair]] = {"bart": [], "t5": [], "whisper": []}
    for size in "abd":
        layers, width, heads, _, inner, vocabulary = SIZES[size]
        both = {
            "d_model": width, "encoder_layers": layers, "decoder_layers": layers,
            "encoder_attention_heads": heads, "decoder_attention_heads": heads,
            "encoder_ffn_dim": inner, "decoder_ffn_dim": inner, "vocab_size": vocabulary
        }
        hub = {
            "vocabulary_size": vocabulary, "num_layers": layers, "num_heads": heads,
            "hidden_dim": width, "intermediate_dim": inner
        }
        found["bart"].append(
            Pair(
                f"BartModel_{size}", "keras-hub", "keras-hub BART, transformers BartModel",
                from_transformers("BartModel", "BartConfig",
                                  {**both, "max_position_embeddings": 40}),
                backbone_of("BartBackbone", {**hub, "max_sequence_length": 40}), two_sides,
                run_two_sides, decoder_output))
        found["t5"].append(
            Pair(
                f"T5Model_{size}", "keras-hub", "keras-hub T5, transformers T5Model",
                from_transformers(
                    "T5Model", "T5Config", {
                        "vocab_size": vocabulary, "d_model": width, "d_kv": width // heads,
                        "d_ff": inner, "num_layers": layers, "num_heads": heads,
                        "feed_forward_proj": "relu"
                    }),
                backbone_of(
                    "T5Backbone", {
                        **hub, "key_value_dim": width // heads, "activation": "relu",
                        "use_gated_activation": False
                    }), two_sides, run_two_sides, decoder_output))
        found["whisper"].append(
            Pair(
                f"WhisperModel_{size}", "keras-hub", "keras-hub Whisper, transformers Whisper",
                from_transformers(
                    "WhisperModel", "WhisperConfig", {
                        **both, "num_mel_bins": 10, "max_source_positions":
                            12, "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1,
                        "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None,
                        "begin_suppress_tokens": None
                    }),
                backbone_of(
                    "WhisperBackbone", {
                        **hub, "num_mels": 10, "max_encoder_sequence_length": 24,
                        "max_decoder_sequence_length": 16
                    }), spoken, run_spoken, decoder_output))
    yield from ((f"hub_{name}", members) for name, members in found.items())


def spoken(seed: int) -> tuple[Any, Any]:
    """A spectrogram and ids of text."""
    draw = np.random.default_rng(seed)
    sound = draw.uniform(-1, 1, (1, 24, 10)).astype("float32")
    ids = draw.integers(5, 60, (1, 7))
    return ({"input_features": np.ascontiguousarray(sound.transpose(0, 2, 1)), "ids": ids},
            {"encoder_features": sound, "decoder_token_ids": ids.astype("int32"),
             "decoder_padding_mask": np.ones(ids.shape, "int32")})  # yapf: disable


def run_spoken(module: Any, inputs: Any) -> Any:
    """The decoder's output."""
    return module(input_features=tensors(inputs["input_features"]),
                  decoder_input_ids=tensors(inputs["ids"])).last_hidden_state


def vision_families() -> Iterator[tuple[str, list[Pair]]]:
    """keras-hub's vision transformers."""
    found: dict[str, list[Pair]] = {}
    for size in "abd":
        layers, width, heads, _, inner, _ = SIZES[size]
        usual = {
            "image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_size": width,
            "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner
        }
        dino = {key: value for key, value in usual.items() if key != "intermediate_size"}
        dino["mlp_ratio"] = 2
        stages = {"a": [2, 2], "b": [2, 4], "d": [1, 3, 2]}[size]
        # Its rotary positions want a head size that is a multiple of four.
        dinov3 = {**usual, "hidden_size": 8 * heads, "num_register_tokens": 2}
        swin = {
            "image_size": 64, "patch_size": 4, "embed_dim": {"a": 16, "b": 24, "d": 12}[size],
            "depths": stages, "num_heads": [2, 4, 6][:len(stages)], "window_size": 4
        }
        for model, configuration, side, settings in (("ViTModel", "ViTConfig", 32, usual),
                                                     ("DeiTModel", "DeiTConfig", 32, usual),
                                                     ("Dinov2Model", "Dinov2Config", 32,
                                                      dino), ("Dinov2WithRegistersModel",
                                                              "Dinov2WithRegistersConfig", 32,
                                                              {**dino, "num_register_tokens": 2}),
                                                     ("DINOv3ViTModel", "DINOv3ViTConfig", 32,
                                                      dinov3), ("SwinModel", "SwinConfig", 64,
                                                                swin)):
            found.setdefault(model, []).append(
                Pair(f"{model}_{size}", "keras-hub", f"keras-hub backbone, transformers {model}",
                     from_transformers(model, configuration, settings),
                     backbone(as_published(configuration, settings)), pictures(side), last_state,
                     sequence))
    yield from (
        (f"hub_{name.removesuffix('Model').lower()}", members) for name, members in found.items())


# Families among the pairs of registry.py, each name with what the names of its members begin with.
LISTED = """
kimm_resnet: 18 34 50; kimm_regnet: x002 y002 x004 y004; kimm_convnext: atto tiny femto;
kimm_convmixer: 736d32 1024d20; kimm_densenet: 121 169; kimm_efficientnetb: 0 1 2;
kimm_efficientnetlite: b0 b1; kimm_efficientnetv2: b0 b1 s; kimm_tinynet: e c a; kimm_ghostnetw:
050 100; kimm_ghostnetv3w: 050 100; kimm_hgnetv2: b0 b1 b4; kimm_lcnet: 035 050 100;
kimm_mobilenetv2: w050 w100 w110; kimm_mobilenetv3w: 050small 100small 100large;
kimm_mobilenetv3w100: smallminimal largeminimal; kimm_mobileones: 0 1; kimm_mobilevit: xxs xs s;
kimm_mobilevitv2w: 050 100; kimm_repvgg: a0 b0; kimm_vgg: 11 13; kimm_visiontransformer: tiny32
small32 tiny16; applications_convnext: tiny small; applications_densenet: 121 169;
applications_efficientnetb: 0 1 2; applications_efficientnetv2: b0 b1 s;
applications_mobilenetv3: small large; hub_timm_resnet: 18 26 50; hub_timm_vgg: 11 16;
hub_timm_densenet: 121 169; hub_timm_mobilenetv3_: small_050 small_100 large_100;
hub_timm_efficientnet_b: 0 1; hub_timm_hgnetv2_: b0 b4; hub_timm_dark: net53
"""


def listed_families() -> Iterator[tuple[str, list[Pair]]]:
    """Families of registry.py."""
    for entry in LISTED.replace("\n", " ").split(";"):
        name, _, endings = entry.strip().partition(": ")
        members = [PAIRS[name + ending] for ending in endings.split() if name + ending in PAIRS]
        if len(members) > 1:
            yield name, members


FAMILIES = dict((*transformer_families(), *described_in_code(), *vision_families(),
                 *encoder_decoders(), *listed_families()))
