"""Fused on one side and split on the other, tied and shared weights: each value has one place, and
none is left out unseen.
"""

import numpy as np
import pytest

import keras_torch_convert as ktc
from keras_torch_convert.errors import AlignmentError, TransferError
from keras_torch_convert.plan.executor import check_plan
from keras_torch_convert.plan.expressions import Slice, Tensor
from keras_torch_convert.plan.plan import Plan
from keras_torch_convert.plan.recipe import Assignment
from tests.helpers.small_models import randomized
from tests.helpers.transfer import layer, source_of, target_of, tensor, values_by_label


def counted(*shape, start=0):
    return (np.arange(np.prod(shape), dtype="float32") + start).reshape(shape)


FUSED = source_of({"attn.qkv.weight": counted(6, 4), "attn.qkv.bias": counted(6, start=100)})
SPLIT = target_of(*(layer(name, "Dense", {"kernel": (4, 2), "bias": (2,)}) for name in "qkv"))
PARTS = {name: ktc.split("attn.qkv", part, 3) for part, name in enumerate("qkv")}


class TestFusedToSplit:
    def test_rows_of_every_tensor_of_the_layer_go_to_each_keras_layer(self):
        values = values_by_label(ktc.align(FUSED, SPLIT, mapping=PARTS), FUSED, SPLIT)

        for part, name in enumerate("qkv"):
            np.testing.assert_array_equal(values[f"{name}/kernel"],
                                          counted(6, 4)[2 * part:2 * part + 2].T)
            np.testing.assert_array_equal(values[f"{name}/bias"],
                                          counted(6, start=100)[2 * part:2 * part + 2])

    def test_rows_may_be_written_as_text(self):
        as_text = {name: f"attn.qkv[{2 * part}:{2 * part + 2}]" for part, name in enumerate("qkv")}

        plans = [ktc.align(FUSED, SPLIT, mapping=mapping) for mapping in (PARTS, as_text)]

        assert [one.expression for one in plans[0].assignments
               ] == [one.expression for one in plans[1].assignments]

    def test_rows_of_unequal_parts_as_grouped_attention_has_them(self):
        target = target_of(layer("q", "Dense", {"kernel": (4, 4)}),
                           layer("kv", "Dense", {"kernel": (4, 2)}))
        source = source_of({"qkv.weight": counted(6, 4)})

        values = values_by_label(
            ktc.align(source, target, mapping={"q": "qkv[0:4]", "kv": "qkv[4:6]"}), source, target)

        np.testing.assert_array_equal(values["kv/kernel"], counted(6, 4)[4:].T)

    def test_groups_say_that_every_head_has_its_query_key_and_value_together(self):
        source = source_of({"qkv.weight": counted(12, 5)})
        target = target_of(*(layer(name, "Dense", {"kernel": (5, 4)}) for name in "qkv"))
        mapping = {name: ktc.split("qkv", part, 3, groups=2) for part, name in enumerate("qkv")}

        values = values_by_label(ktc.align(source, target, mapping=mapping), source, target)

        heads = counted(12, 5).reshape(2, 3, 2, 5)
        np.testing.assert_array_equal(values["k/kernel"], heads[:, 1].reshape(4, 5).T)
        assert not np.array_equal(values["k/kernel"],
                                  counted(12,
                                          5)[4:8].T)  # what blocks one after the other would give

    def test_a_part_without_a_place_is_left_over(self):
        without_v = target_of(*SPLIT.layers[:2])
        plan = ktc.align(FUSED, without_v, mapping={name: PARTS[name] for name in "qk"})

        with pytest.raises(TransferError) as caught:
            check_plan(plan, FUSED, without_v)

        assert "8 of 24 values of 'attn.qkv.weight' (6, 4) are left over" in " ".join(
            caught.value.problems)
        assert "2 of 6 values of 'attn.qkv.bias' (6,) are left over" in " ".join(
            caught.value.problems)
        check_plan(plan, FUSED, without_v, strict="target")

    @pytest.mark.parametrize(
        ("part", "message"),
        [("attn.qkv[4:9]", "has 6 rows along its first axis"),
         ("attn.qkv[2:2]", "has 6 rows along its first axis"),
         ("attn.kqv[0:2]", "no torch layer or tensor is called 'attn.kqv"),
         (ktc.split("attn.qkv", 0,
                    4), "the 6 rows of 'attn.qkv.weight' (6, 4) cannot be cut into 4 equal parts")])
    def test_parts_that_are_not_there_are_refused(self, part, message):
        with pytest.raises(AlignmentError) as caught:
            ktc.align(FUSED, SPLIT, mapping={"q": part})

        assert message in str(caught.value)

    @pytest.mark.parametrize("numbers", [(3, 3), (-1, 3), (0, 0)])
    def test_part_numbers_count_from_zero(self, numbers):
        with pytest.raises(AlignmentError, match="part counts from 0"):
            ktc.split("qkv", *numbers)

    def test_a_name_that_ends_in_brackets_is_a_name_first(self):
        source = source_of({"w[0:2].weight": counted(2, 4)})
        target = target_of(layer("d", "Dense", {"kernel": (4, 2)}))

        assert values_by_label(ktc.align(source, target, mapping={"d": "w[0:2]"}), source,
                               target)["d/kernel"].shape == (4, 2)


