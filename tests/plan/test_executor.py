"""The executor: movements in one strided copy, everything checked first, one status for every
weight.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_torch_convert.errors import SourceError, TransferError
from keras_torch_convert.plan.copy_program import move
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.expressions import (CallbackOutput, LayerCallback, Permute, Reshape,
                                                  Tensor, UserCall, compile_program)
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from tests.helpers.transfer import layer, source_of, target_of, tensor, values_by_label


def one_variable(values, shape, dtype="float32", expression=None):
    """A source, a target of one variable, and the plan that fills it."""
    source = values if not isinstance(values, np.ndarray) else source_of({"a.weight": values})
    return (Plan(
        (Assignment("d/0", expression or Tensor("a.weight"),
                    "by hand"),)), source, target_of(layer("d", "Dense", {"kernel": shape}, dtype)))


def compiled(expression, shape):
    """The movement over bases that all have one shape."""
    return compile_program(expression, lambda _: shape)


def problems_of(plan, source, target, **options):
    with pytest.raises(TransferError) as caught:
        check_plan(plan, source, target, **options)
    return caught.value.problems


class TestMovements:
    @given(st.data())
    def test_any_chain_of_exact_steps_equals_numpy(self, data):
        base = np.arange(24, dtype="int16").reshape(
            data.draw(st.sampled_from([(24,), (2, 3, 4), (6, 1, 4), (4, 3, 2, 1)])))
        expression, expected = Tensor("a"), base
        for _ in range(data.draw(st.integers(0, 5))):
            if data.draw(st.booleans()):
                perm = tuple(data.draw(st.permutations(range(expected.ndim))))
                expression, expected = Permute(expression, perm), expected.transpose(perm)
            else:
                shape = data.draw(
                    st.sampled_from([(24,), (2, 12), (12, 2), (6, 4), (2, 3, 4), (2, 2, 3, 2),
                                     (1, 24, 1)]))
                expression, expected = Reshape(expression, shape), expected.reshape(shape)
                try:
                    compiled(expression, base.shape)
                except ValueError:
                    return

        np.testing.assert_array_equal(move(compiled(expression, base.shape), [base]), expected)

    def test_a_split_after_a_permutation_is_one_copy_onto_the_split_target(self):
        base = np.arange(24).reshape(6, 4)
        expression = Reshape(Permute(Tensor("a"), (1, 0)), (2, 2, 2, 3))

        layout = compiled(expression, (6, 4))

        assert len(layout.regions) == 1
        np.testing.assert_array_equal(move(layout, [base]), base.T.reshape(2, 2, 2, 3))

    @pytest.mark.parametrize(("shape", "wanted"), [((4, 6), (6, 4)), ((4, 6), (24, 2)),
                                                   ((4,), (3,)), ((2, 0), (2,)), ((5,), ())])
    def test_a_reshape_that_only_fits_by_count_is_refused(self, shape, wanted):
        with pytest.raises(ValueError, match="reshape"):
            compiled(Reshape(Tensor("a"), wanted), shape)

    @pytest.mark.parametrize("perm", [(0,), (0, 0), (0, 2), (1, 0, 2)])
    def test_a_permutation_names_every_axis_once(self, perm):
        with pytest.raises(ValueError, match="does not name each axis"):
            compiled(Permute(Tensor("a"), perm), (2, 3))

    @pytest.mark.parametrize("shape", [(), (1,), (1, 1), (0,), (3, 0)])
    def test_scalars_and_empty_arrays_move(self, shape):
        assert move(compiled(Tensor("a"), shape), [np.ones(shape)]).shape == shape

    @pytest.mark.parametrize("view",
                             [np.s_[:, :], np.s_[::-1, :], np.s_[:, ::-2], np.s_[::2, 1::3]],
                             ids=["whole", "backwards", "backwards in steps", "steps"])
    @pytest.mark.parametrize("byte_order", ["=", ">"])
    def test_any_memory_of_the_source_is_read(self, view, byte_order):
        values = np.arange(48, dtype="float32").reshape(6, 8).astype(f"{byte_order}f4")[view]
        plan, source, target = one_variable(values, values.T.shape,
                                            expression=Permute(Tensor("a.weight"), (1, 0)))

        np.testing.assert_array_equal(values_by_label(plan, source, target)["d/kernel"], values.T)

    def test_results_share_no_memory_with_the_source_and_leave_it_as_it_was(self):
        values = np.arange(6, dtype="float32").reshape(2, 3)
        before = values.tobytes()
        values.flags.writeable = False

        result = values_by_label(*one_variable(values, (2, 3)))["d/kernel"]
        result += 1

        assert not np.shares_memory(result, values)
        assert values.tobytes() == before


class TestCasts:
    def test_float16_and_bfloat16_widen_without_loss_and_without_a_warning(self):
        half = tensor("a.weight", np.array([1.5, -2.0], "float16"))
        bits = tensor("a.weight", np.array([0x3FC0, 0xC000], "uint16"), dtype="bfloat16")

        for one in (half, bits):
            plan, source, target = one_variable(source_of([one]), (2,))
            assert values_by_label(plan, source, target)["d/kernel"].tolist() == [1.5, -2.0]
            assert check_plan(plan, source, target).warnings == ()

    def test_rounding_is_counted_in_a_warning(self):
        plan, source, target = one_variable(np.array([1.0, 0.1, 2.0, 0.2]), (4,))

        prepared = check_plan(plan, source, target)

        assert prepared.warnings == ("float64 to float32: 2 of 4 values rounded, in 'd/kernel'",)

    def test_exact_float64_values_need_no_warning(self):
        assert check_plan(*one_variable(np.array([1.0, 0.5]), (2,))).warnings == ()

    def test_integers_beyond_float32_are_counted_too(self):
        plan, source, target = one_variable(np.array([16777216, 16777217]), (2,))

        assert check_plan(
            plan, source,
            target).warnings == ("int64 to float32: 1 of 2 values rounded, in 'd/kernel'",)

    @pytest.mark.parametrize(("values", "dtype"),
                             [(np.array([1e300, 1.0, -1e39]), "float32"),
                              (np.array([1e5, 70000, 1], "float32"), "float16")])
    def test_values_that_would_become_infinite_are_an_error_that_counts_them(self, values, dtype):
        (problem,) = problems_of(*one_variable(values, (3,), dtype))

        assert "2 of 3 values are outside the range" in problem
        assert "'d/kernel' from 'a.weight'" in problem

    def test_infinities_and_nan_of_the_source_pass(self):
        values = np.array([np.inf, -np.inf, np.nan], "float64")

        np.testing.assert_array_equal(
            values_by_label(*one_variable(values, (3,)))["d/kernel"], values.astype("float32"))

    def test_bfloat16_variables_get_bfloat16_values(self):
        result = values_by_label(
            *one_variable(np.array([1.5, 3.0], "float32"), (2,), "bfloat16"))["d/kernel"]

        assert (result.dtype.name, result.view("uint16").tolist()) == ("bfloat16", [0x3FC0, 0x4040])

    @pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn"])
    def test_types_without_a_cast_are_refused(self, dtype):
        plan, source, target = one_variable(
            source_of([tensor("a.weight", np.zeros(2, "uint8"), dtype=dtype)]), (2,))

        assert f"{dtype} values cannot become float32" in problems_of(plan, source, target)[0]


class TestChecks:
    def test_all_problems_come_at_once(self):
        source = source_of({
            "a.weight": np.ones((2, 3)), "b.weight": np.ones(4, "float32"),
            "left.weight": np.ones(1)
        })
        target = target_of(layer("d", "Dense", {"kernel": (3, 2), "bias": (4,)}),
                           layer("e", "Dense", {"kernel": (1, 1)}))
        assignments = [
            Assignment("d/0", Tensor("a.weight"), ""),
            Assignment("d/1", Tensor("c.weight"), ""),
            Assignment("z/0", Tensor("b.weight"), "")
        ]

        problems = problems_of(Plan(tuple(assignments), {}, {"y/0": "rule"}), source, target)

        expected = [
            "'c.weight'", "'y/0'", "'z/0'", "(3, 2)", "'b.weight'", "'left.weight'", "'e/kernel'"
        ]
        assert [any(text in problem for problem in problems) for text in expected
               ] == [True] * len(expected)
        assert len(problems) == len(expected)

    def test_what_the_plan_leaves_out_may_be_missing(self):
        source = source_of({"a.weight": np.ones(2, "float32")})
        plan = Plan((Assignment("d/0", Tensor("a.weight"), ""),),
                    {"a.num_batches_tracked": "skip_weights"})

        check_plan(plan, source, target_of(layer("d", "Dense", {"kernel": (2,)})))

    def test_leftovers_say_how_to_mean_them(self):
        source = source_of(
            {"a.weight": np.ones(2, "float32"), "head.fc.weight": np.ones(2, "float32")})
        target = target_of(layer("d", "Dense", {"kernel": (2,)}),
                           layer("top", "Dense", {"bias": (2,)}))
        plan = Plan((Assignment("d/0", Tensor("a.weight"), ""),))

        torch_side, keras_side = problems_of(plan, source, target)

        assert "skip_layers=['head.fc']" in torch_side
        # By its last part every kernel would be left out.
        assert "skip_weights" not in torch_side
        assert "keep_layers=['top']" in keras_side
        assert len(problems_of(plan, source, target, strict="target")) == 1
        assert {entry.status for entry in check_plan(plan, source, target, strict=False).ledger
               } == {"used", "left over", "set", "unset"}

    def test_two_tensors_for_one_variable_are_a_conflict(self):
        source = source_of(
            {"a.weight": np.array([1, 2], "float32"), "b.weight": np.array([1, 3], "float32")})
        twice = Plan((Assignment("d/0", Tensor("a.weight"),
                                 ""), Assignment("d/0", Tensor("b.weight"), "")))

        (problem,) = problems_of(twice, source, target_of(layer("d", "Dense", {"kernel": (2,)})))

        assert "set twice, from 'a.weight' and from 'b.weight'" in problem

    def test_two_tensors_of_equal_values_may_be_meant_for_one_variable(self):
        values = np.array([1, np.nan], "float32")
        source = source_of({"a.weight": values, "b.weight": values.copy()})
        twice = Plan((Assignment("d/0", Tensor("a.weight"),
                                 ""), Assignment("d/0", Tensor("b.weight"), "")))

        prepared = check_plan(twice, source, target_of(layer("d", "Dense", {"kernel": (2,)})))

        assert len(list(prepared.arrays())) == 1

    def test_the_same_tensor_twice_is_tied(self):
        values = np.ones(2, "float32")
        source = source_of(
            [tensor("a.weight", values, storage=(1,)),
             tensor("b.weight", values, storage=(1,))])
        twice = Plan((Assignment("d/0", Tensor("a.weight"),
                                 "rule"), Assignment("d/0", Tensor("b.weight"), "rule")))

        prepared = check_plan(twice, source, target_of(layer("d", "Dense", {"kernel": (2,)})))

        assert len(list(prepared.arrays())) == 1
        assert [(entry.name, entry.rule) for entry in prepared.ledger[:2]] == [("a.weight", "rule"),
                                                                               ("b.weight",
                                                                                "rule (tied)")]

    def test_a_tensor_tied_with_a_used_one_is_not_left_over(self):
        values = np.ones(2, "float32")
        source = source_of(
            [tensor("a.weight", values, storage=(1,)),
             tensor("head.weight", values, storage=(1,))])
        plan, _, target = one_variable(values, (2,))

        assert check_plan(plan, source, target).ledger[1].rule == "tied with 'a.weight'"

    def test_counters_and_index_tables_are_no_weights_but_quantized_values_are(self):
        plan, _, target = one_variable(np.ones(2, "float32"), (2,))
        weight, index = tensor("a.weight",
                               np.ones(2, "float32")), tensor("a.index", np.ones(2, "int64"))
        quantized = tensor("a.packed", np.ones(2, "int8"))

        assert check_plan(plan, source_of([weight, index]), target).ledger[1].status == "skipped"
        assert "'a.packed'" in problems_of(plan, source_of([weight, quantized]), target)[0]

    def test_a_place_is_either_set_or_kept(self):
        plan, source, target = one_variable(np.ones(2, "float32"), (2,))

        assert ("both sets and keeps"
                in problems_of(Plan(plan.assignments, {}, {"d/0": "keep_layers"}), source,
                               target)[0])

    def test_a_source_that_reads_another_shape_than_it_announced_is_refused(self):
        liar = tensor("a.weight", np.ones(2, "float32"))
        liar = type(liar)("a.weight", (3,), "float32", liar.read)
        plan, _, target = one_variable(np.ones(3, "float32"), (3,))

        with pytest.raises(SourceError, match=r"announced with shape \(3,\) and read with \(2,\)"):
            list(check_plan(plan, source_of([liar]), target).arrays())

    def test_every_weight_has_one_fate_and_partners_on_the_other_side(self):
        plan, source, target = one_variable(np.ones((2, 3), "float32"), (3, 2),
                                            expression=Permute(Tensor("a.weight"), (1, 0)))

        used, given = check_plan(plan, source, target).ledger

        assert (used.side, used.name, used.parameters, used.status,
                used.partner) == ("source", "a.weight", 6, "used", "d/kernel")
        assert (given.side, given.name, given.shape, given.status,
                given.partner) == ("target", "d/kernel", (3, 2), "set", "a.weight")

    def test_arrays_come_in_the_order_of_the_target_whatever_the_plan_says(self):
        source = source_of({f"{name}.weight": np.ones(1, "float32") for name in "abc"})
        target = target_of(*(layer(name, "Scale", {"w": (1,)}) for name in "abc"))
        assignments = [Assignment(f"{name}/0", Tensor(f"{name}.weight"), "") for name in "abc"]

        for shuffled in itertools.permutations(assignments):
            assert list(values_by_label(Plan(shuffled), source, target)) == ["a/w", "b/w", "c/w"]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_values_are_put_where_they_are_wanted_unless_they_lie_there(self, dtype):
        square = np.arange(9, dtype=dtype).reshape(3, 3)
        plan = Plan((Assignment("d/0", Permute(Tensor("a.weight"), (1, 0)), ""),))
        target = target_of(layer("d", "Dense", {"kernel": (3, 3)}))
        prepared = check_plan(plan, source_of({"a.weight": square}), target)

        ((_, values),) = prepared.writes()
        into = np.zeros((3, 3), np.float32)
        assert np.shares_memory(values(into), into)
        assert into.tolist() == square.T.tolist()
        assert values(None).tolist() == square.T.tolist()
        # A kernel that wrote into its own source would read what it has just written.
        own = square.reshape(-1).view(np.float32)[:9].reshape(3, 3)
        before = square.copy()
        found = values(own)
        assert not np.shares_memory(found, own)
        assert found.tolist() == before.T.tolist()
        assert square.tolist() == before.tolist()

    def test_values_are_read_one_at_a_time_and_only_when_asked_for(self):
        read = []

        def reading(name):
            one = tensor(name, np.ones(1, "float32"))
            return type(one)(name, (1,), "float32", lambda: read.append(name) or one.read())

        source = source_of([reading("a.weight"), reading("b.weight")])
        target = target_of(layer("a", "Scale", {"w": (1,)}), layer("b", "Scale", {"w": (1,)}))
        prepared = check_plan(
            Plan(tuple(Assignment(f"{name}/0", Tensor(f"{name}.weight"), "") for name in "ab")),
            source, target)

        assert read == []
        next(prepared.arrays())
        assert read == ["a.weight"]


class TestCallbacks:
    def plan(self, function, count=1):
        callback = LayerCallback("d", (Tensor("a.weight"),), (UserCall("'d'", function),), count)
        return Plan(
            tuple(
                Assignment(f"d/{index}", CallbackOutput(callback, index), "callback")
                for index in range(count)))

    SOURCE = source_of({"a.weight": np.arange(4, dtype="float32")})
    TARGET = target_of(layer("d", "Custom", {"first": (2,), "second": (2,)}))

    def test_each_call_runs_once_and_its_hits_are_listed(self):
        runs = []

        def halves(arrays):
            runs.append(1)
            return [arrays[0][:2], arrays[0][2:]]

        prepared = check_plan(self.plan(halves, 2), self.SOURCE, self.TARGET)

        assert {variable.name: array.tolist() for variable, array in prepared.arrays()
               } == {"first": [0, 1], "second": [2, 3]}
        assert runs == [1]
        assert prepared.callback_hits == {"'d'": ("d",)}

    def test_a_buffer_that_a_callback_fills_again_and_again_is_copied_each_time(self):
        buffer = np.zeros(2, "float32")

        def fill(arrays):
            buffer[:] = arrays[0][0]
            return [buffer]

        source = source_of(
            {"a.weight": np.array([1], "float32"), "b.weight": np.array([2], "float32")})
        target = target_of(layer("a", "Custom", {"w": (2,)}), layer("b", "Custom", {"w": (2,)}))
        outputs = [
            CallbackOutput(
                LayerCallback(name, (Tensor(f"{name}.weight"),), (UserCall("''", fill),), 1), 0)
            for name in "ab"
        ]

        result = values_by_label(
            Plan((Assignment("a/0", outputs[0], ""), Assignment("b/0", outputs[1], ""))), source,
            target)

        assert {label: array.tolist() for label, array in result.items()
               } == {"a/w": [1, 1], "b/w": [2, 2]}

    def test_the_wrong_number_of_arrays_is_named_with_layer_and_key(self):
        problem = problems_of(self.plan(lambda arrays: arrays, 2), self.SOURCE, self.TARGET)[0]

        assert "layer 'd' has 2 variables" in problem
        assert "its callbacks ('d') returned 1 arrays of shapes [(4,)]" in problem

    def test_arrays_of_the_wrong_shape_are_all_named(self):
        problems = problems_of(self.plan(lambda arrays: [arrays[0], arrays[0][:3]], 2), self.SOURCE,
                               self.TARGET)

        assert ["(4,)" in problems[0], "(3,)" in problems[1], len(problems)] == [True, True, 2]

    def test_a_callback_that_returns_no_arrays_is_one_problem_among_others(self):
        source = source_of(
            {"a.weight": np.ones(4, "float32"), "left.weight": np.ones(1, "float32")})

        problems = problems_of(self.plan(lambda arrays: None, 2), source, self.TARGET)

        assert ["NoneType" in problems[0], "'left.weight'" in problems[1]] == [True, True]

    def test_float64_results_are_rounded_to_the_variable_and_reported(self):
        prepared = check_plan(
            self.plan(lambda arrays: [arrays[0][:2] + np.float64(0.1),
                                      np.full(2, 0.1)], 2), self.SOURCE, self.TARGET)

        assert {array.dtype.name for _, array in prepared.arrays()} == {"float32"}
        assert any("float64 to float32" in warning for warning in prepared.warnings)

    def test_an_exception_of_the_user_passes_with_its_own_type(self):
        def fail(arrays):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            check_plan(self.plan(fail, 2), self.SOURCE, self.TARGET)


@pytest.mark.parametrize("strict", ["Target", None, 1])
def test_another_strictness_is_refused_and_not_taken_for_a_weaker_one(strict):
    with pytest.raises(ValueError, match='strict must be True, False or "target", got'):
        check_plan(Plan(()), source_of({}), target_of(), strict=strict)
