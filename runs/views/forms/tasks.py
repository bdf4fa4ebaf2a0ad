"""Input of the pages about tasks."""

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone

from runs.models import Missed, Overlap, Task, Trigger
from runs.tasks import tasks
from runs.triggers import definitions, due_times, schedule_text
from runs.triggers.schedule_text import WEEKDAYS, Sentence
from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import Model, PermissionMode, Teammate, TeammateStatus
from teammates.types import Context
from teammates.web.timezones import TIMEZONES

REPEATS = [
    ("day", "Every day"),
    ("weekdays", "Monday to Friday"),
    ("week", "Every week"),
    ("month", "Every month"),
    ("hour", "Every hour"),
    ("interval", "Every so many minutes"),
    ("cron", "As cron says"),
    ("once", "Once"),
]
LOCAL_KINDS = [kind for kind, _ in REPEATS if kind != "interval"]  # that follow a clock
WHEN = 8  # fields that say when; behind them the timezone, then the rules


def exists_there(at: datetime, zone: ZoneInfo) -> bool:
    """Whether clocks in `zone` ever show `at`."""
    try:
        there = at.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    except OverflowError:  # at the ends of the calendar, which are refused elsewhere
        return True
    return there.replace(tzinfo=None) == at


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _shown_for(*kinds: str, **more: Any) -> Context:
    return {"data-for": " ".join(kinds)} | more


class WallClockField(forms.DateTimeField):
    """What a clock on a wall says, of no timezone yet."""

    def to_python(self, value: Any) -> datetime | None:
        with timezone.override(UTC):
            said = super().to_python(value)
        return said and said.replace(tzinfo=None)


