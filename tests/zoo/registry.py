"""Pairs of one architecture that nobody prepared for each other: Keras models from PyPI and the
PyTorch models that they were written after.

Each is built with fresh weights, nothing is downloaded. A pair runs in a process of its own, since
the environment must be set before Keras is imported (`Pair.environment` in pair.py); see run.py.
Subclassed Keras models with packages of their own are in ports.py.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pair import Pair, from_timm, pictures, tensors
from ports import port_pairs


def from_torchvision(name: str) -> Callable[[], Any]:
    """A torchvision model."""
    def build() -> Any:
        import torchvision

        return getattr(torchvision.models, name)(weights=None)

    return build


def from_keras(path: str, side: int, **options: Any) -> Callable[[], Any]:
    """A class or function that builds a Keras model of logits for pictures of a size."""
    def build() -> Any:
        module, name = path.rsplit(".", 1)
        made = getattr(importlib.import_module(module), name)
        return made(input_shape=(side, side, 3), classifier_activation=None, **options)

    return build


KIMM = """
ResNet18 resnet18, ResNet34 resnet34, ResNet50 resnet50, ResNet101 resnet101, ConvMixer736D32
convmixer_768_32, ConvMixer1024D20 convmixer_1024_20_ks9_p14 112, ConvNeXtAtto convnext_atto,
ConvNeXtFemto convnext_femto, ConvNeXtPico convnext_pico, ConvNeXtNano convnext_nano, ConvNeXtTiny
convnext_tiny, DenseNet121 densenet121, DenseNet169 densenet169, DenseNet201 densenet201,
EfficientNetB0 tf_efficientnet_b0, EfficientNetB1 tf_efficientnet_b1, EfficientNetB2
tf_efficientnet_b2, EfficientNetLiteB0 tf_efficientnet_lite0, EfficientNetLiteB1
tf_efficientnet_lite1, EfficientNetV2B0 tf_efficientnetv2_b0, EfficientNetV2B1
tf_efficientnetv2_b1, EfficientNetV2S tf_efficientnetv2_s, TinyNetA tinynet_a, TinyNetC tinynet_c,
TinyNetE tinynet_e, GhostNetW050 ghostnet_050, GhostNetW100 ghostnet_100, GhostNetV2W100
ghostnetv2_100, GhostNetV3W050 ghostnetv3_050, GhostNetV3W100 ghostnetv3_100, HGNetTiny
hgnet_tiny, HGNetV2B0 hgnetv2_b0, HGNetV2B1 hgnetv2_b1, HGNetV2B4 hgnetv2_b4, InceptionNeXtTiny
inception_next_tiny, InceptionV3 inception_v3 96, Xception legacy_xception 96, LCNet035 lcnet_035,
LCNet050 lcnet_050, LCNet100 lcnet_100, MobileNetV2W050 mobilenetv2_050, MobileNetV2W100
mobilenetv2_100, MobileNetV2W110 mobilenetv2_110d, MobileNetV3W050Small mobilenetv3_small_050,
MobileNetV3W100Small mobilenetv3_small_100, MobileNetV3W100Large mobilenetv3_large_100,
MobileNetV3W100SmallMinimal tf_mobilenetv3_small_minimal_100, MobileNetV3W100LargeMinimal
tf_mobilenetv3_large_minimal_100, MobileOneS0 mobileone_s0, MobileOneS1 mobileone_s1, MobileViTXXS
mobilevit_xxs, MobileViTXS mobilevit_xs, MobileViTS mobilevit_s, MobileViTV2W050 mobilevitv2_050,
MobileViTV2W100 mobilevitv2_100, RegNetX002 regnetx_002, RegNetX004 regnetx_004, RegNetY002
regnety_002, RegNetY004 regnety_004, RegNetY008 regnety_008, RepVGGA0 repvgg_a0, RepVGGB0
repvgg_b0, VGG11 vgg11 224, VGG13 vgg13 224, VisionTransformerTiny16 vit_tiny_patch16_224 224,
VisionTransformerTiny32 vit_tiny_patch16_224 224, VisionTransformerSmall32 vit_small_patch32_224
224
"""
KIMM_OPTIONS: dict[str, dict[str, Any]] = {
    "Xception": {"epsilon": 1e-3}, "VisionTransformerTiny32": {"patch_size": 32}
}

KECAM = """
aotnet.AotNet50 resnet50 64, resnet_family.ResNeXt50 resnext50_32x4d 64, halonet.HaloNet26T
halonet26t 256, beit.BeitBasePatch16 beit_base_patch16_224 224, beit.ViTTinyPatch16
vit_tiny_patch16_224 224, convnext.ConvNeXtTiny convnext_tiny 64, efficientnet.EfficientNetV2B0
tf_efficientnetv2_b0 64, mlp_family.MLPMixerS32 mixer_s32_224 224,
mobilenetv3_family.MobileNetV3Large100 mobilenetv3_large_100 64, resnest.ResNest50 resnest50d 64,
hiera.HieraTiny hiera_tiny_224 224, resnet_family.RegNetZB16 regnetz_b16 64,
efficientvit.EfficientViT_B0 efficientvit_b0 64, fastvit.FastViT_T8 fastvit_t8 64, pvt.PVT_V2B0
pvt_v2_b0 64, edgenext.EdgeNeXt_Small edgenext_small 64, fasternet.FasterNetT0 fasternet_t0 64,
swin_transformer_v2.SwinTransformerV2Tiny_ns swinv2_cr_tiny_ns_224 224
"""

# Those that normalize their inputs themselves do it to values up to 255.
WITHIN = {"include_preprocessing": False}
# InceptionV3 averages its pools in other ways: timm counts the padding, Keras does not. Xception
# pads pools of even maps on both sides in timm and behind the map in Keras; its maps are odd, and
# the pair equal, with pictures of 103.
APPLICATIONS: tuple[tuple[str, Callable[[], Any], int, dict[str, Any], float],
                    ...] = (("ConvNeXtTiny", from_timm("convnext_tiny"), 64, WITHIN,
                             1), ("ConvNeXtSmall", from_timm("convnext_small"), 64, WITHIN,
                                  1), ("DenseNet121", from_timm("densenet121"), 64, {},
                                       1), ("DenseNet169", from_timm("densenet169"), 64, {}, 1),
                            ("DenseNet201", from_timm("densenet201"), 64, {},
                             1), ("EfficientNetB0", from_timm("tf_efficientnet_b0"), 64, {}, 255),
                            ("EfficientNetB1", from_timm("tf_efficientnet_b1"), 64, {},
                             255), ("EfficientNetB2", from_timm("tf_efficientnet_b2"), 64, {}, 255),
                            ("EfficientNetV2B0", from_timm("tf_efficientnetv2_b0"), 64, WITHIN,
                             1), ("EfficientNetV2B1", from_timm("tf_efficientnetv2_b1"), 64, WITHIN,
                                  1), ("EfficientNetV2S", from_timm("tf_efficientnetv2_s"), 64,
                                       WITHIN, 1), ("MobileNetV2",
                                                    from_timm("mobilenetv2_100", pad_type="same",
                                                              bn_eps=1e-3), 64, {}, 1),
                            ("MobileNetV3Small", from_timm("tf_mobilenetv3_small_100"), 64, WITHIN,
                             1), ("MobileNetV3Large", from_timm("tf_mobilenetv3_large_100"), 64,
                                  WITHIN, 1), ("InceptionV3",
                                               from_timm("inception_v3",
                                                         unit_gains=True), 96, {}, 1),
                            ("InceptionResNetV2", from_timm("inception_resnet_v2", unit_gains=True),
                             96, {}, 1), ("Xception", from_timm("legacy_xception",
                                                                epsilon=1e-3), 96, {},
                                          1), ("VGG16", from_timm("vgg16"), 224, {},
                                               1), ("VGG16", from_torchvision("vgg16"), 224, {}, 1),
                            ("DenseNet121", from_torchvision("densenet121"), 64, {},
                             1), ("ConvNeXtTiny", from_torchvision("convnext_tiny"), 64, WITHIN, 1))


def listed(table: str) -> Iterator[tuple[str, str, int]]:
    """The entries of a table in text: Keras name, torch name, side of the pictures (64 when not
    said).
    """
    for entry in table.replace("\n", " ").split(","):
        keras_name, torch_name, *side = entry.split()
        yield keras_name, torch_name, int(side[0]) if side else 64


def pictures_pairs() -> Iterator[Pair]:
    """kimm, kecam and keras.applications."""
    for keras_name, torch_name, side in listed(KIMM):
        options = KIMM_OPTIONS.get(keras_name, {})
        yield Pair(
            f"kimm_{keras_name.lower()}", "kimm", f"kimm {keras_name}, timm {torch_name}",
            from_timm(torch_name, **options),
            from_keras(f"kimm.models.{keras_name}", side, include_preprocessing=False,
                       weights=None), pictures(side))
    for keras_name, torch_name, side in listed(KECAM):
        yield Pair(f"kecam_{keras_name.rsplit('.', 1)[1].lower()}", "kecam",
                   f"kecam {keras_name}, timm {torch_name}", from_timm(torch_name),
                   from_keras(f"keras_cv_attention_models.{keras_name}", side, pretrained=None),
                   pictures(side))
    for number, (keras_name, torch_model, side, options, scale) in enumerate(APPLICATIONS):
        where = "torchvision" if number >= len(APPLICATIONS) - 3 else "timm"
        yield Pair(
            f"applications_{keras_name.lower()}{'_torchvision' if where == 'torchvision' else ''}",
            "applications", f"keras.applications {keras_name}, {where}", torch_model,
            from_keras(f"keras.applications.{keras_name}", side, weights=None, **options),
            pictures(side, scale))


ENCODER = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 40
}
DECODER = {
    **ENCODER, "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": True
}
VISION = {
    "image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 64
}
DINO = {
    **{key: value for key, value in VISION.items() if key != "intermediate_size"}, "mlp_ratio": 2
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
# transformers model, its configuration, what the configuration says besides.
ENCODERS = (("BertModel", "BertConfig", ENCODER),
            ("AlbertModel", "AlbertConfig",
             {**ENCODER, "embedding_size": 16, "num_hidden_groups": 1,
              "inner_group_num": 1}), ("DistilBertModel", "DistilBertConfig", {
                  "vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64,
                  "max_position_embeddings": 40
              }), ("RobertaModel", "RobertaConfig", {**ENCODER, "pad_token_id": 1}),
            ("XLMRobertaModel", "XLMRobertaConfig",
             {**ENCODER, "pad_token_id": 1}), ("EsmModel", "EsmConfig", {
                 **ENCODER, "position_embedding_type": "rotary", "pad_token_id": 1,
                 "mask_token_id": 2
             }), ("GPT2Model", "GPT2Config",
                  {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}))
DECODERS = (("LlamaForCausalLM", "LlamaConfig",
             {"rms_norm_eps": 1e-6}), ("MistralForCausalLM", "MistralConfig", {
                 "sliding_window": 64, "tie_word_embeddings": False
             }), ("GemmaForCausalLM", "GemmaConfig", {
                 "head_dim": 8, "hidden_activation": "gelu_pytorch_tanh"
             }), ("Gemma2ForCausalLM", "Gemma2Config", {
                 "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64
             }), ("Gemma3ForCausalLM", "Gemma3TextConfig", {
                 "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64
             }), ("Qwen2ForCausalLM", "Qwen2Config", {}), ("Qwen3ForCausalLM", "Qwen3Config", {
                 "head_dim": 8
             }), ("MixtralForCausalLM", "MixtralConfig",
                  {"num_local_experts": 4,
                   "num_experts_per_tok": 2}), ("Qwen2MoeForCausalLM", "Qwen2MoeConfig",
                                                {**EXPERTS, "shared_expert_intermediate_size": 32}),
            ("Qwen3MoeForCausalLM", "Qwen3MoeConfig",
             {**EXPERTS, "head_dim": 8}), ("SmolLM3ForCausalLM", "SmolLM3Config", {
                 "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2
             }), ("GptOssForCausalLM", "GptOssConfig",
                  {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8}))
SIZES = {"vocabulary_size": 60, "num_layers": 2, "num_heads": 4, "hidden_dim": 32}
# Backbones that no config.json describes: transformers model, its configuration, what it says; the
# backbone and its arguments.
DESCRIBED_IN_CODE = (("BloomModel", "BloomConfig", {
    "vocab_size": 60, "hidden_size": 32, "n_layer": 2, "n_head": 4
}, "BloomBackbone", {**SIZES, "intermediate_dim": 128}), (
    "OPTModel", "OPTConfig", {**ENCODER, "ffn_dim": 64, "word_embed_proj_dim": 32}, "OPTBackbone",
    {**SIZES, "intermediate_dim": 64, "max_sequence_length": 40
    }), ("GPTNeoXModel", "GPTNeoXConfig", {**ENCODER, "rotary_pct": 0.25}, "GPTNeoXBackbone",
         {**SIZES, "intermediate_dim": 64, "rotary_percentage": 0.25, "max_sequence_length": 40}))
VISION_MODELS = (("ViTModel", "ViTConfig", 32, VISION), ("DeiTModel", "DeiTConfig", 32, VISION),
                 ("Dinov2Model", "Dinov2Config", 32,
                  DINO), ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", 32,
                          {**DINO, "num_register_tokens": 2}),
                 ("DINOv3ViTModel", "DINOv3ViTConfig", 32,
                  {**VISION, "num_register_tokens": 2}), ("SwinModel", "SwinConfig", 64, {
                      "image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [2, 2],
                      "num_heads": [2, 4], "window_size": 4
                  }))
TIMM_FEATURES = [
    "resnet18", "resnet26", "resnet50", "resnetv2_50", "vgg11", "vgg16", "densenet121",
    "densenet169", "mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv3_large_100",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_lite0", "efficientnet_es", "hgnetv2_b0",
    "hgnetv2_b4", "cspresnet50", "cspdarknet53", "darknet53"
]


def tokens(seed: int) -> tuple[Any, Any]:
    """Nine token ids; keras-hub's models take what each of them asks for."""
    ids = np.random.default_rng(seed).integers(5, 60, (1, 9))
    return ids, {"token_ids": ids.astype("int32"), "padding_mask": np.ones(ids.shape, "int32")}


