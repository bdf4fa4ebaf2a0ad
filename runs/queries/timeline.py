"""A run on one axis of time: its steps and calls as bars, waits for people as gaps.

Places are thousandths of the axis. Where people were waited for, the axis is folded unless somebody
wants to see it in full.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from runs.models import Run, RunStatus, Step, StepKind, StepStatus, ToolCall

AXIS = 1000
FOLDED_FROM = timedelta(seconds=5)  # a wait that is shorter is drawn as it is
FOLDED_TO = 0.06  # of the work's own length
LEAST_BAR = 3
NICE_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    look: str


@dataclass
class TimelineRow:
    """A step, or a call of the step before it."""

    id: str
    icon: str
    name: str
    note: str
    state: str
    ms: int | None
    bars: list[Bar]
    step: Step
    call: ToolCall | None = None
    is_void: bool = False  # stopped, and made again
    is_cause: bool = False  # of the run's failure

    @property
    def look(self) -> str:
        if self.state in ("failed", "denied"):
            return "bad"
        return "warn" if self.state in ("waiting", "unknown") else ""


@dataclass
class Timeline:
    rows: list[TimelineRow]
    ticks: list[tuple[float, str]] = field(default_factory=list)
    folds: list[tuple[float, str]] = field(default_factory=list)  # place in hundredths, length
    is_folded: bool = False
    has_waits: bool = False


def draw(run: Run, *, hide_idle: bool = True) -> Timeline:
    """Three queries: steps, calls, waits."""
    steps = list(
        run.steps.defer("request", "response").prefetch_related("tool_calls").order_by("number")
    )
    if not steps:
        return Timeline([])
    now = run.finished_at or timezone.now()
    waits = [
        (gate.created_at, gate.decided_at or now, gate.tool_call_id)
        for gate in run.gates.exclude(tool_call=None).order_by("pk")
    ]
    long = [(a, b) for a, b, _ in waits if b - a > FOLDED_FROM]
    axis = Axis(run.created_at, now, long if hide_idle else [])
    rows = []
    for step in steps:
        rows.append(_of_step(run, step, axis, now, is_last=step is steps[-1]))
        if step.kind == StepKind.TOOLS:
            rows.extend(
                _of_call(run, step, call, axis, now, waits) for call in step.tool_calls.all()
            )
    if run.started_at and rows:
        queue = axis.bar(run.created_at, run.started_at, "queue", least=0)
        rows[0].bars.insert(0, queue)
    return Timeline(rows, axis.ticks(), axis.folds(), bool(axis.folded), bool(long))


class Axis:
    """Places of instants between `begins` and `ends`, with `folded` stretches drawn short."""

    def __init__(
        self, begins: datetime, ends: datetime, folded: list[tuple[datetime, datetime]]
    ) -> None:
        self.begins, self.ends, self.folded = begins, ends, sorted(folded)
        whole = max((ends - begins).total_seconds(), 0.001)
        waited = sum((b - a).total_seconds() for a, b in self.folded)
        self._fold = max(whole - waited, 0.001) * FOLDED_TO
        self._length = max(whole - waited, 0.001) + self._fold * len(self.folded)

    def place(self, at: datetime) -> float:
        seconds = (at - self.begins).total_seconds()
        for first, last in self.folded:
            length = (last - first).total_seconds()
            if at >= last:
                seconds -= length - self._fold
            elif at > first:
                inside = (at - first).total_seconds()
                seconds -= inside - self._fold * inside / length
        return round(min(max(seconds / self._length, 0), 1) * AXIS, 1)

    def bar(self, first: datetime, last: datetime, look: str, *, least: float = LEAST_BAR) -> Bar:
        x = self.place(first)
        width = max(self.place(last) - x, least)
        return Bar(round(min(x, AXIS - least), 1), round(width, 1), look)

    def ticks(self) -> list[tuple[float, str]]:
        """Places in hundredths, and labels of the time since the start: where the axis is folded
        they go on behind the fold."""
        whole = (self.ends - self.begins).total_seconds()
        step = next((one for one in NICE_TICKS if whole / one <= 6), whole or 1)
        ticks, at = [], 0.0
        while at <= whole:
            label = f"{at:g} s" if at < 120 else f"{at / 60:g} min"
            when = self.begins + timedelta(seconds=at)
            if not any(first < when < last for first, last in self.folded):
                ticks.append((round(self.place(when) / AXIS * 100, 2), label))
            at += step
        return ticks

    def folds(self) -> list[tuple[float, str]]:
        return [
            (
                round((self.place(first) + self.place(last)) / 2 / AXIS * 100, 2),
                _length(last - first),
            )
            for first, last in self.folded
        ]


def _length(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _of_step(run: Run, step: Step, axis: Axis, now: datetime, *, is_last: bool) -> TimelineRow:
    ends = step.finished_at or now
    icon = {"model": "sparkles", "tools": "wrench", "compaction": "scroll-text"}[step.kind]
    names = {"model": "Model call", "tools": "Tools", "compaction": "Summary of what came before"}
    note = step.model_alias
    is_stopped = step.status == StepStatus.STOPPED
    is_cause = is_stopped and is_last and run.status == RunStatus.FAILED
    if is_stopped:
        did = "failed" if is_cause or step.error else "stopped"
        note = " · ".join(filter(None, [note, did]))
    if run.lost_attempts:
        note = " · ".join(filter(None, [note, f"attempt {step.attempt}"]))
    look = step.status if step.status == StepStatus.STOPPED else step.kind
    return TimelineRow(
        f"step-{step.number}",
        "circle-x" if is_cause else icon,
        f"{step.number}. {names[step.kind]}",
        note,
        step.status,
        _ms(step.started_at, step.finished_at or (None if run.is_finished else now)),
        [axis.bar(step.started_at, ends, look)],
        step,
        is_void=is_stopped and not is_cause,
        is_cause=is_cause,
    )


def _of_call(
    run: Run,
    step: Step,
    call: ToolCall,
    axis: Axis,
    now: datetime,
    waits: list[tuple[datetime, datetime, Any]],
) -> TimelineRow:
    bars: list[Bar] = []
    begins, ends = call.started_at, call.finished_at or now
    waited = timedelta(0)
    if begins is not None:
        mine = [(a, b) for a, b, call_id in waits if call_id == call.pk]
        waited = sum((b - a for a, b in mine), timedelta(0))
        bars = [axis.bar(begins, ends, call.status)]
        if mine:
            last = max(b for _, b in mine)
            bars = [axis.bar(a, b, "wait") for a, b in mine]
            if call.is_over and call.finished_at:
                bars.append(axis.bar(last, ends, call.status))
    ms = _ms(begins, call.finished_at or (None if run.is_finished else now))
    return TimelineRow(
        f"call-{call.pk}",
        "hand" if waited else "wrench",
        call.title or call.name,
        call.summary,
        call.status,
        None if ms is None else max(ms - int(waited.total_seconds() * 1000), 0),
        bars,
        step,
        call,
    )


def _ms(begins: datetime | None, ends: datetime | None) -> int | None:
    return int((ends - begins).total_seconds() * 1000) if begins and ends else None
