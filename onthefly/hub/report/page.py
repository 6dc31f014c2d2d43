"""The page of a report: its sections, in the order in which they are read. It has no script, and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from onthefly.hub.report.charts import bars, lines, number
from onthefly.hub.report.markup import Markup, element, joined
from onthefly.hub.report.style import CSS
from onthefly.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onthefly.hub.report.material import Material
    from onthefly.protocol import HealthResult, JournalEntry

POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
FIRST = ("loss", "valid/loss", "accuracy", "valid/accuracy", "lr", "grad_norm", "weight_norm",
         "activation_zeros", "throughput", "step_ms", "data_ms", "onthefly_us")  # fmt: skip
"""Curves that come before the script's own."""

TITLES = {
    "valid/loss": "validation loss", "valid/accuracy": "validation accuracy", "lr": "learning rate",
    "grad_norm": "gradient norm", "weight_norm": "weight norm",
    "activation_zeros": "share of zero activations", "throughput": "samples per second",
    "step_ms": "step (ms)", "data_ms": "waiting for data (ms)", "onthefly_us": "OnTheFly (µs per step)",
    "rss": "memory of the process", "cpu": "CPU", "gpu_util": "GPU", "gpu_mem": "memory of the GPU",
}  # fmt: skip
MAX_TABLE = 12
"""Rows of a health check."""

MAX_PACKAGES = 400


def page(material: Material, now: float) -> bytes:
    """The whole file."""
    session = material.session
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY.format(digest)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{session.name or session.id} - OnTheFly report"), element("style", Markup(CSS)),
    )  # fmt: skip
    main = element(
        "main", _header(material, now), _curves(material), _tests(material), _dynamics(material), _health(material),
        _interventions(material), _told(material), _environment(material),
        element("footer", f"Written by OnTheFly {__version__} on {_when(now)} (UTC). All of it is in this file."),
    )  # fmt: skip
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en')}\n".encode()


def _section(title: str, *parts: Any) -> Markup:
    return element("section", element("h2", title), *parts)


def _header(material: Material, now: float) -> Markup:
    session = material.session
    state = session.state + (f": {session.reason}" if session.reason else "")
    ended = session.ended or now
    facts = [
        ("steps", f"{session.step:,}"), ("epochs", f"{session.epoch + 1:,}" if session.backwards else "0"),
        ("sample records", f"{session.samples:,}"),
        ("took", _duration(max(ended - session.started, 0.0))),
    ]  # fmt: skip
    loss = material.curves.get("loss")
    if loss:
        last = next((curve for curve in loss if curve.name == session.run), loss[-1])
        facts.insert(0, ("last loss", number(last.y[-1])))
        facts.insert(1, ("lowest loss", number(min(last.low))))
    if session.step_ms:
        facts.append(("median step", f"{number(session.step_ms)} ms"))
    line = " · ".join(filter(None, [
        session.project, session.script if session.script != session.name else "", f"session {session.id}",
        f"began {_when(session.started)}", state,
    ]))  # fmt: skip
    runs = f"Runs: {', '.join(run.name for run in material.runs)}." if len(material.runs) > 1 else None
    return element(
        "header", element("h1", session.name or session.id), element("p", line, class_="soft"),
        element("p", runs, class_="soft") if runs else None,
        element("div", [element("div", element("b", value), element("span", label, class_="label"), class_="tile")
                        for label, value in facts], class_="tiles"),
    )  # fmt: skip


def _curves(material: Material) -> Markup | None:
    known = material.curves
    if not known:
        return _section("Curves", element("p", "No step was recorded.", class_="soft"))
    names = [name for name in FIRST if name in known] + [name for name in known if name not in FIRST]
    marks = [(float(entry.step), _change(entry)) for entry in material.journal]
    charts = [lines(TITLES.get(name, name), known[name], marks) for name in names]
    left_out = [f"{count:,} points of {name}" for name, count in material.nonfinite.items()]
    notes = [
        f"Not finite, and in no curve: {', '.join(left_out)}." if left_out else "",
        "Dashed lines: changes that were made (see below)." if marks else "",
        "Bands go from the lowest to the highest value, where steps were put together.",
    ]
    return _section("Curves", element("div", charts, class_="charts"), element("p", " ".join(filter(None, notes)),
                                                                               class_="soft"))  # fmt: skip


def _tests(material: Material) -> Markup | None:
    if not material.evaluations:
        return None
    numbers = [name for name in ("loss", "accuracy", "error", "perplexity")
               if any(name in _result(entry) for entry in material.evaluations)]  # fmt: skip
    rows: list[list[Any]] = [[
        entry.get("label"), entry.get("run"), entry.get("step"), entry.get("loader"), entry.get("count"),
        *(_result(entry).get(name) for name in numbers),
        joined(entry.get("how"), f"; partial: {entry.get('reason') or 'it ended early'}"
               if entry.get("partial") else None),
    ] for entry in material.evaluations]  # fmt: skip
    heads = ["test", "run", "step", "loader", "samples", *numbers, "how"]
    return _section("Tests", _table(heads, rows))


def _result(entry: dict[str, Any]) -> dict[str, Any]:
    found = entry.get("result")
    return found if isinstance(found, dict) else {}


