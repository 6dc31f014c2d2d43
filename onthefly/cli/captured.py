"""What a trial captured of a script, in words for a person who knows PyTorch and not us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM = 100
"""Steps below which costs say nothing: the first ones warm everything up, ours and the script's."""

PHASES = {"train": "training", "valid": "validation", "test": "test", "scan": "scan"}

CERTIFICATES = {
    "exact": "exact: together they give your loss again",
    "approximate": "approximate: together they give your loss up to {error:.1g} of it",
}

IDENTITIES = {
    "index": "by their index in the dataset",
    "stream": "by their place in the stream",
    "key": "by a key that they carry",
}


def words(name: str, report: dict[str, Any]) -> Iterator[str]:
    """The report, line by line."""
    if not report["backwards"]:
        yield from _nothing(name, report)
        return
    steps, calls = report["steps"], report["backwards"]
    yield f"{name}: {_count(steps, 'optimizer step')}, {_count(calls, 'backward call')}, {report['seconds']:.1f} s"
    yield from _ending(report)
    for part in report["parts"]:
        yield from _part(part, accuracy=report["accuracy"])
    if not any(part["phase"] == "valid" for part in report["parts"]):
        yield "validation: no losses seen in this trial"
    if not steps:
        yield "steps: none of torch's optimizers stepped. Losses are recorded; pause and stop act at a backward call"
    names = [process for process in report["processes"] if process]
    if len(report["processes"]) > 1 or names:
        yield f"processes that train: {', '.join(name or 'the script itself' for name in report['processes'])}"
    cost, step = report["onthefly_us"], report["step_ms"]
    if cost and step and steps >= WARM:
        yield f"cost: {cost:.0f} us in a step of {step:.2f} ms ({cost / 10 / step:.1f} %), or a little more"
    said = {reason for part in report["parts"] for reason in (*part["reasons"], *part["unnamed"])}
    for text, remedy in report["notices"]:
        if text.partition(": ")[2] not in said:
            yield f"told: {text}{f' ({remedy})' if remedy else ''}"
    yield f"metrics: {', '.join(['loss', *report['metrics']])}"


def _nothing(name: str, report: dict[str, Any]) -> Iterator[str]:
    """Of a script that nothing was captured of."""
    failed = report["ended"] == "failed"
    verb = f"failed (exit code {report['code']})" if failed else "ended" if report["ended"] != "time" else "was stopped"
    yield f"{name}: {verb} after {report['seconds']:.1f} s, and no backward call was seen"
    if report["ended"] == "time":
        yield "  the time was up before it began to train: give it more with --timeout"
    elif not report["torch"]:
        yield f"  it {'failed before it imported' if failed else 'does not import'} torch: there is nothing to watch"
    elif not failed:
        yield "  losses are read where backward is called: it trains nothing, or otherwise (torch.autograd.grad)"
    yield from _output(report)


def _ending(report: dict[str, Any]) -> Iterator[str]:
    """Why the trial ended where it did."""
    if report["ended"] == "failed":
        yield f"  THEN THE SCRIPT FAILED, with exit code {report['code']}:"
        yield from _output(report)
    elif report["ended"] == "time":
        yield "  the time was up: --timeout gives it more"
    elif report["ended"] in ("steps", "calls"):
        yield "  then the trial was over: --steps makes it longer"


def _output(report: dict[str, Any]) -> Iterator[str]:
    yield from (f"  | {line}" for line in report["output"])


def _part(part: dict[str, Any], *, accuracy: bool) -> Iterator[str]:
    """Of one loader in one phase: values, samples, parts of the loss."""
    calls = part["calls"]
    yield f"{PHASES[part['phase']]}, {_loader(part['loader'])}"
    for certificate, said in CERTIFICATES.items():
        number = part["certificates"].get(certificate, 0)
        if number:
            yield f"  losses      of each sample, {said.format(error=part['error'])}{_share(number, calls)}"
    for reason, number in part["reasons"].items():
        yield f"  no losses   {reason}{_share(number, calls)}"
    samples = part["samples"]
    if not samples:
        return
    for identity, said in IDENTITIES.items():
        number = part["identities"].get(identity, 0)
        if number:
            yield f"  samples     known {said}{_share(number, samples)}"
    unknown = part["identities"].get("none", 0)
    if unknown:
        why = "; or ".join(part["unnamed"]) or "nothing ties them to a batch"
        yield f"  samples     not known which: {why}{_share(unknown, samples)}"
    if part["components"]:
        yield f"  terms       each in a column of its own: {', '.join(part['components'])}"
    least, most = part["elements"]
    if most > 1:
        span = f"{least}" if least == most else f"{least} to {most}"
        yield f"  averaged    over {span} elements (tokens, pixels, outputs) of each sample"
    if part["phase"] == "train":
        yield f"  accuracy    {'of single batches, ten a second' if accuracy else 'none: no targets that are classes'}"


def _loader(name: str) -> str:
    """``loader1`` as a person would say it."""
    number = name.partition("loader")[2]
    if not name:
        return "without a DataLoader"
    return f"{name} (DataLoader number {int(number) + 1} that the script went through)" if number.isdigit() else name


def _share(number: int, all_of_them: int) -> str:
    return f" (all {number})" if number == all_of_them else f" ({number} of {all_of_them})"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
