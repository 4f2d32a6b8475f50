"""Alignment from a checkpoint alone: what it finds, what it says of it, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError, TransferError
from tests.helpers.small_models import (keras_two_branches, largest_difference, randomized,
                                        same_values, torch_two_branches, values)


def two_branches() -> tuple[Any, Any]:
    """A net whose shortcut stands elsewhere in Keras, so that order alone is wrong."""
    import keras

    return torch_two_branches(), keras_two_branches(keras)


def test_a_state_dict_finds_its_layers_by_shapes_names_and_order():
    module, model = two_branches()

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    assert largest_difference(module, model) < 1e-5
    assert report.complete
    assert report.equal is None


def test_each_weight_is_marked_unproven_with_its_confidence():
    module, model = two_branches()

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    labels = {entry.name for entry in report.ledger if entry.side == "target"}
    assert set(report.confidence) == labels
    assert all(0.5 <= value < 1 for value in report.confidence.values())
    marked = [entry for entry in report.ledger if "unproven, confidence" in entry.rule]
    assert {entry.name for entry in marked} == labels
    assert "unproven" in report.alignment
    assert report.to_dict()["confidence"] == dict(report.confidence)
    assert all(assignment.doubt for assignment in report.plan.assignments)


def test_the_only_layer_of_its_shape_is_surer_than_one_of_many():
    module, model = two_branches()

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    assert report.confidence["predictions/kernel"] > report.confidence[
        "stack1_block1_1_conv/kernel"]


def test_explain_gives_candidates_and_the_parts_of_the_confidence():
    module, model = two_branches()
    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    words = report.explain("stack1_block1_1_conv/kernel")

    assert words.startswith("from block1.conv1.weight (")
    assert "4 torch layers fit by kind and shape" in words
    assert "names alike" in words
    assert report.explain("stack1_block1_1_conv").startswith(
        "paired with 'block1.conv1', unproven, confidence")


def test_a_checkpoint_sorted_by_name_is_aligned_all_the_same(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    module, model = two_branches()
    safetensors.save_file(module.state_dict(), tmp_path / "net.safetensors")

    ktc.convert(tmp_path / "net.safetensors", model, accept_unproven=True)

    assert largest_difference(module, model) < 1e-5


def test_without_consent_the_proposal_is_shown_and_nothing_written():
    module, model = two_branches()
    before = values(model)

    for refused in (ktc.align, ktc.convert):
        with pytest.raises(AlignmentError, match="accept_unproven=True") as caught:
            refused(module.state_dict(), model)
        assert "stack1_block1_1_conv <- block1.conv1 (" in str(caught.value)

    assert same_values(before, values(model))


def test_align_gives_the_plan_that_convert_applies():
    module, model = two_branches()

    plan = ktc.align(module.state_dict(), model, accept_unproven=True)
    report = ktc.convert(module.state_dict(), model, plan=plan)

    assert report.plan == plan
    assert largest_difference(module, model) < 1e-5


def test_the_same_models_give_the_same_plan():
    module, model = two_branches()

    plans = [ktc.align(module.state_dict(), model, accept_unproven=True) for _ in range(2)]

    assert plans[0] == plans[1]


def test_a_hint_decides_and_is_checked():
    module, model = two_branches()
    state = module.state_dict()

    plan = ktc.align(state, model, accept_unproven=True,
                     hints={"stack1_block1_1_conv": "block2.conv1"})

    assert ("block2.conv1", "stack1_block1_1_conv") in plan.pairs
    message = "no layer or variable 'stack1_block1_1_cov'; did you mean 'stack1_block1_1_conv'"
    with pytest.raises(AlignmentError, match=message):
        ktc.align(state, model, accept_unproven=True, hints={"stack1_block1_1_cov": "block2.conv1"})
    with pytest.raises(AlignmentError, match=r"no layer or tensor 'block3\.conv1'"):
        ktc.align(state, model, accept_unproven=True,
                  hints={"stack1_block1_1_conv": "block3.conv1"})
    with pytest.raises(AlignmentError,
                       match=r"'head' does not fit 'stack1_block1_1_conv' \(Conv2D\)"):
        ktc.align(state, model, accept_unproven=True, hints={"stack1_block1_1_conv": "head"})


def test_a_layer_that_no_tensor_fits_is_named():
    module, model = two_branches()
    state = {
        name: tensor for name, tensor in module.state_dict().items() if not name.startswith("head")
    }
    before = values(model)

    with pytest.raises(AlignmentError, match=r"1 find none: 'predictions' \[\(8, 10\), \(10,\)\]"):
        ktc.convert(state, model, accept_unproven=True)
    assert same_values(before, values(model))

    report = ktc.convert(state, model, accept_unproven=True, strict=False)
    assert [entry.name for entry in report.ledger if entry.status == "unset"
           ] == ["predictions/kernel", "predictions/bias"]


def test_a_tensor_without_a_place_is_refused_unless_that_is_allowed():
    module, model = two_branches()
    state = module.state_dict() | {"extra.weight": module.state_dict()["stem.weight"][:, :, :2, :2]}

    with pytest.raises(TransferError, match=r"extra\.weight"):
        ktc.convert(state, model, accept_unproven=True)
    report = ktc.convert(state, model, accept_unproven=True, strict="target")

    assert [entry.name for entry in report.ledger if entry.status == "left over"
           ] == ["extra.weight"]


def test_raw_vectors_of_a_block_are_no_norm():
    import keras
    import torch

    inputs = keras.Input((4,))
    scaled = keras.layers.LayerNormalization(name="norm")(inputs)
    model = keras.Model(inputs, scaled)
    state = {"block.gamma_1": torch.ones(4), "block.gamma_2": torch.zeros(4)}

    with pytest.raises(AlignmentError, match="1 find none: 'norm'"):
        ktc.convert(state, model, accept_unproven=True)


@pytest.mark.parametrize("fused", [False, True])
def test_query_key_and_value_are_cut_out_of_a_fused_layer(fused):
    import torch

    from tests.helpers.running_pairs import attention_pair

    module, model = attention_pair(fused)

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    inputs = torch.randn(2, 5, 8)
    with torch.no_grad():
        np.testing.assert_allclose(module(inputs), model(inputs), atol=1e-5)
    assert (report.confidence["attention/query/kernel"] > 0.8) is not fused


def test_query_key_and_value_are_joined_for_a_fused_keras_layer():
    import keras
    import torch

    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, keras.layers.Dense(24, name="attn_qkv")(inputs))
    state = {
        f"attn.{name}.{part}": torch.randn(shape) for name in ("k", "q", "v")
        for part, shape in (("weight", (8, 8)), ("bias", (8,)))
    }

    ktc.convert(state, model, accept_unproven=True)

    expected = np.concatenate([state[f"attn.{name}.weight"].numpy().T for name in "qkv"], axis=1)
    np.testing.assert_array_equal(model.get_weights()[0], expected)


def only_weights(module: Any, model: Any, **options: Any) -> Any:
    """The report of a conversion that gets nothing but the state dict."""
    return ktc.convert(module.state_dict(), model, accept_unproven=True, **options)


def flattening_net() -> Any:
    """A convolution whose map is flattened before a linear layer."""
    from torch import nn

    return randomized(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)))


def hidden_in_a_lambda(keras: Any) -> Any:
    layers = keras.layers
    flatten = layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 144)), output_shape=(144,))
    return keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(4, 3, activation="relu"), flatten,
        layers.Dense(5, name="head")
    ])


def hidden_in_a_subclass(keras: Any) -> Any:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
            self.head = keras.layers.Dense(5, name="head")

        def call(self, x: Any) -> Any:
            return self.head(keras.ops.reshape(self.conv(x), (-1, 144)))

    model = Net()
    model(keras.ops.ones((1, 8, 8, 1)))
    return model


@pytest.mark.parametrize("build", [hidden_in_a_lambda, hidden_in_a_subclass])
def test_a_flatten_that_the_graph_does_not_show_is_never_called_sure(build):
    import keras

    report = only_weights(flattening_net(), build(keras))

    kernel, = (name for name in report.confidence if name.endswith("head/kernel"))
    bias, = (name for name in report.confidence if name.endswith("head/bias"))
    assert report.confidence[kernel] <= 0.5 < report.confidence[bias]
    assert "may flatten a map before it, which the Keras graph does not show" in report.explain(
        kernel)


def test_a_subclass_without_a_flatten_stays_sure():
    import keras
    from torch import nn

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, activation="relu")
            self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
            self.head = keras.layers.Dense(5, name="head")

        def call(self, x: Any) -> Any:
            return self.head(self.hidden(keras.ops.mean(self.conv(x), (1, 2))))

    model = Net()
    model(keras.ops.ones((1, 8, 8, 1)))
    module = randomized(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 8), nn.Linear(8, 5)))

    report = only_weights(module, model)

    assert all(value > 0.5 for value in report.confidence.values())


@pytest.mark.parametrize("counted_before", [0, 5])
def test_norms_in_order_on_both_sides_are_paired_in_order(counted_before):
    import keras
    from torch import nn

    layers = keras.layers
    for _ in range(counted_before):  # moves the numbers of automatic names on
        assert [layers.LayerNormalization(), layers.MultiHeadAttention(1, 1), layers.Dense(1)]
    inputs = x = keras.Input((6, 16))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 4)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.Add()([x, layers.Dense(16)(layers.Dense(32, activation="gelu")(y))])
    model = keras.Model(inputs, x)
    # Registered after the linear layers, called before them.
    layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True,
                                       norm_first=True)
    module = randomized(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))

    only_weights(module, model)

    assert difference_on(module, model, (6, 16)) < 1e-5


def difference_on(module: Any, model: Any, shape: tuple[int, ...]) -> float:
    import torch

    x = np.random.default_rng(0).standard_normal((3, *shape)).astype("float32")
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    return float(np.abs(np.asarray(model(x).detach()) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_module_of_several_recurrent_layers_fills_as_many_keras_layers(kind, bidirectional):
    import keras
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(nn, kind)(3, 6, 3, batch_first=True, bidirectional=bidirectional)
            self.head = nn.Linear(12 if bidirectional else 6, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0])

    def recurrent() -> Any:
        layer = getattr(keras.layers, kind)(6, return_sequences=True)
        return keras.layers.Bidirectional(layer) if bidirectional else layer

    model = keras.Sequential(
        [keras.Input((7, 3)), *(recurrent() for _ in range(3)),
         keras.layers.Dense(2)])
    module = randomized(Net())

    report = only_weights(module, model)

    assert report.complete
    assert difference_on(module, model, (7, 3)) < 1e-5


def only_norms_and_matrices(names: tuple[str, str], width: int = 8) -> tuple[Any, Any]:
    """Two blocks of a norm, a matrix, a norm and a matrix; torch calls its norms by `names`, Keras
    has the second one of a block first in its name.
    """
    import keras
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(names[0], nn.LayerNorm(width))
            self.attn = nn.Linear(width, width)
            self.add_module(names[1], nn.LayerNorm(width))
            self.mlp = nn.Linear(width, width)

    module = randomized(nn.ModuleDict({"layers": nn.ModuleList([Block(), Block()])}))
    layers = keras.layers
    x = inputs = keras.Input((width,))
    for number in range(2):
        for norm, dense in (("attention_norm", "attn"), ("ffn_norm", "mlp")):
            x = layers.LayerNormalization(name=f"layer_{number}_{norm}")(x)
            x = layers.Dense(width, name=f"layer_{number}_{dense}")(x)
    return module, keras.Model(inputs, x)


@pytest.mark.parametrize("names", [("input_norm", "post_attention_norm"), ("norm1", "norm2"),
                                   ("ln_a", "ln_b")])  # yapf: disable
def test_names_that_only_mislead_a_little_give_way_to_two_lists_in_order(names):
    module, model = only_norms_and_matrices(names)

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    pairs = {keras: torch for torch, keras in report.plan.pairs}
    for number in range(2):
        assert pairs[f"layer_{number}_attention_norm"] == f"layers.{number}.{names[0]}"
        assert pairs[f"layer_{number}_ffn_norm"] == f"layers.{number}.{names[1]}"
        assert report.confidence[f"layer_{number}_ffn_norm/gamma"] < 0.9


def test_names_that_tell_win_over_the_order():
    module, model = only_norms_and_matrices(("ffn_norm", "attention_norm"))

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    pairs = {keras: torch for torch, keras in report.plan.pairs}
    assert pairs["layer_1_attention_norm"] == "layers.1.attention_norm"
    assert pairs["layer_0_ffn_norm"] == "layers.0.ffn_norm"


def test_matrices_that_count_their_inputs_first_are_turned_square_ones_too():
    import keras
    from torch import nn

    linear = randomized(nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 9), nn.Linear(9, 4)))
    state = {
        f"c_{name}": tensor.T.contiguous() if tensor.ndim == 2 else tensor
        for name, tensor in linear.state_dict().items()
    }
    model = keras.Sequential([
        keras.Input((6,)),
        *(keras.layers.Dense(units, name=f"c_{number}") for number, units in enumerate((9, 9, 4)))
    ])

    report = ktc.convert(state, model, accept_unproven=True)

    for number, layer in enumerate(model.layers):
        np.testing.assert_array_equal(layer.get_weights()[0], state[f"c_{number}.weight"].numpy())
    assert "counts its inputs first" in report.explain("c_1/kernel")
    plain = {name.removeprefix("c_"): one for name, one in linear.state_dict().items()}
    ktc.convert(plain, model, accept_unproven=True)
    np.testing.assert_array_equal(model.layers[1].get_weights()[0].T, plain["1.weight"].numpy())


def test_normalizations_that_torch_lacks_do_nothing_and_are_not_called_sure():
    import keras
    from torch import nn

    module = randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)))
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((10, 10, 3)), layers.Conv2D(4, 3), layers.BatchNormalization(name="norm"),
        layers.ReLU(), layers.Conv2D(5, 3)
    ])  # yapf: disable

    report = ktc.convert(module.state_dict(), model, accept_unproven=True)

    assert ktc.verify(module, model).verdict == "equal"
    assert report.confidence["norm/gamma"] == report.confidence["norm/moving_variance"] == 0.5
    assert report.ok
    # Where torch normalizes at all, a layer without a partner stays open.
    normalized = nn.Sequential(*module, nn.BatchNorm2d(5))
    with pytest.raises(AlignmentError, match="norm"):
        ktc.convert(normalized.state_dict(), model, accept_unproven=True)


def test_a_table_of_positions_with_a_batch_of_one_fills_an_embedding():
    import keras
    import torch

    class Positions(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="tokens")
            self.position_embedding = keras.layers.Embedding(7, 4, name="position_embedding")
            self.dense = keras.layers.Dense(4, name="dense")

        def call(self, x: Any) -> Any:
            return self.dense(x) + self.position_embedding(np.arange(7))

    inputs = keras.Input((7, 3))
    model = keras.Model(inputs, Positions()(inputs))
    state = {"cls": torch.randn(1, 1, 9), "position_embeddings": torch.randn(1, 7, 4),
             "dense.weight": torch.randn(4, 3), "dense.bias": torch.randn(4)}  # yapf: disable

    ktc.convert(state, model, accept_unproven=True, strict="target")

    np.testing.assert_array_equal(model.layers[1].position_embedding.get_weights()[0],
                                  state["position_embeddings"][0].numpy())


@pytest.mark.parametrize("names", [("embed_tokens", "lm_head"), ("tok_embeddings", "output"),
                                   ("z_embed_in", "embed_out")])  # yapf: disable
@pytest.mark.parametrize("tokens", [6, 4])
def test_an_embedding_with_an_output_matrix_of_its_own_is_filled_from_two_layers(names, tokens):
    import keras
    import torch

    class ReversibleEmbedding(keras.layers.Embedding):
        compute_output_spec = keras.layers.Layer.compute_output_spec

        def compute_output_shape(self, shape: Any) -> Any:
            return (*shape, tokens)

        def build(self, shape: Any = None) -> None:
            super().build(shape)
            self.reverse = self.add_weight(name="reverse_embeddings", shape=(4, tokens))

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(super().call(x), self.reverse)

    def model() -> Any:
        inputs, table = keras.Input((3,), dtype="int32"), ReversibleEmbedding(tokens, 4, name="ids")
        return keras.Model(inputs, keras.layers.Dense(5, name="up")(table(inputs)))

    table, output = names
    state = {f"{table}.weight": torch.randn(tokens, 4), "up.weight": torch.randn(5, tokens),
             "up.bias": torch.randn(5)}  # yapf: disable
    whole = {**state, f"{output}.weight": torch.randn(tokens, 4)}
    for given in (whole, dict(sorted(whole.items()))):
        filled = model()
        ktc.convert(given, filled, accept_unproven=True)
        for own, name in zip(filled.get_layer("ids").get_weights(), names, strict=True):
            expected = whole[f"{name}.weight"].numpy()
            np.testing.assert_array_equal(own, expected if name == table else expected.T)
    # No other matrix of the same shape is taken for it.
    with pytest.raises(AlignmentError, match="1 find none: 'ids'"):
        ktc.convert({**state, "extra.weight": whole[f"{output}.weight"]}, model(),
                    accept_unproven=True)
