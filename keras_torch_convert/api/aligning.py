"""From two sides to a Plan without being told: by running both models, or for weights alone by
shapes, names and order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..alignment.assemble import with_both_sides
from ..alignment.by_hand import plan_from_mapping
from ..alignment.dictionaries import ClassicDictionaries, dictionaries_of
from ..alignment.parts import LayerSelection
from ..errors import AlignmentError, ClassCountError
from ..keras_io.model import read_target
from ..plan.executor import Strict
from ..plan.plan import Plan, check_is_plan
from ..rules.families.attention import is_attention
from ..rules.families.position_tables import Resize
from ..spec.source import Source
from ..spec.target import Target
from ..torch_io.reader import read as read_source

if TYPE_CHECKING:
    from ..alignment.activations.search import Alignment
    from ..alignment.static.proposal import StaticAlignment
    from ..running.input_pair import Call, InputPair


def align(source: Any, target: Any, *, sample: Any = None, torch_call: Call | None = None,
          keras_call: Call | None = None, hints: Mapping[str, str] | None = None,
          accept_unproven: bool = False,
          mapping: Mapping[str, LayerSelection | Sequence[LayerSelection]] | None = None,
          skip_weights: Sequence[str] = ("num_batches_tracked",),
          additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None,
          skip_layers: Sequence[str] = (), keep_layers: Sequence[str] = (),
          resize: Resize = None) -> Plan:
    """Find out which torch weight belongs where, by running both models on randomized copies of
    their weights.

    `source` is a torch module, `target` a Keras 3 or tf_keras model; both are left exactly as they
    are. A state dict or a checkpoint cannot be run: it is aligned by shapes, names and order, which
    proves nothing and which `accept_unproven=True` must allow; the error without it shows the
    proposal. `sample` is one array in the Keras layout, or (torch inputs, Keras inputs); by default
    inputs are made from the Keras model's own specs. `torch_call(model, inputs)` and
    `keras_call(model, inputs)` say how a model is run when it takes more than its inputs, or when
    only a part of it is meant. `hints` are {"keras layer or variable": "torch layer or tensor"}
    that settle what cannot be told. With `accept_unproven` weights that no output proves are paired
    by their names.

    With `mapping` nothing is found out: it gives for each Keras layer its torch layer, or the list
    of them when it holds several. A Keras layer goes by its name, a layer inside another by its
    label ("block/attn"); a torch layer by its name without the last part ("layer1.0.conv1"), one
    tensor by its whole name ("cls_token"). Layers that are fused on one side only are given as
    `split("attn.qkv", part=0, of=3)`, "attn.qkv[0:64]" (rows of every tensor), or `concat("attn.q",
    "attn.k", "attn.v")`, layers that Keras holds as one bank as `stack(...)`; one torch layer may
    fill several Keras layers, as tied weights do. The last five arguments belong to `mapping`:
    tensors whose last part is in `skip_weights` are left out, `additional_transfer` is that of the
    classic functions, `skip_layers` are torch layers to leave out, `keep_layers` Keras layers that
    keep their own values ("*" stands for any text): a head for another number of classes goes into
    both. `resize`, "bicubic" or "bilinear", says how position tables for another image size are
    resized; by default none is. Every pair is checked as in any other conversion.

    Raises AlignmentError, with what is open and the best candidates, when a weight of the Keras
    model finds no partner, and PredictionError when a model cannot be run. With a mapping:
    AlignmentError for unknown names, with the nearest ones, and TransferError listing all pairs
    that do not fit.
    """
    from ..running.inputs import InputRequest, input_pair

    source = source if isinstance(source, Source) else read_source(source)
    target = target if isinstance(target, Target) else read_target(target, sample=sample)
    if mapping is not None:
        return plan_from_mapping(source, target, mapping, skip_weights=skip_weights,
                                 additional_transfer=additional_transfer or {},
                                 skip_layers=skip_layers, keep_layers=keep_layers, resize=resize)
    for name, given in (("additional_transfer", additional_transfer), ("skip_layers", skip_layers),
                        ("keep_layers", keep_layers), ("resize", resize)):
        if given:
            raise ValueError(
                f"{name}= belongs to mapping=: without a mapping the layers are found by running "
                "both models")
    if source.module is None:
        plan, _ = aligned_statically(source, target, hints or {}, accept_unproven)
    else:
        inputs = input_pair(source.module, target, InputRequest(sample, torch_call, keras_call))
        plan, _ = aligned_by_running(source, target, inputs, hints or {}, accept_unproven)
    return with_both_sides(plan, source, target)


def classic_dictionaries(plan: Plan, source: Any, keras_model: Any) -> ClassicDictionaries:
    """Find what to tell `keras_reload_from_torch_model` so that it aligns as a Plan does.

    The shortest dictionaries found, checked by running them. `source` is the torch side and
    `keras_model` the Keras model that the Plan was made for. The result prints as a call that is
    ready to paste; where dictionaries cannot say it, its `reason` says why, and `names` is the
    order for `specific_match_func`.
    """
    check_is_plan(plan)
    source = source if isinstance(source, Source) else read_source(source)
    whole, expanded = (
        read_target(keras_model, expand_nested=each, whole=is_attention) for each in (False, True))
    return dictionaries_of(plan, source, whole, expanded)


def aligned_by_running(source: Source, target: Target, inputs: InputPair, hints: Mapping[str, str],
                       accept_unproven: bool, strict: Strict = True) -> tuple[Plan, Alignment]:
    """Run both models and see which layer is which, also where the models differ.

    Raises AlignmentError, with the reasons, when a Keras layer finds no torch layer, or when the
    models differ and weights are left over (with `strict=True`); PredictionError when a model
    cannot be run.
    """
    from ..alignment.activations.search import align_by_running, refusal

    with inputs.failures_reported():
        plan, alignment = align_by_running(source, target, inputs, hints, accept_unproven)
    if not alignment.open and not (strict is True and alignment.differs and alignment.left_over):
        return plan, alignment
    refused = refusal(alignment, target)
    if advice := on_other_classes(alignment, source, target):
        raise ClassCountError(f"{refused}\n{advice}")
    raise with_cause(refused, source, target, inputs, plan, alignment, hints)


def on_other_classes(alignment: Alignment, source: Source, target: Target) -> str:
    """What to try when the only open layer differs from the only torch layer without a place in its
    number of outputs alone; "" for every other case.
    """
    if len(alignment.open) != 1 or len({name.rpartition(".")[0] for name in alignment.left_over
                                       }) != 1:
        return ""
    leaf = next(leaf for leaf in target.leaves() if leaf.display_name in alignment.open)
    kernel = next((variable.shape for variable in leaf.variables if len(variable.shape) > 1), ())
    for name in alignment.left_over:
        shape = source[name].shape
        if len(shape) == len(kernel) > 1 and shape[0] != kernel[-1] and sorted(shape[1:]) == sorted(
                kernel[:-1]):
            return (f"'{leaf.display_name}' has {kernel[-1]} outputs, '{name}' {shape[0]}: for a "
                    "head of another number of classes align two models of one "
                    "number, leave it out by name, plan = "
                    f"ktc.align(...).without('{leaf.display_name}'), and give that as plan= with "
                    "verify=False")
    return ""


def with_cause(error: AlignmentError, source: Source, target: Target, inputs: InputPair, plan: Plan,
               alignment: Alignment, hints: Mapping[str, str]) -> AlignmentError:
    """The refusal with what has no counterpart and the place where the models part, as far as that
    is known.
    """
    from ..diagnosis.description import internal_error
    from ..diagnosis.unaligned import why_open

    try:
        sentences = why_open(source, target, inputs, plan, alignment, hints)
    except Exception as failure:
        return AlignmentError(f"{error}\n({internal_error(failure)})")
    return AlignmentError("\n".join([str(error), *sentences]))


def aligned_statically(source: Source, target: Target, hints: Mapping[str, str], accepted: bool,
                       resize: Resize = None,
                       strict: Strict = True) -> tuple[Plan, StaticAlignment]:
    """By shapes, names and order. AlignmentError, which shows what was found, when that is not
    accepted or a Keras layer finds nothing.
    """
    from ..alignment.static.proposal import align_statically, refusal_open, refusal_unproven

    plan, found = align_statically(source, target, hints, resize)
    if not accepted:
        raise refusal_unproven(found, source, target)
    if found.open and strict:
        raise refusal_open(found, target)
    return plan, found