class TestSplitToFused:
    SOURCE = source_of(
        {f"{name}.weight": counted(2, 4, start=10 * index) for index, name in enumerate("qkv")})
    TARGET = target_of(layer("qkv", "Dense", {"kernel": (4, 6)}))

    def test_layers_are_joined_along_their_outputs(self):
        plan = ktc.align(self.SOURCE, self.TARGET, mapping={"qkv": ktc.concat("q", "k", "v")})

        values = values_by_label(plan, self.SOURCE, self.TARGET)

        expected = np.concatenate([counted(2, 4, start=10 * index) for index in range(3)]).T
        np.testing.assert_array_equal(values["qkv/kernel"], expected)

    def test_another_order_gives_other_values(self):
        plans = [
            ktc.align(self.SOURCE, self.TARGET, mapping={"qkv": ktc.concat(*names)})
            for names in ("qkv", "kqv")
        ]

        first, second = (
            values_by_label(plan, self.SOURCE, self.TARGET)["qkv/kernel"] for plan in plans)

        assert not np.array_equal(first, second)

    def test_groups_put_some_rows_of_each_into_every_group(self):
        plan = ktc.align(self.SOURCE, self.TARGET,
                         mapping={"qkv": ktc.concat("q", "k", "v", groups=2)})

        rows = values_by_label(plan, self.SOURCE, self.TARGET)["qkv/kernel"].T

        assert rows[:, 0].tolist() == [0, 10, 20, 4, 14, 24]

    def test_tensors_of_several_types_are_each_cast_before_they_are_joined(self):
        source = source_of({
            "q.weight": np.full((2, 4), 0.5, "float16"), "k.weight": np.full(
                (2, 4), 0.1, "float64"), "v.weight": np.full((2, 4), 3, "int8")
        })
        plan = ktc.align(source, self.TARGET, mapping={"qkv": ktc.concat("q", "k", "v")})

        prepared = check_plan(plan, source, self.TARGET)
        ((_, values),) = prepared.arrays()

        assert values.T[:, 0].tolist() == [0.5, 0.5, np.float32(0.1), np.float32(0.1), 3, 3]
        assert prepared.warnings == ("float64 to float32: 8 of 8 values rounded, in 'qkv/kernel'",)

    def test_layers_of_different_tensors_cannot_be_joined(self):
        source = source_of(
            {"q.weight": counted(2, 4), "k.weight": counted(2, 4), "k.bias": counted(2)})

        with pytest.raises(AlignmentError, match="the layers hold different tensors"):
            ktc.align(source, self.TARGET, mapping={"qkv": ktc.concat("q", "k")})

    @pytest.mark.parametrize(
        "mapping",
        [{"qkv": ktc.concat("q", "k", "v")}, {"qkv": ktc.concat("q", "k", "v", groups=2)}])
    def test_it_comes_back_split(self, mapping):
        plan = ktc.align(self.SOURCE, self.TARGET, mapping=mapping)
        values = values_by_label(plan, self.SOURCE, self.TARGET)

        parts = values_by_label(
            Plan(
                tuple(
                    Assignment(f"t/{index}", one.expression, "")
                    for index, one in enumerate(plan.invert().assignments))),
            source_of({"qkv/0": values["qkv/kernel"]}),
            target_of(layer("t", "Module", dict.fromkeys("qkv", (2, 4)))))

        for index, name in enumerate("qkv"):
            np.testing.assert_array_equal(parts[f"t/{name}"], counted(2, 4, start=10 * index))


class TestOnModels:
    def test_fused_projections_of_a_gated_network_are_equal_and_in_the_wrong_order_not(self):
        import keras
        import torch

        class Gated(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.gate_up = torch.nn.Linear(6, 16)
                self.down = torch.nn.Linear(8, 5)

            def forward(self, x):
                gate, up = self.gate_up(x).chunk(2, -1)
                return self.down(torch.nn.functional.silu(gate) * up)

        inputs = keras.Input((6,))
        gate, up = keras.layers.Dense(8, name="gate")(inputs), keras.layers.Dense(8,
                                                                                  name="up")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(5, name="down")(keras.ops.silu(gate) * up))
        module = randomized(Gated())

        def report(first, second):
            mapping = {
                "gate": ktc.split("gate_up", first, 2), "up": ktc.split("gate_up", second, 2),
                "down": "down"
            }
            return ktc.convert(module, model, plan=ktc.align(module, model, mapping=mapping))

        assert report(0, 1).relative_diff < 1e-5
        with pytest.raises(ktc.NotEqualError) as caught:
            report(1, 0)
        assert caught.value.report.relative_diff > 1e-2


