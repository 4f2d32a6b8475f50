"""A family as a Python module: loops over blocks, a statement for each weight."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ...errors import PlanError
from .names import HOLE
from .patterns import Condition, Family, Pattern
from .python_statement import INDENT, Line, PortedStatement, Statement, literal, unwritable
from .python_template import (AUTOMATIC, EACH, HEAD, NUMBERS, PARTS, STRICT, VARIABLES,
                              VARIABLES_BY_CLASS)
from .table import LETTERS, with_letters

_WIDTH = 100
# How the names of a block's variables begin, and those of its tensors.
_BEGINNINGS = (r'(?:done|shapes|variables|pop)[(\[]f"([^"]*\}\]?[^"/{}]*)/',
               r'(?:take|part|each|source|get_tensor|hf_weight_key)[(\[=]f"([^"]*\})\.')
_CLASS = re.compile(r"(\w+)\[(\{\}|\d+)\]")


def module_of(family: Family, name: str, style: str) -> str:
    """Return the text of the module; see `FamilyPlan.to_python`.

    Raises:
        PlanError: A pattern follows from its neighbors, or has a step that NumPy lacks.
    """
    if style not in _STYLES:
        raise PlanError(f"style must be one of {list(_STYLES)}, got {style!r}")
    statement, function = _STYLES[style]
    blocks: dict[str, list[Line]] = defaultdict(list)
    for line in _told_apart(family, statement.NAMES):
        blocks[_block(line.form)].append(line)
    body = [
        f"{INDENT}{one}" if one else one for block, lines in blocks.items()
        for one in _loop(block, [statement(line, family) for line in lines], family)
    ]
    classes = sorted({found for one in family.patterns for found, _ in _CLASS.findall(one.target)})
    text = function(family, body, bool(classes))
    if classes:
        bases = ", ".join(f'"{one.lower()}"' for one in classes)
        text = AUTOMATIC.format(bases=f"({bases},)") + text
    head = HEAD.format(name=name, learned="; ".join(family.learned))
    imports = [line for word, line in _IMPORTS.items() if re.search(rf"\b{word}\.", text)]
    return "\n\n".join([head, *imports, text])


_IMPORTS = {"re": "import re", "np": "import numpy as np"}


def _with_numpy(family: Family, body: Sequence[str], automatic: bool) -> str:
    """Return the function that gives the values, and what it calls."""
    head = [
        "def convert(source, shapes):", f'{INDENT}"""Return the values of every Keras variable.',
        "", f"{INDENT}source: name of a torch tensor -> array; shapes: Keras variable -> shape.",
        f'{INDENT}"""'
    ]
    if automatic:
        head.append(f"{INDENT}names = without_counters(shapes)")
        head.append(f"{INDENT}shapes = {{names[key]: shapes[key] for key in shapes}}")
    head.append(f"{INDENT}take, done = Strict(source, shapes), {{}}")
    dropped = sorted(family.dropped)
    end = [f"{INDENT}{line}" for line in _called("take.drop", [f'"{one}"' for one in dropped])
          ] if dropped else []
    end += [
        f'{INDENT}take.drop_constant("{one.tensor}", {one.value!r})' for one in family.constants
    ]
    kept = ", ".join(f'"{_key(form)}"' for form in sorted(family.kept))
    checked = f"take.checked(done, kept=({kept},))" if kept else "take.checked(done)"
    if automatic:
        end += [
            f"{INDENT}values = {checked}",
            f"{INDENT}return {{key: values[names[key]] for key in names if names[key] in values}}"
        ]
    else:
        end.append(f"{INDENT}return {checked}")
    return NUMBERS + PARTS + STRICT + "\n".join(["", *head, *body, *end, ""])


def _for_keras_hub(family: Family, body: Sequence[str], automatic: bool) -> str:
    """Return the function that keras-hub calls for a checkpoint, and what it calls."""
    head = [
        "def convert_weights(backbone, loader, transformers_config):",
        *(VARIABLES_BY_CLASS if automatic else VARIABLES)
    ]
    end = [
        f'{INDENT}for path in named("{_key(form)}", paths):\n{2 * INDENT}variables.pop(path)'
        for form in sorted(family.kept)
    ]
    if any("parts." in one for one in body):
        head.append(f"{INDENT}parts = Parts(loader.get_tensor)")
        end.append(f"{INDENT}parts.check()")
    end += [
        f"{INDENT}if variables:",
        f'{INDENT * 2}raise ValueError(f"nothing is ported to {{sorted(variables)}}")'
    ]
    text = "\n".join(["", *head, *body, *end, ""])
    helpers = (("numbers(", NUMBERS), ("parts.", PARTS), ("each(", EACH))
    return "".join(helper for call, helper in helpers if call in text) + text


_STYLES = {"numpy": (Statement, _with_numpy), "keras-hub": (PortedStatement, _for_keras_hub)}


def _called(function: str, arguments: Sequence[str]) -> list[str]:
    line = f"{function}({', '.join(arguments)})"
    if len(line) + len(INDENT) <= _WIDTH:
        return [line]
    return [f"{function}(", *(f"{INDENT}{one}," for one in arguments), ")"]


