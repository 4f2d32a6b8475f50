"""All rules: looked up by the class of a Keras layer, and shown as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ..errors import PluginError
from ..spec.target import TargetLayer
from ..util.plugins import RULES as PLUGINS
from ..util.plugins import plugins
from . import families
from .rule import Rule

# Every file of a family is found by being there: a new kind of layer needs no other file.
_FAMILIES = [
    import_module(f"{families.__name__}.{one.name}") for one in iter_modules(families.__path__)
]

# Rules that a layer follows because of its class.
RULES: tuple[Rule, ...] = tuple(rule for one in _FAMILIES for rule in getattr(one, "RULES", ()))
# Rules that depend on more: an equation, a module, the layers around, what the user says.
CONDITIONAL_RULES: tuple[Rule, ...] = tuple(
    rule for one in _FAMILIES for rule in getattr(one, "CONDITIONAL_RULES", ()))

# Keras layers without a rule whose variables are laid out in a way of their own.
_UNSUPPORTED = {
    "ConvLSTMCell": "its gates and biases", "LocallyConnected1D": "its locations",
    "LocallyConnected2D": "its locations", "SpectralNormalization": "its normalized kernel"
}
_RULE_OF_CLASS = {
    name: Rule(name, (name,), "", unlike_torch=what) for name, what in _UNSUPPORTED.items()
} | {name: rule for rule in RULES for name in rule.class_names}


@cache
def plugin_rules() -> tuple[Rule, ...]:
    """Return the rules that other packages register, each for classes of their own.

    Raises PluginError for anything else.
    """
    found: list[Rule] = []
    owners = dict.fromkeys(_RULE_OF_CLASS, "keras_torch_convert")
    for name, package, value in plugins(PLUGINS):
        where = f"{package} registers {name!r} in {PLUGINS}"
        rules = [value] if isinstance(value, Rule) else value
        if not isinstance(rules, (list, tuple)) or not all(isinstance(one, Rule) for one in rules):
            raise PluginError(
                f"{where}: expected a Rule of keras_torch_convert.rules.rule or a list "
                f"of them, got {value!r}")
        for rule in rules:
            taken = next((one for one in rule.class_names if one in owners), None)
            if taken is not None:
                raise PluginError(f"{where} with a rule for {taken!r}, which {owners[taken]} has; "
                                  "a rule is for a class of the package's own")
            if not rule.class_names:
                raise PluginError(f"{where} with the rule {rule.name!r}, which names no class")
            owners |= dict.fromkeys(rule.class_names, package)
            found.append(replace(rule, source=f"{rule.source} (from {package})".lstrip()))
    return tuple(found)


@cache
def _rules_by_class() -> Mapping[str, Rule]:
    return _RULE_OF_CLASS | {name: rule for rule in plugin_rules() for name in rule.class_names}


def rule_for(layer: TargetLayer) -> Rule | None:
    """Return the rule of the nearest base class, None when there is none."""
    rules = _rules_by_class()
    rule = next((rules[name] for name in layer.class_names if name in rules), None)
    return rule.for_layer(layer) if rule is not None and rule.for_layer is not None else rule


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of rules.

    `layouts` has one entry for each variable with axes of its own: "kernel: out in -> in out".
    """

    name: str
    class_names: tuple[str, ...]
    layouts: tuple[str, ...]
    source: str
    lossless: bool
    back: str


def rule_table() -> tuple[Row, ...]:
    """Return every rule in words: those of classes, conditional ones, those of other packages."""
    return tuple(_row(rule) for rule in (*RULES, *CONDITIONAL_RULES, *plugin_rules()))


def markdown() -> str:
    """Return the table for the documentation."""
    return "\n".join(_lines()) + "\n"


def _row(rule: Rule) -> Row:
    layouts = tuple(f"{name}: {axes}" for name, axes in rule.axes.items())
    return Row(rule.name, rule.class_names, layouts, rule.source, rule.lossless, rule.back)


def _lines() -> Iterator[str]:
    yield ("| rule | Keras layers | PyTorch layout → Keras layout | convention and where it is "
           "written | back to PyTorch |")
    yield "| --- | --- | --- | --- | --- |"
    for row in rule_table():
        class_names = ", ".join(f"`{name}`" for name in row.class_names) or "any"
        layouts = "<br>".join(
            f"`{layout.replace(' -> ', ' → ')}`" for layout in row.layouts) or "see the next column"
        cells = (row.name, class_names, layouts, row.source, row.back)
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
