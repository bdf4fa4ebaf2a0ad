"""What is said: threads, messages, files."""

from typing import TYPE_CHECKING, ClassVar, Self

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.urls import reverse

from teammates.fields import Identified
from teammates.media import kind_of
from teammates.models import EndUser, Organization, Teammate, User
from teammates.models.scoped import Owned, OwnedQuerySet
from teammates.searching import name_vector_of, vector_of

if TYPE_CHECKING:
    from teammates.access import Access


class ThreadQuerySet(OwnedQuerySet["Thread"]):
    def visible_to(self, access: "Access") -> Self:
        return super().visible_to(access).filter(deleted_at=None)

    def for_list(self) -> Self:
        return self.select_related("organization", "created_by", "teammate")

    def listed(self) -> Self:
        return self.filter(deleted_at=None, is_private=False)


class Thread(Owned, Identified):
    """A conversation. Its row is the lock of its queue of runs (`next_position`)."""

    READ = "data.threads.read"
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="threads")
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.PROTECT, related_name="threads"
    )
    created_by = models.ForeignKey(
        User, null=True, on_delete=models.SET_NULL, related_name="threads"
    )
    # Who answers here unless somebody else is chosen.
    teammate = models.ForeignKey(
        Teammate, null=True, on_delete=models.SET_NULL, related_name="threads"
    )
    title = models.CharField(max_length=200, blank=True, default="")
    is_private = models.BooleanField(default=False)
    # Kept at the top of its maker's list.
    starred_at = models.DateTimeField(null=True)
    # The thread that this one was forked from.
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="forks")
    next_position = models.BigIntegerField(default=0)
    # Somebody outside of the organization had a say in what is written here. Never taken back.
    heard_outside = models.BooleanField(default=False)
    deleted_at = models.DateTimeField(null=True)

    objects = ThreadQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            # The list of threads, newest first (`conversations.list_threads`).
            models.Index(
                fields=["organization", "-updated_at", "-id"],
                name="thread_list",
                condition=models.Q(deleted_at=None, is_private=False),
            ),
            models.Index(
                fields=["organization", "created_by", "-updated_at", "-id"],
                name="thread_list_own",
                condition=models.Q(deleted_at=None, is_private=False),
            ),
            GinIndex(vector_of("title"), name="thread_search"),
        ]

    def __str__(self) -> str:
        return self.title or "Untitled"

    def get_absolute_url(self) -> str:
        return reverse("runs:thread_detail", args=[self.pk])


class MessageRole(models.TextChoices):
    USER = "user"
    ASSISTANT = "assistant"


class Message(Identified):
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="messages")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    role = models.CharField(max_length=10, choices=MessageRole.choices)
    content = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(role__in=MessageRole.values), name="message_role_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["thread", "id"], name="message_in_thread"),
            GinIndex(vector_of("content"), name="message_search"),
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:40]}"


class FileQuerySet(models.QuerySet["File"]):
    def current(self) -> Self:
        """The newest version of each name, by name."""
        return self.order_by("name", "-version").distinct("name")


class File(Identified):
    """One version of a file. Never changed: writing the name again makes the next version."""

    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    version = models.PositiveIntegerField(default=1)
    size = models.BigIntegerField()
    content_type = models.CharField(max_length=100)
    sha256 = models.CharField(max_length=64)
    stored_as = models.CharField(max_length=300)

    objects = FileQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("thread", "name", "version", name="file_version_once"),
            models.CheckConstraint(
                condition=~models.Q(name="") & ~models.Q(name__contains="/"),
                name="file_name_is_a_basename",
            ),
        ]
        indexes: ClassVar = [
            GinIndex(name_vector_of("name"), name="file_search"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_picture(self) -> bool:
        return kind_of(self.content_type) == "picture"