class ScheduleForm(forms.Form):
    """When a task is due, as a sentence, as cron, as an interval, or once; and its rules."""

    kind = forms.ChoiceField(label="It runs", choices=REPEATS)
    weekday = forms.TypedChoiceField(
        label="On",
        coerce=int,
        choices=list(enumerate(WEEKDAYS)),
        required=False,
        widget=forms.Select(attrs=_shown_for("week")),
    )
    monthday = forms.IntegerField(
        label="On day",
        min_value=1,
        max_value=28,
        required=False,
        help_text="1 to 28: every month has it.",
        widget=forms.NumberInput(attrs=_shown_for("month")),
    )
    time = forms.TimeField(
        label="At",
        required=False,
        widget=forms.TimeInput(
            format="%H:%M", attrs=_shown_for("day", "weekdays", "week", "month", type="time")
        ),
    )
    minute = forms.IntegerField(
        label="Minutes past the hour",
        min_value=0,
        max_value=59,
        required=False,
        widget=forms.NumberInput(attrs=_shown_for("hour")),
    )
    minutes = forms.FloatField(
        label="Minutes between two runs",
        min_value=due_times.SHORTEST_INTERVAL / 60,
        max_value=due_times.LONGEST_INTERVAL / 60,
        required=False,
        widget=forms.NumberInput(attrs=_shown_for("interval", step="any")),
    )
    cron = forms.CharField(
        label="Cron",
        max_length=200,
        required=False,
        help_text="Minute, hour, day, month, weekday: “30 9 * * 1-5”. 0 and 7 are Sunday.",
        widget=forms.TextInput(attrs=_shown_for("cron", **{"class": "mono"})),
    )
    at = WallClockField(
        label="At",
        required=False,
        help_text="At least three minutes from now.",
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=forms.DateTimeInput(
            format="%Y-%m-%dT%H:%M:%S", attrs=_shown_for("once", type="datetime-local")
        ),
    )
    timezone = forms.CharField(label="Timezone", widget=forms.Select, required=False)
    overlap = forms.ChoiceField(
        label="If the run before it is still under way", choices=Overlap.choices
    )
    missed = forms.ChoiceField(label="If Muster was not running then", choices=Missed.choices)
    missed_limit = forms.IntegerField(
        label="At most so many of the missed ones",
        min_value=1,
        max_value=definitions.MOST_MISSED,
        required=False,
    )
    failure_limit = forms.IntegerField(
        label="Pause after so many failed runs in a row",
        min_value=1,
        max_value=definitions.MOST_FAILURES,
        required=False,
        help_text="Empty: never.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Programs may have set any zone that exists, also one that is not offered here.
        own = self.data.get("timezone") or self.initial.get("timezone")
        zones = TIMEZONES if own in TIMEZONES or not own else [own, *TIMEZONES]
        self.fields["timezone"].widget = forms.Select(
            choices=[(zone, zone) for zone in zones], attrs=_shown_for(*LOCAL_KINDS)
        )

    def _shown_fields(self, kind: str) -> set[str]:
        """Of those that say when, the ones that belong to a kind."""
        kinds_of = {
            name: field.widget.attrs.get("data-for", "") for name, field in self.fields.items()
        }
        return {name for name, kinds in kinds_of.items() if kind in kinds.split()}

    def clean_timezone(self) -> str:
        zone: str = self.cleaned_data["timezone"] or self.initial.get("timezone") or "UTC"
        try:
            due_times.check_timezone(zone)
        except Invalid as error:
            raise forms.ValidationError(error.message) from None
        return zone

    @property
    def when(self) -> list[forms.BoundField]:
        return [self[name] for name in list(self.fields)[: WHEN + 1]]

    @property
    def rules(self) -> list[forms.BoundField]:
        return [self[name] for name in list(self.fields)[WHEN + 1 :]]

    @property
    def has_rule_errors(self) -> bool:
        return any(field.errors for field in self.rules)

    @staticmethod
    def now(trigger: Trigger | None, zone: str) -> Context:
        """What the form shows of a schedule; of none, a usual one."""
        trigger = trigger or Trigger(cron="0 9 * * 1-5", timezone=zone)
        said = schedule_text.sentence_of(trigger)
        local = trigger.run_at and trigger.run_at.astimezone(ZoneInfo(trigger.timezone))
        return {
            "kind": said.kind,
            "weekday": said.weekday,
            "monthday": said.monthday,
            "time": time.fromisoformat(said.time),
            "minute": said.minute,
            "minutes": _number(said.interval_seconds / 60),
            "cron": said.cron or said.as_cron,
            "timezone": trigger.timezone,
            "at": local and local.replace(tzinfo=None, microsecond=0),
            "overlap": trigger.overlap,
            "missed": trigger.missed,
            "missed_limit": trigger.missed_limit,
            "failure_limit": trigger.failure_limit,
        }

    def clean(self) -> Context:
        given = super().clean() or {}
        kind = given.get("kind", "")
        for name in set(list(self.fields)[1:WHEN]) - self._shown_fields(kind):
            self.errors.pop(name, None)  # what is not shown may say anything
            given[name] = None
        wanted = {
            "month": "monthday",
            "hour": "minute",
            "interval": "minutes",
            "cron": "cron",
            "once": "at",
        }.get(kind, "time")
        at, zone = given.get("at"), given.get("timezone")
        if at and zone and not exists_there(at, ZoneInfo(zone)):
            self.add_error("at", "Clocks there are put forward over this time on that day.")
        if wanted not in self.errors and given.get(wanted) in (None, ""):
            self.add_error(wanted, forms.ValidationError("This is needed here.", code="required"))
        return given

    def timing(self) -> Context:
        """In the words of `definitions.add_schedule`, with its rules."""
        given = self.cleaned_data
        zone = given["timezone"]
        fields: Context = {
            "timezone": zone,
            "overlap": given["overlap"],
            "missed": given["missed"],
            "failure_limit": given["failure_limit"],
        }
        if given["missed_limit"]:
            fields["missed_limit"] = given["missed_limit"]
        if given["kind"] == "once":
            at: datetime = given["at"].replace(tzinfo=ZoneInfo(zone))
            return fields | {"run_at": at.isoformat()}
        if given["kind"] == "interval":
            return fields | {"interval_seconds": round(given["minutes"] * 60)}
        clock = given["time"] or time()
        said = Sentence(
            given["kind"],
            time=f"{clock:%H:%M}",
            weekday=given["weekday"] or 0,
            monthday=given["monthday"] or 1,
            minute=given["minute"] or 0,
            cron=given["cron"],
        )
        return fields | {"cron": said.as_cron}

    def changes(self) -> Context:
        """Of the stored schedule: a time that stays as it is must not be counted anew."""
        when = set(list(self.fields)[1 : WHEN + 1])
        hidden = when - self._shown_fields(self.cleaned_data["kind"])
        changed = set(self.changed_data) - hidden
        # An instant is another one where the clock is another.
        timed = when if self.cleaned_data["kind"] == "once" else when - {"timezone"}
        is_new_time = bool(changed & (timed | {"kind"}))
        return {
            name: value
            for name, value in self.timing().items()
            if (is_new_time if name in due_times.TIMINGS else name in changed)
        }

    def draft(self) -> Trigger:
        """The schedule that the form says, not saved. Raises `Invalid`."""
        given = self.timing()
        zone = given["timezone"]
        timing = {name: given[name] for name in due_times.TIMINGS if name in given}
        return Trigger(kind="schedule", timezone=zone, **due_times.checked_timing(**timing))


class TaskForm(forms.Form):
    teammate = forms.ModelChoiceField(label="Teammate", queryset=Teammate.objects.none())
    name = forms.CharField(
        label="Name",
        max_length=tasks.LONGEST_NAME,
        required=False,
        help_text="Empty: the first words of the instructions.",
    )
    instructions = forms.CharField(
        label="What is to be done",
        max_length=tasks.LONGEST_TEXT,
        widget=forms.Textarea(attrs={"rows": 7}),
    )
    expected_output = forms.CharField(
        label="What should come of it",
        max_length=tasks.LONGEST_TEXT,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    permission_mode = forms.ChoiceField(
        label="When it acts",
        required=False,
        choices=[("", "As the teammate does"), *PermissionMode.choices],
    )
    model = forms.ChoiceField(label="Model", required=False)
    email_notifications = forms.BooleanField(
        label="Mail the results of its schedules", required=False, initial=True
    )
    learns = forms.BooleanField(
        label="Its runs leave lessons for later ones", required=False, initial=True
    )

    def __init__(self, access: Access, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.fields["teammate"]
        assert isinstance(choices, forms.ModelChoiceField)
        seen = Teammate.objects.visible_to(access).exclude(status=TeammateStatus.ARCHIVED)
        choices.queryset = seen.order_by("name")
        models = self.fields["model"]
        assert isinstance(models, forms.ChoiceField)
        aliases = Model.objects.filter(organization=access.organization).by_priority()
        models.choices = [("", "As the teammate does"), *((m.alias, m.alias) for m in aliases)]

    @staticmethod
    def now(task: Task) -> Context:
        names = (
            "name",
            "instructions",
            "expected_output",
            "permission_mode",
            "model",
            "email_notifications",
            "learns",
        )
        return {name: getattr(task, name) for name in names} | {"teammate": task.teammate_id}

    def changes(self) -> Context:
        """In the words of `tasks`; without the teammate, which stays."""
        return {name: value for name, value in self.cleaned_data.items() if name != "teammate"}
