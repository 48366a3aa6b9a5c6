"""Measurements, as JSON while they are made and as tables at the end."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .rows import MEMORY, PEERS

# The least cosine of embeddings, and by how much of it a loss may differ.
LEAST_COSINE = {"f32": 0.9999, "bf16": 0.999, "int8": 0.98}
LOSS_DIFFERENCE = {"f32": 1e-4, "bf16": 1e-2}


@dataclass
class Measurement:
    precision: str
    row: str
    peer: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    agreement: str = ""
    limit: float | None = None  # seconds that ours takes at the least
    others: float | None = None  # percent of the cores, for other processes
    error: str | None = None

    @property
    def ratio(self) -> float:
        """Above 1 where ours is faster, or takes less memory."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True))

    def cells(self) -> list[str]:
        """Ours, the peer, its figure, ratio, agreement, share of the limit, others."""
        if self.error:
            return ["", self.peer, "", "", self.error, "", ""]
        ours, theirs = (statistics.median(values) for values in (self.ours, self.theirs))
        limit = f"{100 * self.limit / ours:.0f}%" if self.limit else ""
        return [self.figure(ours), self.peer, self.figure(theirs), f"{self.ratio:.2f}", self.agreement, limit, f"{self.others:.1f}%"]

    def figure(self, value: float) -> str:
        return f"{value:.0f} MB" if self.row == MEMORY else f"{value:#.3g} s"


def agreement(work: dict, precision: str, ours, theirs) -> str:
    """How far both sides computed the same; `differs` where that is less than the precision explains."""
    match work["work"]:
        case "clip" | "text":
            least = min(map(cosine, ours, theirs))
            text, same = f"cosine {least:.5f}", least > LEAST_COSINE[precision]
        case "caption":
            pairs = [pair for rows in zip(ours, theirs, strict=True) for pair in zip(*rows, strict=True)]
            equal = sum(a == b for a, b in pairs) / len(pairs)
            # In fewer bits the best words of random weights are nearly alike: their order says little.
            text, same = f"ids {equal:.0%}", equal == 1 or precision != "f32"
        case "train":
            text, same = f"loss {ours:.4f}, {theirs:.4f}", math.isclose(ours, theirs, rel_tol=LOSS_DIFFERENCE[precision])
        case _:  # networks begin with weights of their own
            return ""
    return text if same else f"differs: {text}"


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


class Results:
    def __init__(self, path: Path | None, about: dict):
        self.path, self.about, self.found = path, about, []

    def add(self, measurement: Measurement):
        """Shown and written at once: whatever ends this program early loses nothing."""
        self.found.append(measurement)
        print("|", measurement.precision, "|", measurement.row, "|", " | ".join(measurement.cells()), "|", flush=True)
        if self.path:
            found = {"about": self.about, "measurements": list(map(asdict, self.found))}
            self.path.write_text(json.dumps(found, indent=1) + "\n")

    def markdown(self) -> str:
        precisions = dict.fromkeys(m.precision for m in self.found)
        parts = [part for precision in precisions for part in self.tables(precision)]
        return "\n\n".join([self.head(), *parts]) + "\n"

    def head(self) -> str:
        """The machine, in a sentence or two."""
        about = self.about

        def listed(values: dict) -> str:
            return ", ".join(f"{name} {value}" for name, value in values.items())

        peaks, reached = listed(about["peaks"]), listed(about["peaks of PyTorch"])
        place = f"{about['cpu']}, {about['threads']} threads, {about['time']}, commit {about['commit']}; {listed(about['versions'])}."
        return f"{place} In 10^9 a second, the processor's peaks are {peaks}; PyTorch reaches {reached}."

    def tables(self, precision: str) -> list[str]:
        """The best peer of each row, and all of them."""
        rows: dict[str, list[Measurement]] = {}
        for measurement in self.found:
            if measurement.precision == precision and not measurement.error:
                rows.setdefault(measurement.row, []).append(measurement)
        best = {name: min(peers, key=lambda m: m.ratio) for name, peers in rows.items()}
        head = ["row", "ours", "best peer", "takes", "ratio", "same", "of the limit", "others"]
        found = [f"`{precision}`", table(head, ([name, *m.cells()] for name, m in best.items()))]
        names = sorted({m.peer for peers in rows.values() for m in peers}, key=lambda name: (PEERS.index(name.split()[0]), name))
        ratios = {name: {m.peer: f"{m.ratio:.2f}" for m in peers} for name, peers in rows.items()}
        found.append(table(["ratio", *names], ([name, *(of.get(peer, "") for peer in names)] for name, of in ratios.items())))
        times = [m.ratio for name, m in best.items() if name != MEMORY]
        if times:
            mean = statistics.geometric_mean(times)
            found.append(f"Geometric mean beside the best peer, `{precision}`: {mean:.2f}, of {len(times)} rows, memory left out.")
        return found


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])
