"""A member of which there is a checkpoint alone: its variables follow from the tensors' names,
their shapes from the tensors' shapes as far as they do, and where they lie in a file from the
family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...errors import TransferError
from ...spec.dtypes import numpy_dtype
from ...spec.file_layout import FileLayout, StoredArray, StoredGroup, TargetLayout
from ...spec.source import Source
from ...spec.target import Target, TargetLayer, TargetVariable
from ...spec.tensor_spec import Shape
from ..evaluation import shape_of
from .index_maps import Numbers
from .names import Name
from .patterns import Family, Groups, Pattern
from .stored_paths import missing_in, stored_paths

_BUILD = (
    "make the Keras model, and give it to plan_for(source, keras_model) (on the command line: "
    "`convert CHECKPOINT MODULE:MODEL --plan FAMILY --save-plan PLAN`)")
Shapes = Mapping[str, Shape]


def unbuilt_target(family: Family, source: Source, by_form: Mapping[str, Mapping[Numbers, str]],
                   given: Shapes) -> tuple[Target, TargetLayout]:
    """Return the variables of a member and how its .weights.h5 file looks.

    Args:
        family: The family.
        source: The checkpoint, with names as the family knows them.
        by_form: The names of its tensors by form and numbers.
        given: Shapes of variables that do not follow from it, by form or name.

    Raises:
        TransferError: Something does not follow; `.problems` has everything.
    """
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    dtypes = {one.target: one.dtype for one in family.files}
    problems = [] if family.files else [
        "where variables lie in files is not known to the family, or blocks differ: learn it while "
        f"its Keras models are alive, as ktc.learn_family does, or {_BUILD}"
    ]
    problems += [f"what '{form}' keeps is not in the checkpoint: {_BUILD}" for form in family.kept]
    found: dict[Name, Shape] = {}
    for pattern in family.patterns:
        for name, groups in _variables(pattern, by_form, problems):
            wanted = given.get(str(name), given.get(name.form, pattern.wanted(groups, shapes)))
            fitting = {shape_of(one, shapes) for one in pattern.expressions(groups, shapes, wanted)}
            if len(fitting) == 1:
                found.setdefault(name, *fitting)
            else:
                # All others of the form have the same problem.
                problems.append(
                    f"the shape of '{name.form}' does not follow from '{groups[0][0]}' "
                    f"{shapes[groups[0][0]]}: give shapes={{'{name.form}': ...}}, where it is "
                    f"{_open(wanted)}")
                break
    problems = problems or missing_in(found)
    if problems:
        raise TransferError.of(problems, "the file cannot be written without a model")
    paths = stored_paths(family.files, found)
    variables = tuple(
        TargetVariable(str(name), str(name),
                       str(name).rpartition("/")[2], found[name], dtypes[name.form], True, None)
        for name in paths)
    arrays = tuple(
        StoredArray(f"/{path}", found[name], _stored_dtype(dtypes[name.form]), str(name))
        for name, path in paths.items())
    layout = TargetLayout("keras", "", weights=FileLayout((StoredGroup("/"),), arrays))
    layer = TargetLayer("", "", ("File",), variables, (), 0, {}, None)
    return Target(None, "", "keras", "none", (layer,)), layout


def _variables(pattern: Pattern, by_form: Mapping[str, Mapping[Numbers, str]],
               problems: list[str]) -> Iterator[tuple[Name, Groups]]:
    """Yield the variables whose tensors are there, with these."""
    names = {
        Name(pattern.target, numbers) for leaf, form in enumerate(pattern.forms())
        for own in by_form.get(form, ())
        if (numbers := pattern.target_numbers(leaf, own)) is not None
    }
    if not names and (not pattern.forms() or any(form in by_form for form in pattern.forms())):
        problems.append(f"how many '{pattern.target}' there are follows from no name: {_BUILD}")
    for name in sorted(names):
        groups = pattern.tensors(name.numbers, by_form)
        if groups is not None:
            yield name, groups


def _open(wanted: Sequence[int | None] | None) -> str:
    return str(tuple("?" if extent is None else extent for extent in wanted or ())).replace("'", "")


def _stored_dtype(dtype: str) -> str:
    return "|V2" if dtype == "bfloat16" else numpy_dtype(dtype).str
