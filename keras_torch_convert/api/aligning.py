"""`align`: from two sides to a Plan by running both models; for weights alone by shapes, names and
order; or by a mapping.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..alignment.assemble import with_both_sides
from ..alignment.by_order import PairingOptions
from ..alignment.dictionaries import ClassicDictionaries, dictionaries_of
from ..alignment.mapping import plan_from_mapping
from ..alignment.parts import LayerSelection
from ..errors import AlignmentError, ClassCountError, PredictionError, TransferError
from ..keras_io.model import read_target
from ..plan.difference import LEFT_OUT, in_terms_of
from ..plan.executor import Strict, check_plan
from ..plan.plan import Plan, check_is_plan
from ..rules.families.attention import is_attention
from ..rules.families.position_tables import Resize
from ..running.unchanged import watched
from ..spec.layer_groups import last_part
from ..spec.source import Source
from ..spec.target import Target, TargetLayer
from ..torch_io.reader import read as read_source
from ..torch_io.stored_names import with_stored_names
from ..util.time_limit import DEFAULT_TIME_LIMIT, TimeLimit

if TYPE_CHECKING:
    from ..alignment.activations.outcome import Alignment
    from ..alignment.static.proposal import StaticAlignment
    from ..running.input_pair import Call, InputPair

# Of the time limit; the rest is for the causes where the search does not come to an end.
PART_FOR_THE_SEARCH = 2 / 3


# The parameters are public, and most of the lines say what they mean.
def align(source: Any, target: Any, *, sample: Any = None, torch_call: Call | None = None,
          keras_call: Call | None = None, hints: Mapping[str, str] | None = None,
          accept_unproven: bool = False,
          mapping: Mapping[str, LayerSelection | Sequence[LayerSelection]] | None = None,
          skip_weights: Sequence[str] = ("num_batches_tracked",),
          additional_transfer: Mapping[Any, Callable[[list[Any]], list[Any]]] | None = None,
          skip_layers: Sequence[str] = (), keep_layers: Sequence[str] = (), resize: Resize = None,
          time_limit: float | None = DEFAULT_TIME_LIMIT, fold_norms: bool = False) -> Plan:
    """Find out which torch weight belongs where, or write down what the caller says.

    Without `mapping` both models are run on randomized copies of their weights, and each Keras
    layer gets the torch layer that computes the same. A state dict or a checkpoint cannot be run:
    it is aligned by shapes, names and order, which proves nothing. Both models stay as they are.

    With `mapping` nothing is searched. A Keras layer goes by its name, a layer inside another by
    its display name ("block/attn"); a torch layer goes by its name without the last part
    ("layer1.0.conv1"), one tensor by its whole name ("cls_token"). One torch layer may fill several
    Keras layers, as tied weights do. Every pair is checked as in any other conversion.

    Args:
        source: A torch module, a state dict, or the path of a checkpoint.
        target: A Keras 3 or tf_keras model.
        sample: One array in the Keras layout with its batch, or (torch inputs, Keras inputs).
            Default: made from the input specs of the Keras model.
        torch_call: `torch_call(model, inputs)` runs the torch model, if it takes more than its
            inputs or only a part of it is meant. Arrays reach it as tensors; without a sample it
            gets its inputs as the Keras model takes them.
        keras_call: The same for the Keras model.
        hints: Keras layer or variable to torch layer or tensor, for what running cannot decide.
        accept_unproven: Pair weights that no output proves by their names, and allow a source that
            cannot be run. Without it, the error shows the proposal.
        mapping: Keras layer to torch layer, or to the list of them if it holds several. Parts of
            fused layers are `split(...)`, `concat(...)`, `stack(...)`, or rows as text:
            "attn.qkv[0:64]".
        skip_weights: With `mapping`: tensors to leave out, by the last part of their names.
        additional_transfer: With `mapping`: that of `keras_reload_from_torch_model`.
        skip_layers: With `mapping`: torch layers to leave out; "*" stands for any text.
        keep_layers: With `mapping`: Keras layers that keep their own values; "*" stands for any
            text. A head for another number of classes goes here, the torch head into `skip_layers`.
        resize: With `mapping`: "bicubic" or "bilinear" resizes position tables that were made for
            another image size. Default: they are refused.
        time_limit: Seconds for the search for layers (two thirds of them) and for what keeps it
            from its end; None is no limit.
        fold_norms: Fold each batch norm of torch into the convolution or dense layer before it, for
            a Keras model that has no norms.

    Returns:
        The Plan. The same models always give the same one.

    Raises:
        AlignmentError: A weight of the Keras model finds no partner, or the time is up; the message
            has what is aligned, what is open and the best candidates. Or a name in `mapping` is
            unknown.
        TransferError: Pairs of `mapping` do not fit; `.problems` lists all of them.
        PredictionError: A model cannot be run.

    Example:
        >>> plan = ktc.align(torch_model, keras_model)
        >>> plan.pairs
        (('conv', 'conv'), ('norm', 'norm'), ('head', 'head'))
        >>> mapping = {"conv": "conv", "norm": "norm", "head": "head"}
        >>> ktc.align(torch_model, keras_model, mapping=mapping).lossless
        True
    """
    from ..running.inputs import InputRequest, input_pair

    source = source if isinstance(source, Source) else read_source(source)
    target = target if isinstance(target, Target) else read_target(target, sample=sample)
    if fold_norms and (source.module is None or mapping is not None):
        raise ValueError("fold_norms= is for finding a Plan by running a torch module")
    if mapping is not None:
        return plan_from_mapping(source, target, mapping, PairingOptions(skip_layers, keep_layers),
                                 skip_weights=skip_weights, resize=resize,
                                 additional_transfer=additional_transfer or {})
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
        found = aligned_with_folded_norms if fold_norms else aligned_by_running
        plan, alignment = found(source, target, inputs, hints or {}, accept_unproven,
                                limit=TimeLimit(time_limit))
        for sentence in alignment.changed:
            warnings.warn(sentence, stacklevel=2)
    return with_both_sides(with_stored_names(plan, source), source, target)


def classic_dictionaries(plan: Plan, source: Any, keras_model: Any) -> ClassicDictionaries:
    """Find what to tell `keras_reload_from_torch_model` so that it aligns as a Plan does.

    Args:
        plan: A Plan that aligns the two models.
        source: The torch side that the Plan was made for.
        keras_model: The Keras model that the Plan was made for.

    Returns:
        The shortest dictionaries that were found, checked by running them. They print as a call
        that is ready to paste. If dictionaries cannot say it, `reason` says why, and `names` is the
        order for `specific_match_func`.

    Example:
        >>> print(ktc.classic_dictionaries(plan, torch_model, keras_model))
        # the layers stand in the same order
        keras_reload_from_torch_model(
            torch_model,
            keras_model,
        )
    """
    check_is_plan(plan)
    source = source if isinstance(source, Source) else read_source(source)
    whole, expanded = (
        read_target(keras_model, expand_nested=each, whole=is_attention) for each in (False, True))
    return dictionaries_of(plan, source, whole, expanded)


def aligned_by_running(source: Source, target: Target, inputs: InputPair, hints: Mapping[str, str],
                       accept_unproven: bool, strict: Strict = True,
                       limit: TimeLimit | None = None) -> tuple[Plan, Alignment]:
    """Run both models and see which layer is which, also where the models differ.

    Raises AlignmentError, with the reasons, when a Keras layer finds no torch layer, or when
    weights of torch are left over (with `strict=True`); PredictionError when a model cannot be run.
    """
    from ..alignment.activations.search import align_by_running
    from ..diagnosis.settings import tables_to_blame
    from ..diagnosis.unaligned import refusal, what_is_open

    limit = limit or TimeLimit(DEFAULT_TIME_LIMIT)
    try:
        with watched(source.module) as changed, inputs.failures_reported():
            plan, alignment = align_by_running(source, target, inputs, hints, accept_unproven,
                                               limit.share(PART_FOR_THE_SEARCH))
    except PredictionError as error:
        # Ids that the larger table holds are none of the smaller one.
        tables = [sentence for sentence, _ in tables_to_blame(source, target)]
        if not tables:
            raise
        raise AlignmentError("\n".join([*tables, str(error)])) from error
    alignment.changed = tuple(changed)
    is_left_over = strict is True and bool(
        alignment.left_over) and (alignment.differs or not _is_complete(plan, source, target))
    if not alignment.open and not is_left_over:
        return plan, alignment
    if head := head_of_other_classes(alignment, source, target):
        leaf, why = head
        if strict is False:
            return _without_head(plan, alignment, leaf, why)
        raise ClassCountError(
            f"{why}: build both models with the same number of classes; or convert all but the "
            "head, which then keeps its own values, with strict=False\n"
            f"{what_is_open(source, target, alignment, True)}")
    raise refusal(source, target, inputs, plan, alignment, hints, limit)


def _is_complete(plan: Plan, source: Source, target: Target) -> bool:
    """Whether nothing is left over, once copies of weights that have a place are told by value."""
    try:
        check_plan(plan, source, target)
    except TransferError:
        return False
    return True


def aligned_with_folded_norms(source: Source, target: Target, inputs: InputPair,
                              hints: Mapping[str,
                                             str], accept_unproven: bool, strict: Strict = True,
                              limit: TimeLimit | None = None) -> tuple[Plan, Alignment]:
    """Align as `aligned_by_running` does, with batch norms folded into the layers before them."""
    from ..running.folded_norms import with_folded_norms

    with watched(source.module) as changed, inputs.failures_reported():
        folded, stored = with_folded_norms(source, inputs)
    plan, alignment = aligned_by_running(folded, target, inputs, hints, accept_unproven, strict,
                                         limit)
    alignment.changed = (*changed, *alignment.changed)
    counters = {
        name: "the norm is folded into the layer before it"
        for name in source if name not in folded and last_part(name) == "num_batches_tracked"
    }
    return in_terms_of(replace(plan, dropped={**plan.dropped, **counters}), stored), alignment


def head_of_other_classes(alignment: Alignment, source: Source,
                          target: Target) -> tuple[TargetLayer, str] | None:
    """Return the only open layer, and a sentence about its number of outputs, when it differs from
    the only torch layer without a partner in that alone; None in every other case.
    """
    if len(alignment.open) != 1 or len({name.rpartition(".")[0] for name in alignment.left_over
                                       }) != 1:
        return None
    leaf = next(leaf for leaf in target.leaves() if leaf.display_name in alignment.open)
    kernels = [variable.shape for variable in leaf.variables if len(variable.shape) > 1]
    # A cell has two.
    kernel = kernels[0] if len(kernels) == 1 else ()
    for name in alignment.left_over:
        shape = source[name].shape
        if len(shape) == len(kernel) > 1 and shape[0] != kernel[-1] and sorted(shape[1:]) == sorted(
                kernel[:-1]):
            return leaf, f"'{leaf.display_name}' has {kernel[-1]} outputs, '{name}' {shape[0]}"
    return None


def _without_head(plan: Plan, alignment: Alignment, leaf: TargetLayer,
                  why: str) -> tuple[Plan, Alignment]:
    """Leave a head for another number of classes out."""
    rule = f"{LEFT_OUT}: {why}"
    plan = replace(plan, dropped={**plan.dropped, **dict.fromkeys(alignment.left_over, rule)},
                   kept={**plan.kept, **{one.key: rule for one in leaf.variables}})
    return plan, replace(alignment, open={}, left_over=())


def aligned_statically(source: Source, target: Target, hints: Mapping[str, str], accepted: bool,
                       resize: Resize = None,
                       strict: Strict = True) -> tuple[Plan, StaticAlignment]:
    """Align by shapes, names and order.

    Raises AlignmentError, which shows what was found, when that is not accepted or a Keras layer
    finds nothing.
    """
    from ..alignment.static.proposal import align_statically, refusal_open, refusal_unproven

    plan, found = align_statically(source, target, hints, resize)
    if not accepted:
        raise refusal_unproven(found, source, target)
    if found.open and strict:
        raise refusal_open(found, target)
    return plan, found
