"""Files of JSON with a format, a version and a check sum: sorted keys, a line for each entry, the
same bytes for the same content.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PlanError
from ..util.text import join_names
from .json_values import part, text


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """One kind of file.

    Attributes:
        kind: What is in it, in words: "plan".
        made_by: How one is made, in words.
        version: The newest one that is read.
        parts: The members of its object, all of them.
        optional: Members that may be there.
    """

    kind: str
    made_by: str
    version: int
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the file says of itself."""
        return f"keras_torch_convert {self.kind}"

    def as_text(self, parts: dict[str, Any]) -> str:
        """Return the text of a file with these parts; format, version and check sum are added."""
        parts = {**parts, "format": self.name, "version": self.version}
        parts["sha256"] = self.digest(parts)
        return "{\n" + ",\n".join(
            f"{self._json(name)}: {self._lines(parts[name])}" for name in sorted(parts)) + "\n}\n"

    def _json(self, value: Any) -> str:
        try:
            return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"),
                              allow_nan=False)
        except ValueError as error:
            raise PlanError(f"a {self.kind} with an infinite or undefined number cannot be "
                            "saved") from error

    def _lines(self, value: Any) -> str:
        """Return a list or dict with one line for each entry."""
        if isinstance(value, list) and value:
            return "[\n" + ",\n".join(map(self._json, value)) + "\n]"
        if isinstance(value, dict) and value:
            return "{\n" + ",\n".join(
                f"{self._json(key)}:{self._json(value[key])}" for key in sorted(value)) + "\n}"
        return self._json(value)

    def digest(self, parts: Mapping[str, Any]) -> str:
        """Return the check sum of all parts but itself."""
        rest = {name: one for name, one in parts.items() if name != "sha256"}
        try:
            data = self._json(rest).encode("utf-8")
        except UnicodeEncodeError as error:
            raise PlanError(f"a {self.kind} with half of a character (\\ud800 to \\udfff) in a "
                            "name is damaged") from error
        return hashlib.sha256(data).hexdigest()

    def read(self, content: str) -> dict[str, Any]:
        """Return the parts of a file of this format and version, undamaged. Raises PlanError."""
        kind = self.kind
        try:
            value = json.loads(content, object_pairs_hook=_without_repeats,
                               parse_constant=_no_constant)
        except ValueError as error:
            raise PlanError(
                f"it is no {kind}, or damaged: it is not valid JSON ({error}); save the {kind} "
                "again") from error
        if not isinstance(value, dict) or value.get("format") != self.name:
            raise PlanError(f'it is JSON but no {kind}: a {kind} says "format": "{self.name}"; '
                            f"make one with {self.made_by}")
        version = value.get("version")
        if type(version) is not int or version < 1:
            raise PlanError(
                f"the {kind}'s version is {version!r:.60}, expected {self.version}; the file is "
                f"damaged, save the {kind} again")
        if version > self.version:
            raise PlanError(
                f"the {kind} has version {version}, this keras_torch_convert reads up to "
                f"{self.version}: install the newer one that made it")
        wanted = {*self.parts, "format", "version", "sha256"}
        missing, unknown = sorted(wanted
                                  - set(value)), sorted(set(value) - wanted - set(self.optional))
        if missing or unknown:
            raise PlanError(f"the {kind} is damaged: missing parts {join_names(missing)}, unknown "
                            f"parts {join_names(unknown)}; save it again")
        if part(value, "sha256", text) != self.digest(value):
            raise PlanError(
                f"the {kind} is damaged or was changed by hand: its contents do not fit its check "
                f"sum; save it again, and change it in Python")
        return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {twice!r:.60} stands there twice")
    return result


def _no_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