def _dynamics(material: Material) -> Markup | None:
    if material.histogram is None and not material.worst:
        return None
    parts: list[Any] = []
    histogram = material.histogram
    if histogram is not None:
        exact = histogram.certificates.get("exact", 0)
        lost = f" {histogram.nonfinite:,} are not finite." if histogram.nonfinite else ""
        parts += [
            element("p", f"Losses of {histogram.count:,} samples in epoch {histogram.epoch} of run {histogram.run}, "
                         f"{exact:,} of them certified as exact.{lost}", class_="soft"),
            element("div", bars("per-sample loss", histogram.edges, histogram.counts), class_="charts"),
        ]  # fmt: skip
    if material.worst:
        columns = ("count", "loss_mean", "loss_last", "forgetting", "learned", "confidence", "margin")
        heads = ["sample", "presented", "mean loss", "newest loss", "forgotten", "learned in epoch", "confidence",
                 "margin"]  # fmt: skip
        rows = [[str(row["key"] if row.get("key") is not None else row.get("sample")), *(row.get(name) for name in
                 columns)] for row in material.worst]  # fmt: skip
        parts += [element("p", "The samples that were hardest to learn:"), _table(heads, rows)]
    return _section("Samples", *parts)


def _health(material: Material) -> Markup:
    if not material.health:
        how = f"No check was made. At a pause: onthefly ctl {material.session.id} health"
        return _section("Health", element("p", how, class_="soft"))
    order = {"bad": 0, "warning": 1, "unknown": 3}
    results = sorted(material.health, key=lambda result: order.get(result.verdict, 2))
    return _section("Health", [_check(result) for result in results])


def _check(result: HealthResult) -> Markup:
    rank = f", rank {result.rank}" if result.rank else ""
    table = None
    if result.rows and result.verdict in ("bad", "warning"):
        heads = list(dict.fromkeys(name for row in result.rows for name in row))
        heads = [name for name in heads if any(row.get(name) is not None for row in result.rows[:MAX_TABLE])]
        table = _table([head.replace("_", " ") for head in heads],
                       [[row.get(name) for name in heads] for row in result.rows[:MAX_TABLE]])  # fmt: skip
    return element(
        "div",
        element("span", result.verdict, class_=f"verdict {result.verdict}"), element("b", result.check), " ",
        element("span", f"step {result.step:,}{rank}", class_="soft"),
        element("div", result.says, class_="do"),
        element("div", "What to do: ", result.do, class_="do soft") if result.do else None,
        element("div", table, class_="do") if table else None, class_="check",
    )  # fmt: skip


def _interventions(material: Material) -> Markup | None:
    entries = material.journal
    if not entries:
        return _section("Interventions", element("p", "Nothing was changed in this run.", class_="soft"))
    several = len({entry.run for entry in entries}) > 1
    heads = ["when (UTC)", *(["run"] if several else []), "step", "change", "before", "after", "by"]
    rows = [[_when(entry.time), *([entry.run] if several else []), entry.step, _change(entry), _values(entry.before),
             _values(entry.after), entry.by] for entry in entries]  # fmt: skip
    return _section("Interventions", _table(heads, rows))


def _change(entry: JournalEntry) -> str:
    if entry.name == "set":
        return f"set {entry.args.get('name')} {json.dumps(entry.args.get('value'))}"
    return " ".join([entry.name, _values(entry.args)]).strip()


def _values(values: dict[str, Any]) -> str:
    values = {name: value for name, value in values.items() if name != "entries"}  # of the journal's, for replays
    parts = [f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
    found = ", ".join(parts)
    return found if len(found) <= 160 else f"{found[:157]}..."


def _told(material: Material) -> Markup | None:
    session = material.session
    rows: list[list[Any]] = [[_when(found.time), f"watchdog {found.alarm}", found.text]
                             for found in session.controls.findings]  # fmt: skip
    rows += [[_when(notice.time), "notice", joined(notice.text, f" ({notice.remedy})" if notice.remedy else None)]
             for notice in session.notices]  # fmt: skip
    rows += [[_when(receipt.time), "resume", f"{receipt.run} from step {receipt.from_step} of {receipt.from_run}: "
              f"{receipt.text}"] for receipt in session.receipts]  # fmt: skip
    rows.sort(key=lambda row: str(row[0]))
    return _section("What was noticed", _table(["when (UTC)", "by", "what"], rows)) if rows else None


def _environment(material: Material) -> Markup:
    session, told = material.session, material.environment
    torch: Any = told.get("torch") if isinstance(told.get("torch"), dict) else {}
    facts = [
        ("command", element("code", " ".join(session.argv)) if session.argv else None),
        *((name, version) for name, version in session.versions.items()),
        ("platform", told.get("platform")), ("CPUs", told.get("cpus")),
        ("devices", ", ".join(map(str, told["devices"])) if isinstance(told.get("devices"), list) and told["devices"]
         else None),
        ("CUDA", torch.get("cuda")), ("threads", torch.get("threads")),
        ("ranks", session.world_size if session.world_size > 1 else None),
    ]  # fmt: skip
    parts: list[Any] = [element("dl", [joined(element("dt", name), element("dd", value))
                                       for name, value in facts if value is not None])]  # fmt: skip
    packages = told.get("packages")
    if isinstance(packages, dict) and packages:
        names = ", ".join(f"{name} {version}" for name, version in sorted(packages.items())[:MAX_PACKAGES])
        parts.append(element("details", element("summary", f"{len(packages)} packages"),
                             element("p", names, class_="mono")))  # fmt: skip
    if material.log.strip():
        parts.append(element("details", element("summary", "The end of what the script wrote"),
                             element("pre", material.log)))  # fmt: skip
    return _section("Environment", *parts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    rows = list(rows)
    numeric = [any(_is_number(row[place]) for row in rows) for place in range(len(heads))]
    top = [element("th", head, class_="number" if right else None) for head, right in zip(heads, numeric)]
    body = [element("tr", [element("td", _cell(value), class_="number" if right else None)
                           for value, right in zip(row, numeric)]) for row in rows]  # fmt: skip
    return element("div", element("table", element("thead", element("tr", top)), element("tbody", body)),
                   class_="scroll")  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else number(value)
    return value if isinstance(value, str) else json.dumps(value)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(seconds, 0.0)))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
