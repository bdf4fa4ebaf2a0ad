"""What usage can be grouped by, how each group is called, and which runs it is of."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from runs.models import Channel, LabelKind, Task
from teammates.models import APIKey, EndUser, Teammate, TeammateVersion, User
from teammates.web.pages import number_of

Key = Any  # of a group: what its column has
Names = dict[Key, str]
GONE = "Deleted"
NONE = "none"  # the list's word for runs without one


@dataclass(frozen=True)
class Dimension:
    """`column` is that of the daily sums, or of the sums of labels; `names` says how the groups of
    some keys are called; `term` which runs one of them is of, in the words of the list of runs."""

    label: str
    column: str
    names: Callable[[Collection[Key]], Names]
    term: Callable[[Key, str], tuple[str, str]]
    nothing: str = ""  # how the group without a key is called
    kind: LabelKind | None = None  # a run may be in several groups

    def name_of(self, key: Key, names: Names) -> str:
        """How the group of a key is called, with the `names` of what is still there."""
        return names.get(key) or (GONE if key else self.nothing)

    @property
    def is_by_id(self) -> bool:
        return self.column not in ("model_name", "channel", "label")

    def text_of(self, key: Key) -> str:
        """A key as an address has it."""
        return str(key) if key else NONE

    def key_of(self, text: str) -> Key:
        """Raises `ValueError` for what cannot be one."""
        if text == NONE:
            return None if self.is_by_id else ""
        if self.column == "channel" and text not in Channel.values:
            raise ValueError(text)
        if not self.is_by_id:
            return text
        number = number_of(text)
        if number is None:
            raise ValueError(text)
        return number


def _as_they_are(keys: Collection[Key]) -> Names:
    return {key: str(key) for key in keys if key}


def _teammates(keys: Collection[Key]) -> Names:
    return dict(Teammate.objects.filter(pk__in=keys).values_list("pk", "name"))


def _versions(keys: Collection[Key]) -> Names:
    rows = TeammateVersion.objects.filter(pk__in=keys).values_list("pk", "teammate__name", "number")
    return {pk: f"{name} v{number}" for pk, name, number in rows}


def _tasks(keys: Collection[Key]) -> Names:
    return dict(Task.objects.filter(pk__in=keys).values_list("pk", "name"))


def _members(keys: Collection[Key]) -> Names:
    return {user.pk: user.display_name for user in User.objects.filter(pk__in=keys)}


def _end_users(keys: Collection[Key]) -> Names:
    return {one.pk: one.name or one.external_id for one in EndUser.objects.filter(pk__in=keys)}


def _api_keys(keys: Collection[Key]) -> Names:
    return dict(APIKey.objects.filter(pk__in=keys).values_list("pk", "name"))


def _channels(keys: Collection[Key]) -> Names:
    return {key: str(Channel(key).label).capitalize() for key in keys}


def _by_id(word: str) -> Callable[[Key, str], tuple[str, str]]:
    return lambda key, name: (word, NONE if key is None else f"{name}#{key}")


def _by_value(word: str) -> Callable[[Key, str], tuple[str, str]]:
    return lambda key, name: (word, str(key) or NONE)


DIMENSIONS = {
    "model": Dimension(
        "Model", "model_name", _as_they_are, _by_value("used"), "No model was called"
    ),
    "teammate": Dimension("Teammate", "teammate", _teammates, _by_id("teammate")),
    "version": Dimension("Version", "version", _versions, _by_id("version")),
    "task": Dimension("Task", "task", _tasks, _by_id("task"), "No saved task"),
    "trigger": Dimension("Trigger", "channel", _channels, _by_value("channel")),
    "member": Dimension("Member", "created_by", _members, _by_id("by"), "Programs of nobody"),
    "end_user": Dimension("End user", "end_user", _end_users, _by_id("user"), "No end user"),
    "key": Dimension("Key", "api_key", _api_keys, _by_id("key"), "No key"),
    "tool": Dimension("Tool", "label", _as_they_are, _by_value("tool"), kind=LabelKind.TOOL),
    "tag": Dimension("Tag", "label", _as_they_are, _by_value("counted"), kind=LabelKind.TAG),
}
