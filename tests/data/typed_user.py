"""A user's script: checked by type checkers against py.typed, never run."""

from pathlib import Path
from typing import Any

import keras_torch_convert as ktc


def convert_all(modules: dict[str, Any], models: dict[str, Any], folder: Path) -> list[ktc.Report]:
    reports: list[ktc.Report] = []
    for name, module in modules.items():
        plan: ktc.Plan = ktc.align(module, models[name], hints={"head": "fc"})
        report = ktc.convert(module, models[name], plan=plan, save=folder / f"{name}.h5")
        verdict: str = report.verdict
        left: list[str] = [entry.name for entry in report.ledger if entry.status == "left over"]
        print(verdict, left, report.md5 or "", report.to_json())
        card: Path = report.card(folder / f"{name}.card.md", license="mit")
        plan.save(card.with_suffix(".plan.json"))
        reports.append(report)
    return reports


def look(path: str) -> None:
    source = ktc.read(path)
    shapes: dict[str, tuple[int, ...]] = {name: one.shape for name, one in source.items()}
    comparison: ktc.Comparison = ktc.verify(shapes, None, inputs=2)
    divergence: ktc.FirstDivergence | None = comparison.first_divergence
    print(divergence.cause if divergence is not None else comparison.summary())
    ktc.convert(path, None, accept="near")
