"""Generated modules: the same values as the Plan, bit for bit, and as strict."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from keras_torch_convert.errors import PlanError
from keras_torch_convert.plan.evaluation import Evaluation
from keras_torch_convert.plan.expressions import Add, Concat, Fill, Multiply, Slice, Tensor
from keras_torch_convert.plan.plan import FamilyPlan
from keras_torch_convert.plan.recipe import Stored
from tests.helpers.family_members import Member, decoder, stages
from tests.helpers.transfer import source_of


def module(family: FamilyPlan, style: str = "numpy") -> Any:
    made = ModuleType("generated")
    exec(compile(family.to_python("test", style), "generated.py", "exec"), made.__dict__)
    return made


def arrays(member: Member) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(3)
    return {name: draw.normal(size=shape).astype("float32")
            for name, shape in member.shapes.items()}  # yapf: disable


def shapes(member: Member) -> dict[str, tuple[int, ...]]:
    return {spec.display_name: spec.shape for spec in member.plan.targets.values()}


@dataclass
class Variable:
    """What a converter of keras-hub sees of a variable."""

    path: str
    shape: tuple[int, ...]
    value: Any = None

    def assign(self, value: Any) -> None:
        """Take values, once."""
        assert self.value is None
        if value.shape != self.shape:
            raise ValueError(f"{self.path} is {self.shape}, not {value.shape}")
        self.value = value


@dataclass
class Backbone:
    """What a converter of keras-hub sees of a model."""

    weights: list[Variable]
    name: str = "backbone"


@dataclass
class Loader:
    """A loader of keras-hub over arrays."""

    source: Mapping[str, Any]
    safetensor_config: None = None

    @property
    def safetensor_files(self) -> dict[str, Any]:
        """The files that are open."""
        return {"model.safetensors": self.source}

    def get_prefixed_key(self, hf_weight_key: str, dict_like: Any) -> str:
        """Return a name as it stands in the file."""
        assert set(dict_like) == set(self.source)
        return hf_weight_key

    def get_tensor(self, hf_weight_key: str) -> Any:
        """Return a tensor."""
        return self.source[hf_weight_key]

    def port_weight(self, keras_variable: Variable, hf_weight_key: str,
                    hook_fn: Any = None) -> None:
        """Assign what the hook makes of a tensor."""
        value = self.get_tensor(hf_weight_key)
        keras_variable.assign(hook_fn(value, list(keras_variable.shape)) if hook_fn else value)


def ported(made: Any, source: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What a converter of keras-hub gives for variables with these shapes."""
    backbone = Backbone([Variable(f"backbone/{path}", shape) for path, shape in wanted.items()])
    made.convert_weights(backbone, Loader(source), {})
    return {one.path.removeprefix("backbone/"): one.value for one in backbone.weights}


def check(family: FamilyPlan, member: Member) -> None:
    source, wanted = arrays(member), shapes(member)
    evaluation = Evaluation(source_of(source))
    for found in (module(family).convert(source,
                                         wanted), ported(module(family, "keras-hub"), source,
                                                         wanted)):
        assert set(found) == set(member.expected)
        for label, expression in member.expected.items():
            np.testing.assert_array_equal(found[label],
                                          evaluation.values(expression, "float32", label))


@pytest.mark.parametrize("member", [stages(2, 2), stages(1, 3, 2, width=12)])
def test_stages_of_blocks(member: Member) -> None:
    check(stages(2, 2).plan.generalize(), member)


@pytest.mark.parametrize("member", [
    decoder(), decoder(5), decoder(3, 6, 2, 10, 5, 30), decoder(2, 4, 1)])  # yapf: disable
def test_fused_tensors_experts_and_automatic_names(member: Member) -> None:
    # The heads are three times the groups, so that no start of a part could be another size.
    check(decoder(2, 6, 2).plan.generalize(), member)


def test_letters_sums_and_constants() -> None:
    def made(layers: int) -> Member:
        member = Member()
        for i in range(layers):
            letter = chr(ord("a") + i)
            member.add(
                f"block1{letter}_lstm/bias",
                Add((member.tensor(f"rnn.bias_ih_l{i}", 8), member.tensor(f"rnn.bias_hh_l{i}", 8))))
            member.add(f"block1{letter}_norm/gamma", Fill(1.0, (8,)))
            pair = member.tensor(f"b.{i}.up.weight", 4,
                                 8), member.tensor(f"b.{i}.gate.weight", 2, 8)
            member.add(f"block1{letter}_dense/kernel", Concat(pair, 0))
        table = member.tensor("table.weight", 2, 6)
        member.add("table/embeddings", Multiply((Slice(table, 0, 0, 1), Fill(1.0, (5, 1)))))
        return member

    check(made(2).plan.generalize(), made(4))


