"""What scenarios measured: a table at the end of the test run, and a file for machines."""

import json
import os
from pathlib import Path
from typing import Any

NAME = "scenario"
REPORT = Path(os.environ.get("CHAOS_REPORT", ".agentsys/chaos.json"))


def figures_of(request: Any, scenario: str) -> dict[str, Any]:
    """Figures of a test, to be filled while it goes; reported even if it fails."""
    figures: dict[str, Any] = {"scenario": scenario}
    request.node.user_properties.append((NAME, figures))
    return figures


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found: dict[str, dict[str, Any]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, figures in getattr(report, "user_properties", ()):
                if name == NAME and report.when == "call":
                    ended = {"outcome": report.outcome, "seconds": round(report.duration)}
                    found[figures["scenario"]] = {**figures, **ended}
    if not found:
        return
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(list(found.values()), indent=1))
    terminalreporter.section(f"scenarios ({REPORT})")
    terminalreporter.line(_row(["", *COLUMNS], "more"))
    for figures in found.values():
        terminalreporter.line(_line(figures))


#: What most of them have; the rest is told in words.
COLUMNS = ("outcome", "seconds", "planned", "done", "runs", "steps", "reaped", "fenced", "witness", "verify")
WIDTHS = (30, *(max(7, len(name)) for name in COLUMNS))


def _line(figures: dict[str, Any]) -> str:
    more = [f"{name} {_shown(value)}" for name, value in figures.items() if name not in ("scenario", *COLUMNS)]
    return _row([figures["scenario"], *(figures.get(name, "") for name in COLUMNS)], ", ".join(more))


def _row(cells: list[Any], more: str) -> str:
    return " ".join(f"{cell!s:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)) + " " + more


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
