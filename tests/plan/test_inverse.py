"""Plans turned round: what moves comes back bit for bit, what is computed comes back as an equal
function, and the Plan says which.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_torch_convert.errors import TransferError
from keras_torch_convert.plan.evaluation import shape_of
from keras_torch_convert.plan.expressions import (Add, CallbackOutput, Concat, Fill, LayerCallback,
                                                  Overlay, Permute, Reshape, Scale, Slice,
                                                  SpectralNormWeight, Tensor, UserCall, WeightNorm)
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment, Constant
from keras_torch_convert.rules.registry import RULES
from keras_torch_convert.spec.tensor_spec import TensorSpec
from tests.helpers.transfer import layer, source_of, target_of, values_by_label


def there_and_back(expressions, tensors, dtype="float32"):
    """Values of the variables under a Plan of `expressions`, of the tensors under its inverse, and
    of the variables again.
    """
    shapes = {name: values.shape for name, values in tensors.items()}
    variables = {str(index): shape_of(one, shapes) for index, one in enumerate(expressions)}
    plan = Plan(
        tuple(Assignment(f"k/{index}", one, "rule") for index, one in enumerate(expressions)),
        sources={
            name: TensorSpec(values.shape, values.dtype.name, name)
            for name, values in tensors.items()
        }, targets={
            f"k/{index}": TensorSpec(shape, dtype, f"k/{index}")
            for index, shape in variables.items()
        })
    keras = target_of(layer("k", "Layer", variables, dtype))
    first = values_by_label(plan, source_of(tensors), keras, strict=False)
    back = torch_values(plan.invert(), first, shapes)
    again = values_by_label(plan, source_of(back), keras, strict=False)
    return plan, first, back, again


def torch_values(inverse, variables, shapes):
    target = target_of(layer("t", "Module", shapes))
    keys = {variable.name: variable.key for variable in target.layers[0].variables}
    moved = Plan(
        tuple(Assignment(keys[one.key], one.expression, one.rule) for one in inverse.assignments),
        constants=inverse.constants)
    values = values_by_label(moved, source_of(variables), target, strict=False)
    return {label.split("/", 1)[1]: array for label, array in values.items()}


def counted(*shape, start=1):
    return (np.arange(np.prod(shape, dtype=int), dtype="float32") + start).reshape(shape)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


RULE_AXES = [
    (f"{rule.name}: {name}", axes) for rule in RULES for name, axes in sorted(rule.axes.items())
]


class TestDataMovement:
    @pytest.mark.parametrize(("name", "axes"), RULE_AXES, ids=[name for name, _ in RULE_AXES])
    @settings(max_examples=15)
    @given(data=st.data())
    def test_all_axes_of_every_rule_comes_back_bit_for_bit_at_any_size(self, name, axes, data):
        shape = tuple(data.draw(st.integers(1, 5)) for _ in axes.keras.split())
        torch_shape = axes.torch_shape(shape)

        plan, first, back, again = there_and_back([axes.expression(Tensor("w"), shape)],
                                                  {"w": counted(*torch_shape)})

        assert plan.lossless
        assert plan.invert().lossless
        np.testing.assert_array_equal(back["w"], counted(*torch_shape))
        np.testing.assert_array_equal(first["k/0"], again["k/0"])

    @settings(max_examples=150)
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
        expressions = [
            Permute(Slice(fused, 0, 2 * part, 2 * part + 2), (1, 0)) for part in (2, 0, 1)
        ]

        plan, _, back, _ = there_and_back(expressions, {"qkv": counted(6, 3)})

        (assignment,) = plan.invert().assignments
        assert isinstance(assignment.expression, Concat)
        np.testing.assert_array_equal(back["qkv"], counted(6, 3))

    def test_heads_that_lie_between_each_other_are_put_back_between_each_other(self):
        grouped = Reshape(Tensor("qkv"), (2, 3, 4, 5))
        expressions = [Reshape(Slice(grouped, 1, part, part + 1), (8, 5)) for part in range(3)]

        _, first, back, _ = there_and_back(expressions, {"qkv": counted(24, 5)})

        np.testing.assert_array_equal(first["k/1"],
                                      counted(24, 5).reshape(2, 3, 4, 5)[:, 1].reshape(8, 5))
        np.testing.assert_array_equal(back["qkv"], counted(24, 5))

    def test_the_inverse_of_the_inverse_is_the_plan_as_far_as_its_values_go(self):
        plan, first, _, _ = there_and_back([Permute(Tensor("w"), (2, 0, 1))],
                                           {"w": counted(2, 3, 4)})

        twice = plan.invert().invert()

        assert not twice.reversed
        values = values_by_label(twice, source_of({"w": counted(2, 3, 4)}),
                                 target_of(layer("k", "Layer", {"0": (4, 2, 3)})))
        np.testing.assert_array_equal(values["k/0"], first["k/0"])

    def test_parts_that_no_axis_joins_are_overlaid_and_cut_out_again(self):
        upper, left, right = (Slice(Tensor("w"), 0, 0, 2), Slice(Tensor("w"), 1, 0,
                                                                 3), Slice(Tensor("w"), 1, 3, 6))
        expressions = [
            Permute(Slice(upper, 1, 0, 3), (1, 0)),
            Slice(upper, 1, 3, 6),
            Slice(left, 0, 2, 4),
            Slice(right, 0, 2, 4)
        ]
        plan, first, back, _ = there_and_back(expressions, {"w": counted(4, 6)})
        np.testing.assert_array_equal(back["w"], counted(4, 6))
        assert isinstance(plan.invert().assignments[0].expression, Overlay)

        twice = plan.invert().invert()

        shapes = {label.removeprefix("k/"): array.shape for label, array in first.items()}
        keras = target_of(layer("k", "Layer", shapes))
        values = values_by_label(twice, source_of({"w": counted(4, 6)}), keras)
        for label, array in first.items():
            np.testing.assert_array_equal(values[label], array)

    def test_a_tensor_of_which_only_a_part_is_held_cannot_be_made_whole(self):
        with pytest.raises(TransferError, match=r"3 of 9 entries .* have no values"):
            there_and_back([Slice(Tensor("w"), 0, 0, 2)], {"w": counted(3, 3)})


@st.composite
def trees(draw):
    """Some tensors, cut into pieces along axes, reshaped, permuted and joined again: each value is
    used once.
    """
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
            new = (*shape[:axis], 2, shape[axis] // 2, *shape[axis + 1:])
            pieces.append((Reshape(expression, new), new))
        elif step == "merge axes" and axis + 1 < len(shape):
            new = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2:])
            pieces.append((Reshape(expression, new), new))
        elif step == "cut" and shape[axis] > 1:
            at = draw(st.integers(1, shape[axis] - 1))
            for start, stop in ((0, at), (at, shape[axis])):
                pieces.append((Slice(expression, axis, start,
                                     stop), (*shape[:axis], stop - start, *shape[axis + 1:])))
        elif step == "join":
            like = [
                index for index, (_, other) in enumerate(pieces)
                if len(other) == len(shape) and other[:axis] + other[axis + 1:] == shape[:axis]
                + shape[axis + 1:]
            ]
            if like:
                other, other_shape = pieces.pop(like[0])
                joined = (*shape[:axis], shape[axis] + other_shape[axis], *shape[axis + 1:])
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

        plan, first, back, again = there_and_back(
            [turned], {"bias_ih": random(4), "bias_hh": random(4, seed=1)})

        np.testing.assert_array_equal(back["bias_ih"], random(4) + random(4, seed=1))
        np.testing.assert_array_equal(back["bias_hh"], np.zeros(4))
        np.testing.assert_array_equal(first["k/0"], again["k/0"])
        assert not plan.lossless
        assert "biases were added" in plan.losses()[0]

    @pytest.mark.parametrize(("axis", "magnitude"), [(0, (4, 1, 1)), (1, (1, 3, 1)), (None, ())])
    def test_a_weight_norm_comes_back_with_the_norm_as_magnitude(self, axis, magnitude):
        tensors = {"v": random(4, 3, 2), "g": np.abs(random(*magnitude, seed=1)) + 0.5}

        plan, first, back, again = there_and_back([WeightNorm(Tensor("v"), Tensor("g"), axis)],
                                                  tensors)

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

        _, first, _, again = there_and_back(
            [SpectralNormWeight(Tensor("w"), Tensor("u"), Tensor("v"), axis)], tensors)

        np.testing.assert_allclose(first["k/0"], weight / (left @ rows @ right), rtol=1e-5)
        np.testing.assert_allclose(again["k/0"], first["k/0"], rtol=1e-5)

    def test_a_scaled_weight_is_divided_again(self):
        _, first, back, again = there_and_back([Scale(Tensor("w"), 3.0)], {"w": random(5)})

        np.testing.assert_allclose(back["w"], random(5), rtol=1e-6)
        np.testing.assert_allclose(again["k/0"], first["k/0"], rtol=1e-6)

    def test_a_variable_that_torch_has_no_tensor_for_must_have_the_one_value_that_torch_means(self):
        plan = Plan((Assignment("bn/0", Fill(1.0, (2,)), "norm without scale"),),
                    targets={"bn/0": TensorSpec((2,), "float32", "bn/gamma")})

        inverse = plan.invert()

        assert inverse.constants[0].value == 1.0
        nothing = target_of(layer("t", "Module", {}))
        values_by_label(inverse, source_of({"bn/0": np.ones(2, "float32")}), nothing)
        with pytest.raises(TransferError, match="only when every value is 1, 1 of 2 are not"):
            values_by_label(inverse, source_of({"bn/0": np.array([1, 2], "float32")}), nothing)

    def test_a_tensor_that_was_left_out_as_a_constant_is_set_to_it_on_the_way_back(self):
        plan = Plan((), constants=(Constant(Tensor("bias"), 0.0, "no bias in Keras"),),
                    sources={"bias": TensorSpec((3,), "float32", "bias")})

        assert torch_values(plan.invert(), {"unused": counted(1)},
                            {"bias": (3,)})["bias"].tolist() == [0, 0, 0]

    def test_a_callback_cannot_be_inverted(self):
        callback = LayerCallback("d", (Tensor("w"),), (UserCall("'d'", lambda weights: weights),),
                                 1)
        plan = Plan((Assignment("d/0", CallbackOutput(callback, 0), "callback"),),
                    sources={"w": TensorSpec((2,), "float32", "w")},
                    targets={"d/0": TensorSpec((2,), "float32", "d/kernel")})

        with pytest.raises(TransferError, match="callback cannot be inverted"):
            plan.invert()
        assert "callback" in plan.losses()[0]

    def test_a_plan_that_knows_no_shapes_says_so(self):
        with pytest.raises(TransferError, match="does not know the shapes of 'd/0', 'w'"):
            Plan((Assignment("d/0", Tensor("w"), ""),)).invert()

    def test_narrowing_types_are_named_as_losses(self):
        plan = Plan(
            (Assignment("d/0", Tensor("w"), ""),), sources={"w": TensorSpec(
                (2,), "float32", "w")}, targets={"d/0": TensorSpec((2,), "float16", "d/kernel")})

        assert plan.losses() == (
            "'d/kernel': float32 becomes float16, which does not hold all of its values",)
        assert plan.invert().lossless