def tokens_and_segments(seed: int) -> tuple[Any, Any]:
    """The same for models that tell sentences apart: all belong to the first."""
    ids, inputs = tokens(seed)
    return ids, {**inputs, "segment_ids": np.zeros(ids.shape, "int32")}


def last_state(module: Any, ids: Any) -> Any:
    """What comes out below all heads and poolers."""
    inner = module.model if hasattr(module, "lm_head") else module
    return inner(tensors(ids)).last_hidden_state


def sequence(model: Any, inputs: Any) -> Any:
    """The same of a backbone of keras-hub; of one that gives a map for each stage the last."""
    if isinstance(inputs, dict):
        # Of an input that a model does not ask for Keras takes the values for those of another.
        inputs = {name: inputs[name] for name in model.input}
    output = model(inputs, training=False)
    if not isinstance(output, dict):
        return output
    return output["sequence_output" if "sequence_output" in
                  output else max(output, key=lambda name: (name[-1:].isdigit(), name))]


def features(module: Any, picture: Any) -> Any:
    """A timm model's feature map."""
    return module.forward_features(tensors(picture))


def from_transformers(model: str, configuration: str, settings: dict[str,
                                                                     Any]) -> Callable[[], Any]:
    """A model of transformers with its plain attention."""
    def build() -> Any:
        import transformers

        made = getattr(transformers, configuration)(**settings)
        made._attn_implementation = "eager"
        return getattr(transformers, model)(made)

    return build


