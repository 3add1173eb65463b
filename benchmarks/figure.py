"""One measured figure with its target and verdict, as a line of a table or of JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

OK, MISSED, REPORTED, FAILED = "ok", "MISSED", "reported", "FAILED"


@dataclass(frozen=True, slots=True)
class Target:
    """A bound from the project's list of promises."""

    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def at_most(limit: float) -> Target:
    return Target(limit, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured.

    Attributes:
        value: the figure the verdict is about, a median unless ``note`` says otherwise.
        best: the same from the best repetition of each side.
        low, high: the spread over the repetitions.
        neighbours: cores that other processes kept busy meanwhile.
        detail: the raw numbers behind the value.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    target: Target | None = None
    best: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 1
    neighbours: float | None = None
    note: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.target is None:
            return REPORTED
        return OK if self.target.met_by(self.value) else MISSED

    def as_json(self) -> str:
        fields = {k: v for k, v in asdict(self).items() if v not in (None, "", {})}
        return json.dumps(fields | {"verdict": self.verdict}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Figure":
        fields = json.loads(text)
        fields.pop("verdict")
        if "target" in fields:
            fields["target"] = Target(**fields["target"])
        return cls(**fields)

    def as_line(self) -> str:
        """One line of the table; the columns are those of :data:`HEADING`."""
        cells = (
            f"{self.benchmark:<10} {self.name:<52} {_short(self.value):>8} {self.unit:<12}",
            f"{'' if self.target is None else str(self.target):<8} {self.verdict:<9}",
            f"{_short(self.best):>8} {_span(self.low, self.high):<17} {self.runs:>4}",
            f"{'' if self.neighbours is None else format(self.neighbours, '.2f'):>6}  {self.note}",
        )
        return " ".join(cells).rstrip()


HEADING = (
    f"{'benchmark':<10} {'figure':<52} {'measured':>8} {'unit':<12} {'target':<8} {'verdict':<9} "
    f"{'best':>8} {'spread':<17} {'runs':>4} {'others':>6}  note"
)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_short(low)}..{_short(high)}"
