"""Members of made-up families on paper: a Plan and both sides, without values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from keras_torch_convert.plan.evaluation import shape_of
from keras_torch_convert.plan.expressions import Concat, Expression, Permute, Reshape, Slice, Tensor
from keras_torch_convert.plan.plan import FamilyPlan, Plan
from keras_torch_convert.plan.recipe import Assignment
from keras_torch_convert.spec.source import Source, SourceTensor
from keras_torch_convert.spec.target import Target, TargetLayer, TargetVariable
from keras_torch_convert.spec.tensor_spec import TensorSpec


@dataclass
class Member:
    """One member under construction; tensors and variables may be changed afterward."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    rows: dict[str, tuple[str, Expression]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    name: str = "model"

    def add(self, label: str, expression: Expression, classes: str = "") -> None:
        """Assign a variable; `classes` are those of its layers, "Group" where none is said."""
        *layers, _ = label.split("/")
        kinds = classes.split("/") if classes else ["Group"] * len(layers)
        key = ""
        for depth, kind in enumerate(kinds, 1):
            place = "/".join(layers[:depth])
            parent = "/".join(layers[:depth - 1])
            number = self.places.setdefault(
                place, sum(one.rpartition("/")[0] == parent for one in self.places))
            key += f"{number}:{kind}/"
        self.rows[key + str(sum(one.startswith(key) for one in self.rows))] = label, expression

    def tensor(self, name: str, *shape: int) -> Tensor:
        """A tensor of the source."""
        self.shapes[name] = shape
        return Tensor(name)

    def dense(self, label: str, name: str, inner: int, outer: int, classes: str = "") -> None:
        """Kernel and bias of a dense layer."""
        kernel = Permute(self.tensor(f"{name}.weight", outer, inner), (1, 0))
        self.add(f"{label}/kernel", kernel, classes)
        self.add(f"{label}/bias", self.tensor(f"{name}.bias", outer), classes)

    @property
    def plan(self) -> Plan:
        """What alignment would find."""
        return Plan(
            tuple(Assignment(key, one, "as told") for key, (_, one) in self.rows.items()),
            sources={name: TensorSpec(shape, "float32", name)
                     for name, shape in self.shapes.items()},
            targets={key: TensorSpec(shape_of(one, self.shapes), "float32", label)
                     for key, (label, one) in self.rows.items()})  # yapf: disable

    @property
    def source(self) -> Source:
        """The checkpoint."""
        return Source(
            {name: SourceTensor(name, shape, "float32", list)
             for name, shape in self.shapes.items()}, "checkpoint")  # yapf: disable

    @property
    def target(self) -> Target:
        """The Keras model."""
        variables = tuple(
            TargetVariable(key, label,
                           label.rpartition("/")[2], shape_of(one, self.shapes), "float32", True,
                           None) for key, (label, one) in self.rows.items())
        layer = TargetLayer(self.name, self.name, ("Member",), variables, (), 0, {}, None)
        return Target(None, self.name, "keras", "torch", (layer,))

    def planned_by(self, family: FamilyPlan, **options: Any) -> dict[str, Expression]:
        """What a family says about this member, by label."""
        plan = family.plan_for(self.source, self.target, **options)
        return {plan.targets[one.key].display_name: one.expression for one in plan.assignments}

    @property
    def expected(self) -> dict[str, Expression]:
        """The truth, by label."""
        return dict(self.rows.values())

    def but(self, **changed: Any) -> Member:
        """A copy with other tensors or rows."""
        return replace(self, **changed)


def stages(*depths: int, width: int = 8) -> Member:
    """Stages of blocks; the first block of all stages but the first has a transition."""
    made = Member()
    made.dense("stem", "stem.0", 3, width)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            label, name = f"stage{stage + 1}_block{block}", f"layer{stage + 1}.{block}"
            inner = width * 2**max(stage - (block == 0), 0)
            outer = width * 2**stage
            made.dense(f"{label}_conv1", f"{name}.conv1", inner, outer)
            made.dense(f"{label}_conv2", f"{name}.conv2", outer, outer)
            if stage and not block:
                made.dense(f"{label}_transition", f"{name}.downsample.0", inner, outer)
    made.dense("head", "fc", width * 2**(len(depths) - 1), 10)
    return made


def decoder(layers: int = 2, heads: int = 4, groups: int = 2, size: int = 8, experts: int = 3,
            positions: int = 12) -> Member:
    """A decoder with one fused tensor for queries, keys and values, a bank of experts in each
    layer, each of which is a layer on the other side, and a position table whose first two rows
    are for padding. Keras made up the names of the experts' layers.
    """
    made, width = Member(), heads * size
    table = made.tensor("embed.positions.weight", positions + 2, width)
    made.add("positions/embeddings", Slice(table, 0, 2, positions + 2))
    for i in range(layers):
        qkv = made.tensor(f"layers.{i}.attn.qkv.weight", (heads + 2 * groups) * size, width)
        start = 0
        for part, count in (("query", heads), ("key", groups), ("value", groups)):
            rows = Slice(qkv, 0, start, start + count * size)
            start += count * size
            made.add(f"layer_{i}/attention/{part}/kernel",
                     Permute(Reshape(rows, (count, size, width)), (2, 0, 1)))
        bank = tuple(
            Reshape(made.tensor(f"layers.{i}.experts.{e}.up.weight", 2
                                * width, width), (1, 2 * width, width)) for e in range(experts))
        counter = f"_{i + 5}" if i else ""
        made.add(f"layer_{i}/expert_bank{counter}/kernel", Permute(Concat(bank, 0), (0, 2, 1)),
                 "Group/ExpertBank")
        for part in ("before", "after"):
            made.add(f"layer_{i}/norm_{2 if part == 'after' else 1}/scale",
                     made.tensor(f"layers.{i}.norm_{part}.weight", width))
    return made