def backbone(described: Callable[[], dict[str, Any]], **options: Any) -> Callable[[], Any]:
    """keras-hub's backbone for what a config.json describes, without weights."""
    def build() -> Any:
        import keras_hub

        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(described()))
            return keras_hub.models.Backbone.from_preset(folder, load_weights=False, **options)

    return build


def backbone_of(name: str, options: dict[str, Any]) -> Callable[[], Any]:
    """A class of keras-hub's backbones with its arguments."""
    def build() -> Any:
        import keras_hub

        return getattr(keras_hub.models, name)(**options)

    return build


def as_published(configuration: str, settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """What stands in the config.json of such a model, names that the class translates included."""
    def describe() -> dict[str, Any]:
        import transformers

        return {**getattr(transformers, configuration)(**settings).to_dict(), **settings}

    return describe


def hub_pairs() -> Iterator[Pair]:
    """keras-hub's backbones, with transformers and timm."""
    settings: dict[str, Any]
    for model, configuration, settings in ENCODERS + tuple(
        (one, two, {**DECODER, **more}) for one, two, more in DECODERS):
        segments = model in ("BertModel", "AlbertModel")
        yield Pair(f"hub_{model.removesuffix('Model').removesuffix('ForCausalLM').lower()}",
                   "keras-hub", f"keras-hub backbone, transformers {model}",
                   from_transformers(model, configuration, settings),
                   backbone(as_published(configuration, settings)),
                   tokens_and_segments if segments else tokens, last_state, sequence)
    for model, configuration, settings, name, options in DESCRIBED_IN_CODE:
        yield Pair(f"hub_{model.removesuffix('Model').lower()}", "keras-hub",
                   f"keras-hub {name}, transformers {model}",
                   from_transformers(model, configuration, settings), backbone_of(name, options),
                   tokens, last_state, sequence)
    for model, configuration, side, settings in VISION_MODELS:
        yield Pair(f"hub_{model.removesuffix('Model').lower()}", "keras-hub",
                   f"keras-hub backbone, transformers {model}",
                   from_transformers(model, configuration, settings),
                   backbone(as_published(configuration,
                                         settings)), pictures(side), last_state, sequence)
    for name in TIMM_FEATURES:
        described = {
            "architecture": name, "num_classes": 1000, "num_features": 1, "pretrained_cfg": {}
        }
        yield Pair(f"hub_timm_{name}", "keras-hub", f"keras-hub backbone, timm {name}",
                   from_timm(name),
                   backbone(lambda described=described: described, image_shape=(64, 64, 3)),
                   pictures(64), features, sequence)


PAIRS = {pair.name: pair for pair in (*pictures_pairs(), *hub_pairs(), *port_pairs())}
# Small ones of every kind: chosen for being quick, and each for another rule.
QUICK = ("kimm_mobilenetv3w050small", "kimm_convnextatto", "kimm_mobilevitxxs", "kecam_aotnet50",
         "kecam_vittinypatch16", "applications_efficientnetb0", "hub_xlmroberta", "hub_mixtral")