def _told_apart(family: Family, names: str) -> Iterator[Line]:
    """Yield the patterns; those of one variable with what tells them apart: a number, or what is
    among the `names` of the module.
    """
    of_variable: dict[str, list[Pattern]] = defaultdict(list)
    for pattern in family.patterns:
        of_variable[pattern.target].append(pattern)
    for form, patterns in of_variable.items():
        holes = form.count(HOLE)
        for pattern in patterns:
            numbers: list[int | None] = list(pattern.numbers) or [None] * holes
            condition, often = "", sum(one.count for one in patterns)
            if len(patterns) > 1:
                role = next((one for one in pattern.conditions if len(one.numbers) == 1), None)
                beside = next((one for one in pattern.conditions if one.present or one.absent),
                              None)
                if role is not None:
                    numbers[role.holes - 1], often = role.numbers[0], pattern.count
                elif beside is not None:
                    condition = _beside(beside, names)
                elif not pattern.conditions or not all(_exact(one) for one in patterns):
                    raise unwritable(
                        pattern, "several patterns fill it, which only the whole "
                        "model tells apart")
            yield Line(pattern, tuple(numbers), condition, often, _filled(form, numbers))


def _exact(pattern: Pattern) -> bool:
    """Return whether a stride says which numbers a pattern is for."""
    return any(index.stride > 1 for leaf in pattern.indices for one in leaf for index in one.first)


def _beside(condition: Condition, names: str) -> str:
    forms = condition.present or condition.absent
    if any(form.count(HOLE) > condition.holes for form in forms):
        raise PlanError(f"a family whose blocks are told apart by {forms[0]} cannot be written as "
                        "Python: use the family itself")
    tests = [f"{literal(_letters(form))} in {names}" for form in forms]
    joined = " or ".join(tests)
    return joined if condition.present else f"not ({joined})"


def _filled(form: str, numbers: Sequence[int | None]) -> str:
    pieces = form.split(HOLE)
    return "".join(piece + (HOLE if number is None else str(number))
                   for piece, number in zip(pieces, numbers, strict=False)) + pieces[-1]


def _block(form: str) -> str:
    """Return the form through its last hole, and on to the end of that layer's name."""
    head, hole, rest = form.rpartition(HOLE)
    if not hole:
        return ""
    return head + hole + (rest[:1] if rest[:1] in "]" else "")


def _key(form: str) -> str:
    """Return a form with classes in lower case, as the module counts automatic names."""
    return _CLASS.sub(lambda found: f"{found[1].lower()}[{found[2]}]", form)


def _letters(form: str) -> str:
    """Return the content of an f-string for the name of a variable."""
    return with_letters(_key(form), [f"{{{LETTERS[hole]}}}" for hole in range(form.count(HOLE))])


def _loop(block: str, statements: Sequence[Statement], family: Family) -> list[str]:
    """Return the statements for the patterns of one kind of block."""
    lines = [one.line for one in statements]
    beginning = _shared([line.form for line in lines])
    own = {line.pattern.target for line in lines}
    # Whether there are blocks that begin so and have not all of the variables.
    apart = len({line.often for line in lines}) > 1 or any(
        _filled(one.target, (None,) * one.target.count(HOLE)).startswith(beginning)
        for one in family.patterns if one.target not in own)
    layers = {line.form.rpartition("/")[0] for line in lines}
    apart = apart or (len(layers) > 1 and any(
        layer.rpartition(HOLE)[2].removeprefix("]")[:1] not in ("", "/") for layer in layers))
    body: list[str] = []
    guarded = ""
    for statement in statements:
        line = statement.line
        conditions = [line.condition] if line.condition else []
        conditions += statement.divisible()
        key, layer = literal(_target(line)), line.form.rpartition("/")[0]
        inner = statement.lines(key)
        if not block or not (apart or conditions):
            body += inner
            guarded = ""
            continue
        # One condition for all variables of a layer that are as often there.
        group = f"{layer} {line.often} {conditions}"
        if group != guarded:
            body.append(f"if {' and '.join([f'{key} in {statement.NAMES}', *conditions])}:")
            guarded = group
        body += [INDENT + one for one in inner]
    if not block:
        return [*body, ""]
    names = [LETTERS[hole] for hole, number in enumerate(lines[0].numbers) if number is None]
    numbers = f'numbers("{_key(beginning)}", {statements[0].NAMES}, ".*")'
    inner = _abbreviated(body, statements[0].WORDS)
    counters = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
    return [f"for {counters} in {numbers}:", *(INDENT + one for one in inner), ""]


def _shared(forms: Sequence[str]) -> str:
    """Return what all forms begin with, no hole cut."""
    first, last = min(forms), max(forms)
    end = next((index for index, one in enumerate(first) if one != last[index:index + 1]),
               len(first))
    return first[:end].removesuffix("{")


def _abbreviated(body: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the statements with names for what the block's names begin with, on both sides."""
    lines, found = list(body), []
    for word, pattern in zip(words, _BEGINNINGS, strict=True):
        counts = Counter(one for line in lines for one in re.findall(pattern, line))
        if counts:
            beginning, count = max(counts.items(), key=lambda item: (item[1], len(item[0])))
            if count > 1:
                found.append(f'{word} = f"{beginning}"')
                lines = [
                    re.sub(rf'f"{re.escape(beginning)}(?=[./"])', f'f"{{{word}}}', line)
                    for line in lines
                ]
    return [*found, *(one for line in lines for one in _wrapped(line))]


def _wrapped(line: str) -> list[str]:
    """Return a statement in several lines when it is long."""
    left, equals, right = line.partition(" = ")
    if len(line) + 2 * len(INDENT) <= _WIDTH or not equals:
        return [line]
    indent = line[:len(line) - len(line.lstrip())]
    return [f"{left} = (", f"{indent}{INDENT}{right}", f"{indent})"]


def _target(line: Line) -> str:
    words = [
        f"{{{LETTERS[hole]}}}" if number is None else str(number)
        for hole, number in enumerate(line.numbers)
    ]
    return with_letters(_key(line.pattern.target), words)
