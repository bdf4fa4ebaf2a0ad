"""Input of the page of budgets."""

from typing import Any

from django import forms

from runs.budgets.definitions import COLUMNS, LARGEST
from runs.models import PERIODS, BudgetAction, Run, Task, TaskStatus
from teammates.access import Access
from teammates.errors import NotFound
from teammates.models import APIKey, EndUser, Membership, Teammate, TeammateStatus
from teammates.web.pages import number_of
from threads.models import Thread

MOST_CHOICES = 200  # of a kind


# What happens at a cap, as people say it.
ACTIONS = {
    BudgetAction.PAUSE: "runs stop and ask",
    BudgetAction.STOP: "runs fail",
    BudgetAction.TELL: "owners and admins are told",
}


class BudgetChangeForm(forms.Form):
    amount = forms.DecimalField(
        label="Cap, in dollars", min_value=0, max_value=LARGEST, max_digits=14, decimal_places=6
    )
    action = forms.ChoiceField(
        label="At the cap",
        choices=ACTIONS,
        help_text="Before each model call, the most that it can cost must fit. A model without a "
        "price is not called under a cap; the demo model costs nothing.",
    )


class BudgetForm(BudgetChangeForm):
    """A new budget; what it is for is chosen by kind and row ("teammate:12")."""

    whose = forms.ChoiceField(label="Runs of", required=False)
    period = forms.ChoiceField(
        label="Period", choices=[(one.value, one.label) for one in PERIODS], initial="month"
    )
    field_order = ("whose", "amount", "period", "action")

    def __init__(self, access: Access, *args: Any, about: str = "", **kwargs: Any) -> None:
        """`about` is a thread or a run ("run:12") that may be chosen, too."""
        super().__init__(*args, **kwargs)
        self._rows = _rows(access)
        self.about = _row_of(access, about) if about else None
        if self.about is not None:
            kind = about.partition(":")[0]
            self._rows[kind] = (f"This {kind}", [self.about])
            self.initial["whose"] = about
        field = self.fields["whose"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            ("", "everything and everybody"),
            *(
                (label, [(f"{kind}:{row.pk}", str(row)) for row in rows])
                for kind, (label, rows) in self._rows.items()
                if rows
            ),
        ]

    def clean_whose(self) -> dict[str, Any]:
        kind, _, key = str(self.cleaned_data["whose"]).partition(":")
        if not kind:
            return {}
        assert kind in COLUMNS
        return {kind: next(row for row in self._rows[kind][1] if str(row.pk) == key)}


def _row_of(access: Access, about: str) -> Thread | Run:
    """Raises `NotFound` for what the asker does not see."""
    kind, _, text = about.partition(":")
    shown: dict[str, Any] = {"thread": Thread.objects, "run": Run.objects}
    key = number_of(text)
    if kind not in shown or key is None:
        raise NotFound("There is no such thread or run.")
    row: Thread | Run | None = shown[kind].visible_to(access).filter(pk=key).first()
    if row is None:
        raise NotFound(f"There is no {kind} {key}.")
    return row


def _rows(access: Access) -> dict[str, tuple[str, list[Any]]]:
    mine = {"organization": access.organization}
    members = Membership.objects.filter(**mine, user__is_active=True).select_related("user")
    teammates = Teammate.objects.filter(**mine, status=TeammateStatus.ENABLED).order_by("name")
    tasks = Task.objects.filter(**mine, is_ad_hoc=False, status=TaskStatus.ENABLED).order_by("name")
    keys = APIKey.objects.filter(**mine, revoked_at=None).order_by("name")
    end_users = EndUser.objects.filter(**mine).order_by("external_id")
    return {
        "teammate": ("Teammates", list(teammates[:MOST_CHOICES])),
        "task": ("Tasks", list(tasks[:MOST_CHOICES])),
        "member": ("Members", [one.user for one in members.order_by("id")[:MOST_CHOICES]]),
        "api_key": ("API keys", list(keys[:MOST_CHOICES])),
        "end_user": ("End users", list(end_users[:MOST_CHOICES])),
    }
