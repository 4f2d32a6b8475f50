"""Attention: query, key, value and output as PyTorch keeps them, fused or apart, against Keras's
one dense layer for each.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from tests.helpers.conversion import EQUAL, convert_by_hand, named, random_input, relative
from tests.helpers.transfer import composite, layer, moved, source_of
from tests.rules.test_layer import counted

WIDTH, HEADS, HEAD = 12, 3, 4


def keras_attention(bias=True, widths=(WIDTH, WIDTH, WIDTH), **options):
    """A model of query, value and key, which is one MultiHeadAttention called "attn"."""
    import keras

    query, key, value = (keras.Input((None, width)) for width in widths)
    attention = keras.layers.MultiHeadAttention(HEADS, HEAD, use_bias=bias, name="attn", **options)
    return keras.Model([query, key, value], attention(query, value, key))


def run(module, query, key, value):
    import torch

    with torch.no_grad():
        return module(query, key, value, need_weights=False)[0]


def by_linear_layers(query, key, value, queries, keys, values, output, groups=1):
    """Attention written out, with `groups` query heads to a key head."""
    import torch

    def heads(x):
        return x.unflatten(-1, (-1, HEAD)).transpose(1, 2)

    with torch.no_grad():
        q, k, v = heads(query(queries)), heads(key(keys)), heads(value(values))
        k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return output(mixed.transpose(1, 2).flatten(2))


def inputs(widths=(WIDTH, WIDTH, WIDTH)):
    query = random_input(2, 5, widths[0])
    return query, random_input(2, 7, widths[1], seed=4), random_input(2, 7, widths[2], seed=5)


def test_key_and_value_exchanged_give_other_outputs():
    import torch
    from torch import nn

    module, model = named(
        attn=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)), keras_attention()
    state = module.state_dict()
    query, key, value = state["attn.in_proj_weight"].chunk(3)
    exchanged = {**state, "attn.in_proj_weight": torch.cat([query, value, key])}

    convert_by_hand(exchanged, model, {"attn": ["attn", "attn.out_proj"]})

    given = inputs()
    assert relative(model([x.numpy() for x in given]), run(module["attn"], *given)) > 1e-2


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
def test_what_keras_attention_cannot_hold_is_refused(options):
    from torch import nn

    module = named(attn=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options))

    with pytest.raises(TransferError, match=next(iter(options))):
        convert_by_hand(module, keras_attention(), {"attn": ["attn", "attn.out_proj"]})


def test_attention_without_its_output_layer_says_what_is_missing():
    from torch import nn

    module = named(attn=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))

    with pytest.raises(TransferError, match=r"no weight for attention_output.*'attn.out_proj'"):
        convert_by_hand(module, keras_attention(), {"attn": "attn"}, skip_layers=["attn.out_proj"])


@pytest.mark.parametrize("names", [("q_proj", "k_proj", "v_proj", "out_proj"),
                                   ("out_proj", "v_proj", "q_proj", "k_proj"),
                                   ("first", "second", "third", "fourth")], ids=str)
def test_four_linear_layers_are_told_by_their_names_or_taken_in_order(names):
    from torch import nn

    module = named(**{name: nn.Linear(WIDTH, WIDTH) for name in names})
    model = keras_attention()

    convert_by_hand(module, model, {"attn": list(names)})

    parts = dict(
        zip(("query", "key", "value", "output"),
            sorted(names, key=("q_proj", "k_proj", "v_proj", "out_proj", *names).index),
            strict=True))
    given = inputs()
    expected = by_linear_layers(*(module[parts[part]] for part in ("query", "key", "value")),
                                *given, module[parts["output"]])
    assert relative(model([x.numpy() for x in given]), expected) < EQUAL


@pytest.mark.parametrize("interleaved", [False, True])
def test_one_linear_layer_for_query_key_and_value_by_blocks_or_by_heads(interleaved):
    import torch
    from torch import nn

    name = "query_key_value" if interleaved else "qkv"
    module, model = named(
        **{name: nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)}), keras_attention()

    report = convert_by_hand(module, model, {"attn": [name, "proj"]})

    x = random_input(2, 5, WIDTH)
    with torch.no_grad():
        fused = module[name](x)
        cut = fused.unflatten(-1, (HEADS, 3, HEAD)).unbind(-2) if interleaved else fused.unflatten(
            -1, (3, HEADS, HEAD)).unbind(-3)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in cut))
        expected = module["proj"](mixed.transpose(1, 2).flatten(2))
    assert relative(model([x.numpy()] * 3), expected) < EQUAL
    assert any("only equal outputs can prove it" in warning for warning in report.warnings)


def test_a_key_without_bias_among_others_with_one_gets_zeros():
    children = [
        layer("query", "EinsumDense", {"kernel": (4, 2, 2), "bias": (2, 2)},
              equation="abc,cde->abde"),
        layer("key", "EinsumDense", {"kernel": (4, 2, 2), "bias": (2, 2)},
              equation="abc,cde->abde"),
        layer("value", "EinsumDense", {"kernel": (4, 2, 2), "bias": (2, 2)},
              equation="abc,cde->abde"),
        layer("attention_output", "EinsumDense", {"kernel": (2, 2, 4), "bias": (4,)},
              equation="abcd,cde->abe")
    ]
    from keras_torch_convert.plan.expressions import Fill
    from keras_torch_convert.rules import assign_layer
    from keras_torch_convert.spec.layer_groups import TorchLayer

    source = source_of({
        "attn.q_bias": counted(4), "attn.v_bias": counted(4), "attn.qkv.weight": counted(12, 4),
        "attn.proj.weight": counted(4, 4), "attn.proj.bias": counted(4)
    })

    assignments = assign_layer(TorchLayer("attn", tuple(source.tensors.values())),
                               composite("attn", "MultiHeadAttention", *children))

    key_bias = next(one for one in assignments if one.key == "key/1")
    assert "no bias for key" in key_bias.rule
    assert Fill(0.0, (4,)) == getattr(key_bias.expression, "operand", key_bias.expression)


@pytest.mark.parametrize("fused", [True, False])
def test_pairing_by_order_joins_what_belongs_to_one_keras_layer(fused):
    import keras
    from torch import nn

    def block():
        if fused:
            return nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        return nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})

    module = named(embed=nn.Linear(WIDTH, WIDTH), attn=block(), attn2=block(),
                   head=nn.Linear(WIDTH, 5))
    L = keras.layers
    x = inputs = keras.Input((6, WIDTH))
    x = L.Dense(WIDTH, name="embed")(x)
    for name in ("attn", "attn2"):
        x = L.MultiHeadAttention(HEADS, HEAD, name=name)(x, x)
    model = keras.Model(inputs, L.Dense(5, name="head")(x))

    report = ktc.keras_reload_from_torch_model(module, model, save_name="", do_predict=False,
                                               verbose=0)

    last = "out_proj" if fused else "proj"
    output = model.get_layer("attn2").get_weights()[6].reshape(WIDTH, WIDTH)
    np.testing.assert_array_equal(output, module.state_dict()[f"attn2.{last}.weight"].numpy().T)
    assert {pair[1] for pair in report.plan.pairs} == {"embed", "attn", "attn2", "head"}


@pytest.mark.parametrize(("equation", "kernel", "bias", "shape"),
                         [("abc,cde->abde", (6, 2, 3), (2, 3), (6, 6)),
                          ("abcd,cde->abe", (2, 3, 5), (5,), (5, 6)),
                          ("btd,ndh->btnh", (2, 6, 3), (2, 3), (6, 6)),
                          ("btnh,nhd->btd", (2, 3, 5), (5,), (5, 6)),
                          ("...x,xy->...y", (6, 5), (5,), (5, 6)),
                          ("bqm,muh->bquh", (6, 2, 3), (2, 3), (6, 6))], ids=str)
def test_einsum_dense_of_any_matrix_product_is_a_linear_layer(equation, kernel, bias, shape):
    weight, offset = counted(*shape), counted(shape[0])
    einsum = layer("dense", "EinsumDense", {"kernel": kernel, "bias": bias}, equation=equation)

    result = moved(source_of({"l.weight": weight, "l.bias": offset}), einsum)

    data = np.random.default_rng(0).standard_normal((2, 4, shape[1]))
    letters, output = equation.split(",")[0].replace("...", "ab"), equation.split("->")[1].replace(
        "...", "ab")
    summed = [letter for letter in letters if letter not in output]
    sizes = dict(zip(equation.split(",")[1].split("->")[0], kernel, strict=True))
    spread = data.reshape(2, 4, *(sizes[letter] for letter in summed))
    got = np.einsum(f"{letters},{equation.split(',')[1].split('->')[0]}->{output}", spread,
                    result["kernel"]) + result["bias"]
    np.testing.assert_allclose(got.reshape(2, 4, -1), data @ weight.T + offset)


@pytest.mark.parametrize("equation", ["abc,bcd->abd", "abc,cd->abcd"])
def test_an_equation_whose_kernel_changes_along_the_input_is_refused(equation):
    einsum = layer("dense", "EinsumDense", {"kernel": (4, 4)}, equation=equation)

    with pytest.raises(TransferError, match="no rule"):
        moved(source_of({"l.weight": counted(4, 4)}), einsum)
