"""Caps on spending, what counts against them, and what is reserved for calls under way."""

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.db.models import Q

from runs.models.run import Run
from runs.models.step import Step
from runs.models.task import Task
from teammates.models import APIKey, EndUser, Organization, Teammate, User
from threads.models import Thread


class BudgetPeriod(models.TextChoices):
    RUN = "run", "each run"
    DAY = "day", "a day"
    WEEK = "week", "a week"
    MONTH = "month", "a month"
    TOTAL = "total", "in all"
    CREDITS = "credits", "in credits"  # the organization's alone, made by `credits.adjust`


# Those that people set.
PERIODS = tuple(one for one in BudgetPeriod if one != BudgetPeriod.CREDITS)


class BudgetAction(models.TextChoices):
    TELL = "tell", "tell"
    PAUSE = "pause", "pause and ask"
    STOP = "stop", "stop"


class Budget(models.Model):
    """What the runs that fit all of its columns may spend; without any, all of the organization's.
    `run` is the first of those that start each other."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="budgets")
    teammate = models.ForeignKey(Teammate, null=True, on_delete=models.CASCADE, related_name="+")
    task = models.ForeignKey(Task, null=True, on_delete=models.CASCADE, related_name="+")
    member = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey(APIKey, null=True, on_delete=models.CASCADE, related_name="+")
    end_user = models.ForeignKey(EndUser, null=True, on_delete=models.CASCADE, related_name="+")
    thread = models.ForeignKey(Thread, null=True, on_delete=models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="+")
    # Days, weeks (from Monday on) and months are UTC's.
    period = models.CharField(max_length=7, choices=BudgetPeriod.choices)
    amount = models.DecimalField(max_digits=14, decimal_places=6)
    action = models.CharField(max_length=5, choices=BudgetAction.choices)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "teammate",
                "task",
                "member",
                "api_key",
                "end_user",
                "thread",
                "run",
                "period",
                name="budget_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="budget_amount_not_negative"),
            models.CheckConstraint(
                condition=Q(period__in=BudgetPeriod.values), name="budget_period_known"
            ),
            models.CheckConstraint(
                condition=Q(action__in=BudgetAction.values), name="budget_action_known"
            ),
        ]

    def __str__(self) -> str:
        return f"${self.amount.normalize():f} {self.get_period_display()} for {self.whose}"

    @property
    def whose(self) -> str:
        """What its runs have in common, for people."""
        named = {
            "the teammate": self.teammate,
            "the task": self.task,
            "the member": self.member,
            "the key": self.api_key,
            "the end user": self.end_user,
            "the thread": self.thread,
            "the run": self.run,
        }
        return ", ".join(f"{what} {one}" for what, one in named.items() if one) or "all runs"


class BudgetCount(models.Model):
    """What counts against a budget in one of its days, weeks or months, or in one run (the first of
    a chain). Without a budget: what people allowed a run besides (`granted`).

    `reserved` is for model calls under way; `kept` is of calls whose cost nobody told: as much as
    they can have cost at most, beyond what is estimated.
    """

    budget = models.ForeignKey(Budget, null=True, on_delete=models.CASCADE, related_name="counts")
    starts_on = models.DateField(null=True)
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="+")
    spent = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    kept = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    reserved = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    granted = models.DecimalField(max_digits=14, decimal_places=6, default=Decimal(0))
    told = models.PositiveSmallIntegerField(default=0)  # percent that people were told of

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "budget", "starts_on", "run", name="budget_count_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=Q(reserved__gte=0), name="budget_reserved_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"${self.used} of {self.budget}"

    @property
    def used(self) -> Decimal:
        return self.spent + self.kept


class BudgetHold(models.Model):
    """What a model call under way may cost at most, reserved in a count."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="+")
    count = models.ForeignKey(BudgetCount, on_delete=models.CASCADE, related_name="holds")
    amount = models.DecimalField(max_digits=14, decimal_places=6)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("step", "count", name="budget_hold_once"),
        ]

    def __str__(self) -> str:
        return f"${self.amount} for step {self.step_id}"
