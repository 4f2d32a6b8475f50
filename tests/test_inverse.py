"""Plans turned round: what moves comes back bit for bit, what is computed comes back as an equal function, and the Plan says which."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, keras_model, randomised_layer, relative_difference
from small_models import randomised
from transfer_helpers import layer, source_of, target_of, values_by_label

import keras_torch_convert as ktc
from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan import (
    Add,
    ArrayKind,
    Assignment,
    CallbackOutput,
    Concat,
    Constant,
    Fill,
    LayerCallback,
    NormWeight,
    Permute,
    Plan,
    Reshape,
    Scale,
    Slice,
    SpectralNormWeight,
    Tensor,
    UserCall,
)
from keras_torch_convert.transfer.evaluation import shape_by_kinds
from keras_torch_convert.transfer.rules import RULES


def there_and_back(expressions, tensors, dtype="float32"):
    """Values of the variables under a Plan of `expressions`, of the tensors under its inverse, and of the variables again."""
    shapes = {name: values.shape for name, values in tensors.items()}
    variables = {str(index): shape_by_kinds(one, shapes) for index, one in enumerate(expressions)}
    plan = Plan(
        tuple(Assignment(f"k/{index}", one, "rule") for index, one in enumerate(expressions)),
        sources={name: ArrayKind(values.shape, values.dtype.name, name) for name, values in tensors.items()},
        targets={f"k/{index}": ArrayKind(shape, dtype, f"k/{index}") for index, shape in variables.items()},
    )
    keras = target_of(layer("k", "Layer", variables, dtype))
    first = values_by_label(plan, source_of(tensors), keras, strict=False)
    back = torch_values(plan.invert(), first, shapes)
    again = values_by_label(plan, source_of(back), keras, strict=False)
    return plan, first, back, again


def torch_values(inverse, variables, shapes):
    target = target_of(layer("t", "Module", shapes))
    places = {variable.name: variable.place for variable in target.layers[0].variables}
    moved = Plan(
        tuple(Assignment(places[one.place], one.expression, one.rule) for one in inverse.assignments),
        constants=inverse.constants,
    )
    values = values_by_label(moved, source_of(variables), target, strict=False)
    return {label.split("/", 1)[1]: array for label, array in values.items()}


def counted(*shape, start=1):
    return (np.arange(np.prod(shape, dtype=int), dtype="float32") + start).reshape(shape)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


RULE_MOVEMENTS = [
    (f"{rule.name}: {name}", movement) for rule in RULES for name, movement in sorted(rule.movements.items())
]


class TestDataMovement:
    @pytest.mark.parametrize(("name", "movement"), RULE_MOVEMENTS, ids=[name for name, _ in RULE_MOVEMENTS])
    @settings(max_examples=15)
    @given(data=st.data())
    def test_every_movement_of_every_rule_comes_back_bit_for_bit_at_any_size(self, name, movement, data):
        shape = tuple(data.draw(st.integers(1, 5)) for _ in movement.keras.split())
        torch_shape = movement.torch_shape(shape)

        plan, first, back, again = there_and_back([movement.expression("w", shape)], {"w": counted(*torch_shape)})

        assert plan.lossless
        assert plan.invert().lossless
        np.testing.assert_array_equal(back["w"], counted(*torch_shape))
        np.testing.assert_array_equal(first["k/0"], again["k/0"])

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_any_tree_of_movements_comes_back_bit_for_bit(self, data):
        expressions, tensors = data.draw(trees())

        plan, first, back, again = there_and_back(expressions, tensors)

        assert plan.lossless
        for name, values in tensors.items():
            np.testing.assert_array_equal(back[name], values)
        for label, values in first.items():
            np.testing.assert_array_equal(values, again[label])

    def test_a_fused_tensor_is_put_together_of_its_parts(self):
        fused = Tensor("qkv")
        expressions = [Permute(Slice(fused, 0, 2 * part, 2 * part + 2), (1, 0)) for part in (2, 0, 1)]

        plan, _, back, _ = there_and_back(expressions, {"qkv": counted(6, 3)})

        (assignment,) = plan.invert().assignments
        assert isinstance(assignment.expression, Concat)
        np.testing.assert_array_equal(back["qkv"], counted(6, 3))

    def test_heads_that_lie_between_each_other_are_put_back_between_each_other(self):
        grouped = Reshape(Tensor("qkv"), (2, 3, 4, 5))
        expressions = [Reshape(Slice(grouped, 1, part, part + 1), (8, 5)) for part in range(3)]

        _, first, back, _ = there_and_back(expressions, {"qkv": counted(24, 5)})

        np.testing.assert_array_equal(first["k/1"], counted(24, 5).reshape(2, 3, 4, 5)[:, 1].reshape(8, 5))
        np.testing.assert_array_equal(back["qkv"], counted(24, 5))

    def test_the_inverse_of_the_inverse_is_the_plan_as_far_as_its_values_go(self):
        plan, first, _, _ = there_and_back([Permute(Tensor("w"), (2, 0, 1))], {"w": counted(2, 3, 4)})

        twice = plan.invert().invert()

        assert not twice.reversed
        values = values_by_label(
            twice, source_of({"w": counted(2, 3, 4)}), target_of(layer("k", "Layer", {"0": (4, 2, 3)}))
        )
        np.testing.assert_array_equal(values["k/0"], first["k/0"])

    def test_a_tensor_of_which_only_a_part_is_held_cannot_be_made_whole(self):
        with pytest.raises(TransferError, match=r"3 of 9 entries .* have no values"):
            there_and_back([Slice(Tensor("w"), 0, 0, 2)], {"w": counted(3, 3)})


@st.composite
def trees(draw):
    """Some tensors, cut into pieces along axes, reshaped, permuted and joined again: each value is used once."""
    tensors = {}
    pieces = []
    for index in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3)))
        tensors[f"t{index}"] = counted(*shape, start=1000 * index)
        pieces.append((Tensor(f"t{index}"), shape))
    for _ in range(draw(st.integers(0, 6))):
        number = draw(st.integers(0, len(pieces) - 1))
        expression, shape = pieces.pop(number)
        step = draw(st.sampled_from(["permute", "split axis", "merge axes", "cut", "join"]))
        axis = draw(st.integers(0, len(shape) - 1))
        if step == "permute":
            perm = tuple(draw(st.permutations(range(len(shape)))))
            pieces.append((Permute(expression, perm), tuple(shape[index] for index in perm)))
        elif step == "split axis" and shape[axis] % 2 == 0:
            new = (*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1 :])
            pieces.append((Reshape(expression, new), new))
        elif step == "merge axes" and axis + 1 < len(shape):
            new = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
            pieces.append((Reshape(expression, new), new))
        elif step == "cut" and shape[axis] > 1:
            at = draw(st.integers(1, shape[axis] - 1))
            for start, stop in ((0, at), (at, shape[axis])):
                pieces.append((Slice(expression, axis, start, stop), (*shape[:axis], stop - start, *shape[axis + 1 :])))
        elif step == "join":
            like = [
                index
                for index, (_, other) in enumerate(pieces)
                if len(other) == len(shape) and other[:axis] + other[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
            ]
            if like:
                other, other_shape = pieces.pop(like[0])
                joined = (*shape[:axis], shape[axis] + other_shape[axis], *shape[axis + 1 :])
                pieces.append((Concat((expression, other), axis), joined))
            else:
                pieces.append((expression, shape))
        else:
            pieces.append((expression, shape))
    return [expression for expression, _ in pieces], tensors


class TestComputedWeights:
    def test_of_two_biases_the_first_gets_the_sum_and_the_other_zeros(self):
        gates = Add((Tensor("bias_ih"), Tensor("bias_hh")))
        turned = Concat((Slice(gates, 0, 2, 4), Slice(gates, 0, 0, 2)), 0)

        plan, first, back, again = there_and_back([turned], {"bias_ih": random(4), "bias_hh": random(4, seed=1)})

        np.testing.assert_array_equal(back["bias_ih"], random(4) + random(4, seed=1))
        np.testing.assert_array_equal(back["bias_hh"], np.zeros(4))
        np.testing.assert_array_equal(first["k/0"], again["k/0"])
        assert not plan.lossless
        assert "biases were added" in plan.losses()[0]

    @pytest.mark.parametrize(("axis", "magnitude"), [(0, (4, 1, 1)), (1, (1, 3, 1)), (None, ())])
    def test_a_weight_norm_comes_back_with_the_norm_as_magnitude(self, axis, magnitude):
        tensors = {"v": random(4, 3, 2), "g": np.abs(random(*magnitude, seed=1)) + 0.5}

        plan, first, back, again = there_and_back([NormWeight(Tensor("v"), Tensor("g"), axis)], tensors)

        np.testing.assert_allclose(again["k/0"], first["k/0"], rtol=1e-6)
        np.testing.assert_array_equal(back["v"], first["k/0"])
        np.testing.assert_allclose(back["g"], tensors["g"], rtol=1e-6)
        assert "weight norm" in plan.losses()[0]

    @pytest.mark.parametrize("axis", [0, 1])
    def test_a_spectral_norm_comes_back_with_vectors_that_give_the_same_weight(self, axis):
        weight = random(4, 3, 2)
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        left, right = random(rows.shape[0], seed=1), random(rows.shape[1], seed=2)
        tensors = {"w": weight, "u": left, "v": right}

        _, first, _, again = there_and_back([SpectralNormWeight(Tensor("w"), Tensor("u"), Tensor("v"), axis)], tensors)

        np.testing.assert_allclose(first["k/0"], weight / (left @ rows @ right), rtol=1e-5)
        np.testing.assert_allclose(again["k/0"], first["k/0"], rtol=1e-5)

    def test_a_scaled_weight_is_divided_again(self):
        _, first, back, again = there_and_back([Scale(Tensor("w"), 3.0)], {"w": random(5)})

        np.testing.assert_allclose(back["w"], random(5), rtol=1e-6)
        np.testing.assert_allclose(again["k/0"], first["k/0"], rtol=1e-6)

    def test_a_variable_that_torch_has_no_tensor_for_must_have_the_one_value_that_torch_means(self):
        plan = Plan(
            (Assignment("bn/0", Fill(1.0, (2,)), "norm without scale"),),
            targets={"bn/0": ArrayKind((2,), "float32", "bn/gamma")},
        )

        inverse = plan.invert()

        assert inverse.constants[0].value == 1.0
        nothing = target_of(layer("t", "Module", {}))
        values_by_label(inverse, source_of({"bn/0": np.ones(2, "float32")}), nothing)
        with pytest.raises(TransferError, match="only when every value is 1, 1 of 2 are not"):
            values_by_label(inverse, source_of({"bn/0": np.array([1, 2], "float32")}), nothing)

    def test_a_tensor_that_was_left_out_as_a_constant_is_set_to_it_on_the_way_back(self):
        plan = Plan(
            (),
            constants=(Constant(Tensor("bias"), 0.0, "no bias in Keras"),),
            sources={"bias": ArrayKind((3,), "float32", "bias")},
        )

        assert torch_values(plan.invert(), {"unused": counted(1)}, {"bias": (3,)})["bias"].tolist() == [0, 0, 0]

    def test_a_callback_cannot_be_inverted(self):
        callback = LayerCallback("d", (Tensor("w"),), (UserCall("'d'", lambda weights: weights),), 1)
        plan = Plan(
            (Assignment("d/0", CallbackOutput(callback, 0), "callback"),),
            sources={"w": ArrayKind((2,), "float32", "w")},
            targets={"d/0": ArrayKind((2,), "float32", "d/kernel")},
        )

        with pytest.raises(TransferError, match="callback cannot be inverted"):
            plan.invert()
        assert "callback" in plan.losses()[0]

    def test_a_plan_that_knows_no_shapes_says_so(self):
        with pytest.raises(TransferError, match="does not know the shapes of 'd/0', 'w'"):
            Plan((Assignment("d/0", Tensor("w"), ""),)).invert()

    def test_narrowing_types_are_named_as_losses(self):
        plan = Plan(
            (Assignment("d/0", Tensor("w"), ""),),
            sources={"w": ArrayKind((2,), "float32", "w")},
            targets={"d/0": ArrayKind((2,), "float16", "d/kernel")},
        )

        assert plan.losses() == ("'d/kernel': float32 becomes float16, which does not hold all of its values",)
        assert plan.invert().lossless


class TestLayers:
    @pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
    def test_keras_to_torch_gives_equal_outputs_and_comes_back_bit_for_bit(self, case):
        import keras

        module, model = randomised_layer(case), keras_model(keras, case)
        names = [one for one in case.torch_names if any(key.startswith(f"{one}.") for key in module.state_dict())]
        (keras_layer,) = [one for one in model.layers if one.weights]
        plan = Plan.from_mapping(module, model, {keras_layer.name: names or list(module.state_dict())})
        if " into one " in case.name:
            # Fewer values in torch than in Keras: only such come back as torch can hold.
            ktc.convert(module, model, plan=plan, verify=False)
        else:
            generator = np.random.default_rng(3)
            model.set_weights(
                [generator.uniform(0.5, 1.5, weight.shape).astype("float32") for weight in model.get_weights()]
            )
        expected = [weight.copy() for weight in model.get_weights()]

        ktc.convert(model, module, plan=plan.invert(), verify=False)

        assert relative_difference(module, model, case) < 1e-5
        model.set_weights([np.zeros_like(weight) for weight in expected])
        ktc.convert(module, model, plan=plan, verify=False)
        for weight, before in zip(model.get_weights(), expected, strict=True):
            assert weight.tobytes() == before.tobytes()


def recurrent(layer):
    import torch

    class Sequences(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer(torch.nn)

        def forward(self, x):
            return self.layer(x)[0]

    return randomised(Sequences())


def plain(layer):
    import torch

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer(torch.nn)

        def forward(self, x):
            return self.layer(x)

    return randomised(Plain())


def attention(nn):
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    forward = layer.forward
    layer.forward = lambda x: forward(x, x, x, need_weights=False)
    return layer


OTHER_LAYERS = [
    ("lstm", lambda: recurrent(lambda nn: nn.LSTM(4, 6, batch_first=True)), (5, 4), lambda L: L.LSTM(6, return_sequences=True), "added"),
    ("gru", lambda: recurrent(lambda nn: nn.GRU(4, 6, batch_first=True)), (5, 4), lambda L: L.GRU(6, return_sequences=True), ""),
    ("rnn", lambda: recurrent(lambda nn: nn.RNN(4, 6, batch_first=True)), (5, 4), lambda L: L.SimpleRNN(6, return_sequences=True), "added"),
    (
        "bidirectional lstm",
        lambda: recurrent(lambda nn: nn.LSTM(4, 6, batch_first=True, bidirectional=True)),
        (5, 4),
        lambda L: L.Bidirectional(L.LSTM(6, return_sequences=True)),
        "added",
    ),
    ("attention", lambda: recurrent(attention), (5, 8), lambda L: lambda x: L.MultiHeadAttention(2, 4)(x, x), ""),
    (
        "weight norm",
        lambda: plain(lambda nn: nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))),
        (4,),
        lambda L: L.Dense(6),
        "weight norm",
    ),
    (
        "spectral norm",
        lambda: plain(lambda nn: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))),
        (4,),
        lambda L: L.Dense(6),
        "spectral norm",
    ),
    (
        "norm without scale and offset",
        lambda: plain(lambda nn: nn.BatchNorm1d(4, affine=False)),
        (4,),
        lambda L: L.BatchNormalization(epsilon=1e-5, scale=False, center=False),
        "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "module", "shape", "layer", "loss"), OTHER_LAYERS, ids=[case[0] for case in OTHER_LAYERS]
)
def test_layers_that_are_cut_joined_or_computed_go_both_ways(name, module, shape, layer, loss):
    import keras

    module = module()
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(keras.layers)(inputs))
    (keras_layer,) = [one for one in model.layers if one.weights]
    mapping = {keras_layer.name: ["layer", "layer.out_proj"] if name == "attention" else "layer"}
    plan = Plan.from_mapping(module, model, mapping)
    assert plan.lossless == (not loss)
    assert loss in " ".join(plan.losses())
    generator = np.random.default_rng(3)
    model.set_weights([generator.uniform(0.1, 0.9, weight.shape).astype("float32") for weight in model.get_weights()])
    before = [weight.copy() for weight in model.get_weights()]

    there = ktc.convert(model, module, plan=plan)
    model.set_weights([np.zeros_like(weight) for weight in before])
    back = ktc.convert(module, model, plan=plan)

    assert there.relative_diff < 1e-5
    assert back.relative_diff < 1e-5
    for weight, expected in zip(model.get_weights(), before, strict=True):
        if "norm" in loss:
            np.testing.assert_allclose(weight, expected, rtol=1e-6)
        else:
            assert weight.tobytes() == expected.tobytes()