class TestTied:
    TABLE = np.random.default_rng(0).standard_normal((7, 4)).astype("float32")
    EMBEDDING = target_of(layer("embed", "Embedding", {"embeddings": (7, 4)}))
    WITH_HEAD = target_of(*EMBEDDING.layers, layer("head", "Dense", {"kernel": (4, 7)}))

    def statuses(self, source, target, mapping, **options):
        plan = ktc.align(source, target, mapping=mapping)
        return {
            entry.name: (entry.status, entry.rule)
            for entry in check_plan(plan, source, target, **options).ledger
        }

    def test_a_tied_head_that_keras_shares_is_used_with_its_embedding(self):
        source = source_of([
            tensor("embed.weight", self.TABLE, storage=(1,)),
            tensor("lm_head.weight", self.TABLE, storage=(1,))
        ])

        assert self.statuses(source, self.EMBEDDING,
                             {"embed": "embed"})["lm_head.weight"] == ("used",
                                                                       "tied with 'embed.weight'")

    def test_an_untied_copy_of_equal_values_is_used_too(self):
        source = source_of({"embed.weight": self.TABLE, "lm_head.weight": self.TABLE.copy()})

        assert self.statuses(
            source, self.EMBEDDING,
            {"embed": "embed"})["lm_head.weight"] == ("used", "the same values as 'embed.weight'")

    def test_a_head_of_other_values_is_left_over(self):
        other = self.TABLE.copy()
        other[3, 2] += 1e-6
        source = source_of({"embed.weight": self.TABLE, "lm_head.weight": other})

        with pytest.raises(TransferError, match=r"'lm_head\.weight' .* is left over"):
            self.statuses(source, self.EMBEDDING, {"embed": "embed"})

    @pytest.mark.parametrize("values", [np.zeros((7, 4), "float32"), np.zeros(7, "float32")])
    def test_what_is_equal_by_chance_is_no_copy(self, values):
        source = source_of({"embed.weight": values, "lm_head.weight": values.copy()})
        target = target_of(layer("embed", "Scaling", {"table": values.shape}))

        with pytest.raises(TransferError, match=r"'lm_head\.weight' .* is left over"):
            self.statuses(source, target, {"embed": ["embed.weight"]})

    def test_a_head_that_the_file_lacks_takes_the_embedding_transposed(self):
        source = source_of({"embed.weight": self.TABLE})
        plan = ktc.align(source, self.WITH_HEAD, mapping={"embed": "embed", "head": "embed"})

        values = values_by_label(plan, source, self.WITH_HEAD)

        np.testing.assert_array_equal(values["head/kernel"], self.TABLE.T)

    def test_back_to_torch_both_keras_layers_must_still_agree(self):
        source = source_of({"embed.weight": self.TABLE})
        plan = ktc.align(source, self.WITH_HEAD, mapping={"embed": "embed",
                                                          "head": "embed"}).invert()
        module = target_of(layer("embed.weight", "Module", {"weight": (7, 4)}))
        plan = Plan(
            tuple(
                Assignment("embed.weight/0", one.expression, one.rule) for one in plan.assignments))
        agreeing = source_of({"embed/0": self.TABLE, "head/0": self.TABLE.T})

        assert len(list(check_plan(plan, agreeing, module).arrays())) == 1
        with pytest.raises(
                TransferError,
                match="set twice, from 'embed/0' and from 'head/0', whose values differ"):
            check_plan(plan, source_of({"embed/0": self.TABLE, "head/0": self.TABLE.T + 1}), module)

    def test_parts_taken_under_two_names_of_one_tensor_count_together(self):
        source = source_of([
            tensor("a.weight", self.TABLE, storage=(1,)),
            tensor("b.weight", self.TABLE, storage=(1,))
        ])
        target = target_of(layer("d", "Layer", {"x": (3, 4), "y": (4, 4)}))
        plan = Plan((Assignment("d/0", Slice(Tensor("a.weight"), 0, 0, 3),
                                ""), Assignment("d/1", Slice(Tensor("b.weight"), 0, 3, 7), "")))

        assert len(list(check_plan(plan, source, target).arrays())) == 2

    def test_one_keras_layer_called_twice_has_one_place_and_one_torch_tensor_listed_twice_one_value(
            self):
        import keras
        import torch

        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first = torch.nn.Linear(5, 5)
                self.second = self.first

            def forward(self, x):
                return self.second(torch.tanh(self.first(x)))

        shared = keras.layers.Dense(5, name="shared")
        inputs = keras.Input((5,))
        model = keras.Model(inputs, shared(keras.ops.tanh(shared(inputs))))
        module = randomized(Twice())

        report = ktc.convert(module, model, plan=ktc.align(module, model,
                                                           mapping={"shared": "first"}))

        assert report.relative_diff < 1e-5
        assert [entry.status for entry in report.ledger if entry.side == "source"] == ["used"] * 4
        model.set_weights([weight + 1 for weight in model.get_weights()])
        assert ktc.convert(model, module, plan=report.plan).relative_diff < 1e-5
        assert module.second.weight is module.first.weight