@pytest.mark.parametrize("family", [stages(2, 2), decoder()], ids=["stages", "decoder"])
def test_the_module_is_as_strict(family: Member) -> None:
    learned, source = module(family.plan.generalize()), arrays(family)
    wanted = shapes(family)
    name = list(source)[len(source) // 2]
    with pytest.raises(KeyError, match="the checkpoint has no"):
        learned.convert({key: one for key, one in source.items() if key != name}, wanted)
    with pytest.raises(ValueError, match="left over"):
        learned.convert({**source, "extra": source[name]}, wanted)
    with pytest.raises((ValueError, IndexError)):
        learned.convert({**source, name: source[name][..., :-1]}, wanted)
    key = list(wanted)[-1]
    with pytest.raises(ValueError, match="left over"):
        learned.convert(source, {one: wanted[one] for one in wanted if one != key})


@pytest.mark.parametrize("family", [stages(2, 2), decoder()], ids=["stages", "decoder"])
def test_a_converter_of_keras_hub_leaves_no_variable_out(family: Member) -> None:
    learned, source = module(family.plan.generalize(), "keras-hub"), arrays(family)
    wanted = shapes(family)
    with pytest.raises(ValueError, match=r"nothing is ported to \['extra/kernel'\]"):
        ported(learned, source, {**wanted, "extra/kernel": (2, 2)})
    name, key = list(source)[len(source) // 2], next(iter(wanted))
    with pytest.raises((KeyError, ValueError)):
        ported(learned, {one: source[one] for one in source if one != name}, wanted)
    with pytest.raises((KeyError, ValueError)):
        ported(learned, source, {one: wanted[one] for one in wanted if one != key})


def test_a_converter_of_keras_hub_keeps_what_the_family_keeps() -> None:
    family = replace(stages(2, 2).plan.generalize(), kept={"rotary_{}/table": "it is computed"})
    source, wanted = arrays(stages(2, 2)), shapes(stages(2, 2))
    found = ported(module(family, "keras-hub"), source, {**wanted, "rotary_1/table": (4, 2)})
    assert {path for path, value in found.items() if value is None} == {"rotary_1/table"}


def test_a_converter_of_keras_hub_refuses_variables_of_one_path() -> None:
    made, source = module(stages(1).plan.generalize(), "keras-hub"), arrays(stages(1))
    twins = [Variable(path, shape) for path, shape in shapes(stages(1)).items()] * 2
    with pytest.raises(ValueError, match="two variables have one path"):
        made.convert_weights(Backbone(twins), Loader(source), {})


def test_a_converter_reads_as_those_of_keras_hub() -> None:
    text = stages(2, 2).plan.to_python("stages", "keras-hub")
    assert """
    loader.port_weight(
        keras_variable=variables.pop("head/kernel"),
        hf_weight_key="fc.weight",
        hook_fn=lambda x, _: x.transpose(1, 0),
    )
    loader.port_weight(
        keras_variable=variables.pop("head/bias"),
        hf_weight_key="fc.bias",
    )
""" in text


def test_a_converter_knows_the_names_of_the_hub() -> None:
    plan = stages(2, 2).plan
    renamed = {name: name.replace("layer", "stages.") for name in plan.sources}
    stored = Stored({name: Tensor(new) for name, new in renamed.items()},
                    {new: plan.sources[name] for name, new in renamed.items()})
    text = replace(plan, stored=stored).to_python("stages", "keras-hub")
    assert 'prefix = f"stages.{i}.{j}"' in text
    assert "layer{i}" not in replace(plan, stored=stored).to_python("stages", "keras-hub")
    assert 's = f"layer{i}.{j}"' in replace(plan, stored=stored).to_python("stages")


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(PlanError, match=r"style must be one of \['numpy', 'keras-hub'\]"):
        stages(2, 2).plan.to_python("stages", "keras")


def test_parts_must_tile_their_tensor() -> None:
    # Learned from twice as many heads as groups, a start could be several sizes. The one that is
    # written is right for other ratios too, and the module would notice another one.
    family, member = decoder(2, 4, 2).plan.generalize(), decoder(2, 8, 1)
    check(family, member)
    text = family.to_python()
    assert ", behind=1)" in text
    made = ModuleType("changed")
    exec(text.replace(", behind=1)", ", behind=2)"), made.__dict__)
    with pytest.raises(ValueError, match="do not tile"):
        made.convert(arrays(member), shapes(member))
    exec(family.to_python(style="keras-hub").replace(", behind=1)", ", behind=2)"), made.__dict__)
    with pytest.raises(ValueError, match="do not tile"):
        ported(made, arrays(member), shapes(member))


def test_the_module_is_clean_and_needs_numpy_alone(tmp_path: Path) -> None:
    for number, member in enumerate((stages(2, 2), decoder())):
        text = member.plan.to_python("test")
        file = tmp_path / f"module_{number}.py"
        file.write_text(text)
        converter = tmp_path / f"converter_{number}.py"
        converter.write_text(member.plan.to_python("test", "keras-hub"))
        assert [line for line in text.splitlines() if line.startswith(("import", "from"))
               ] == ["import re", "import numpy as np"]
    subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", tmp_path],
                   check=True)


def test_what_follows_from_neighbors_has_no_module() -> None:
    flat, number = Member(), 0
    for stage in range(2):
        for block in range(2 + stage):
            number += 1
            flat.dense(f"block_{number}_dw", f"blocks.{stage}.{block}.conv_dw", 8, 8)
    with pytest.raises(PlanError, match="follows from its neighbors alone; use the family itself"):
        flat.plan.to_python()
