"""What is wrong with a result, said before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from edgec.cli.names import short
from edgec.cli.numbers import at, bytes_text, share_text

__all__ = ["problems", "warning_text"]

_LOST_ACCURACY = 0.01
"""A drop beyond one point is more than int8 costs a model that takes to it."""

_LOW_SQNR_DB = 10.0
"""Below this the noise is a third of the signal."""

_LOW_AGREEMENT = 0.95
_LONGEST = 100  # letters of a layer's name


def problems(report: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each thing a user would not want to find out later."""
    found = list(_warnings(report))
    for artifact in report.get("artifacts") or ():
        found += [*_of_speed(report, artifact), *_of_structure(report, artifact)]
        found += _of_artifact(report, artifact)
    if at(report, "options", "verify") is False:
        found.append("The passes were not verified (--no-verify).")
    if at(report, "options", "prove") is False:
        found.append("Nothing was run: the artifacts are not proven (--no-proof).")
    return found


def _warnings(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each thing that looks wrong with the samples."""
    told = at(report, "calibration", "report", "warnings") or ()
    for w in (*told, *(at(report, "evaluation", "warnings") or ())):
        yield warning_text(w)


def warning_text(warned: Mapping[str, str]) -> str:
    """Return one sentence about the samples."""
    where = short(warned["where"], _LONGEST)
    return f"The samples look wrong. {where}: {warned['message']}; {warned['hint']}."


def _of_speed(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield why quantizing did not pay on this machine."""
    speed = at(report, "run", "speed", str(artifact.get("target")))
    if not speed:
        return
    file = artifact.get("file")
    sizes = [bytes_text(speed[k]) for k in ("size_bytes", "float_size_bytes")]
    smaller = speed["size_bytes"] < speed["float_size_bytes"]
    if speed["slower"] or (speed["integers"] and not speed["faster"]):
        how = "slower" if speed["slower"] else "not measurably faster"
        size = f" It is smaller: {sizes[0]}, float {sizes[1]}." if smaller else ""
        yield (
            f"{file} is {how} than float32 on this machine: {speed['speedup']:.2f} times as "
            f"fast ({speed['latency_ms']:g} ms, float {speed['float_latency_ms']:g} ms)."
            f"{_costly(speed['hotspots'])}{size}"
        )
    if not smaller:
        yield f"{file} is no smaller than the float file: {sizes[0]}, {sizes[1]}."


def _of_structure(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield why taking out structure did not do what it should."""
    found, file = artifact.get("compression"), artifact.get("file")
    if not found:
        return
    if not found["holds"]:
        why = "it is the least that was found"
        if any(_is_refused(tried, found) for tried in found["tries"]):
            why = "more of it stays, as the rest loses more than --max-drop allows"
        yield f"{file} keeps {found['left']}, where {found['goal']} is the goal: {why}."
    if found.get("drop_holds") is False:
        yield (
            f"{file} loses {found['loses']}, and {found['max_drop']:g} is allowed: it is the "
            "best that was found."
        )
    speed = at(report, "run", "structure", str(artifact.get("target")))
    if speed and not speed["faster"]:
        how = "slower" if speed["slower"] else "not measurably faster"
        yield (
            f"{file} is {how} than with all of its structure on this machine: "
            f"{speed['speedup']:.2f} times as fast ({speed['latency_ms']:g} ms, "
            f"{speed['float_latency_ms']:g} ms)."
        )
    now, before = found.get("instructions"), found.get("whole_instructions")
    if before is not None and now >= before:
        yield (
            f"{file} is no faster than with all of its structure: {now:,} instructions an "
            f"inference, {before:,} before."
        )


def _is_refused(tried: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether a try kept less and lost too much: everything where no drop is told."""
    most = found.get("max_drop")
    if most is None or tried["reached"] >= found["reached"]:
        return False
    return tried["drop"] is None or tried["drop"] > most


_NAMED = 3
_NAME = 50  # letters of each of several layers' names


def _costly(hotspots: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence about the layers that cost time, the worst of them by name.

    Neighbours with the same fault are told in one go.
    """
    if not hotspots:
        return ""
    told = "; ".join(
        _told(kinds, why, list(spots))
        for (kinds, why), spots in groupby(hotspots[:_NAMED], key=_fault)
    )
    more = len(hotspots) - _NAMED
    rest = f"; {more} more in report.json" if more > 0 else ""
    return f" It loses time at {told}{rest}."


def _fault(spot: Mapping[str, Any]) -> tuple[str, str]:
    return ", ".join(dict.fromkeys(spot["operators"])), str(spot["why"])


def _told(kinds: str, why: str, spots: Sequence[Mapping[str, Any]]) -> str:
    names = ", ".join(short(spot["layer"], _NAME) for spot in spots)
    took = ""
    if spots[0]["ms"] is not None:
        ms, float_ms = (sum(spot[k] for spot in spots) for k in ("ms", "float_ms"))
        took = f", {ms:.2g} ms, {float_ms:.2g} ms in float"
    return f"{names} ({kinds}: {why}{took})"


def _of_artifact(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[str]:
    file, quantized = artifact.get("file"), artifact.get("quantized")
    if at(artifact, "search", "holds") is False:
        found = artifact["search"]
        yield (
            f"{file} loses {found['loses']}, and {found['max_drop']:g} is allowed: it is the "
            "best that was found."
        )
    size, model_size = artifact.get("bytes"), at(report, "model", "bytes")
    if quantized and size and model_size and size > model_size:
        yield (
            f"{file} is bigger than the model: {bytes_text(size)}, "
            f"the model has {bytes_text(model_size)}."
        )
    if at(report, "options", "recipe") and quantized is False:
        yield f"{file} is still float32, although a recipe was given."
    before, after = at(report, "evaluation", "float"), artifact.get("accuracy")
    if before is not None and after is not None and before - after > _LOST_ACCURACY:
        yield (
            f"{file} loses {100 * (before - after):.1f} points of accuracy: "
            f"{share_text(after)}, the float model has {share_text(before)}."
        )
    sqnr, agreement = (at(artifact, "fidelity", k) for k in ("sqnr_db", "top1_agreement"))
    if sqnr is not None and sqnr < _LOW_SQNR_DB:
        yield f"{file} is far from the float model: its SQNR is {sqnr:.1f} dB."
    if agreement is not None and agreement < _LOW_AGREEMENT:
        yield f"{file} agrees with the float model on only {share_text(agreement)} of samples."
