"""What teammates know beyond their instructions: memories, skills and documents."""

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.urls import reverse

from teammates.fields import Identified
from teammates.models.people import EndUser, Organization, User
from teammates.models.scoped import ScopedQuerySet
from teammates.models.teammate import Teammate
from teammates.searching import CONFIG

if TYPE_CHECKING:
    from teammates.access import Access


class KnowledgeQuerySet(ScopedQuerySet):
    def visible_to(self, access: "Access") -> Self:
        """Those of the scope, without what belongs to a colleague's own teammate.

        Raises `Forbidden` where it is an end user's and the asker may not look.
        """
        access.require_scope()
        mine = Teammate.objects.visible_to(replace(access, end_user=None))
        of_theirs = models.Q(teammate=None) | models.Q(teammate__in=mine.values("pk"))
        return super().visible_to(access).filter(of_theirs)

    def for_teammate(self, access: "Access", teammate: Teammate) -> Self:
        """What a run of the teammate, with this access, works with: of exactly its scope."""
        of_it = models.Q(teammate=None) | models.Q(teammate=teammate)
        return access.exact_scope(self).filter(of_it)


class MemoryQuerySet(KnowledgeQuerySet):
    def visible_to(self, access: "Access") -> Self:
        """Without what was kept of colleagues alone; admins see that too."""
        found = super().visible_to(access)
        return found if access.is_admin else found.told_to(access)

    def for_teammate(self, access: "Access", teammate: Teammate) -> Self:
        return super().for_teammate(access, teammate).told_to(access)

    def told_to(self, access: "Access") -> Self:
        """What a run may be told that this asker started: what is everybody's, and what was kept
        of themselves. Nothing for words from outside."""
        if access.origin:
            return self.none()
        return self.exclude(PRIVATE & ~models.Q(created_by=access.user))


class Audience(models.TextChoices):
    PERSONAL = "personal", "About a person"
    COMPANY = "company", "About the company"


class Author(models.TextChoices):
    API = "api", "A program"
    PERSON = "person", "A person"
    AGENT = "agent", "A teammate"


# Kept of one person: what is said to be about them, and what a teammate heard from them and did
# not say to be the company's. An end user's scope is one person's already.
PRIVATE = models.Q(end_user=None) & (
    models.Q(audience=Audience.PERSONAL)
    | models.Q(author=Author.AGENT) & ~models.Q(audience=Audience.COMPANY)
)


class Memory(Identified):
    """One thing to remember. Scopes never mix: an end user's, or the account's own."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memories"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="memories"
    )
    # Private to one teammate, else for all of the scope.
    teammate = models.ForeignKey(
        Teammate, null=True, on_delete=models.CASCADE, related_name="memories"
    )
    content = models.CharField(max_length=300)
    same_as = models.CharField(max_length=300)  # the content, normalised: no two are the same
    audience = models.CharField(max_length=8, blank=True, default="", choices=Audience.choices)
    author = models.CharField(max_length=6, choices=Author.choices)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    written_by = models.ForeignKey(Teammate, null=True, on_delete=models.SET_NULL, related_name="+")
    source_run_id = models.BigIntegerField(null=True)  # `runs` is above this app
    used_count = models.PositiveIntegerField(default=0)
    last_used_at = models.DateTimeField(null=True)

    objects = MemoryQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "end_user",
                "teammate",
                "same_as",
                name="memory_once",
                nulls_distinct=False,
                condition=~PRIVATE,
            ),
            models.UniqueConstraint(
                "organization",
                "created_by",
                "teammate",
                "same_as",
                name="memory_once_of_a_person",
                nulls_distinct=False,
                condition=PRIVATE,
            ),
            models.CheckConstraint(
                condition=models.Q(audience__in=["", *Audience.values]),
                name="memory_audience_known",
            ),
            models.CheckConstraint(
                condition=models.Q(author__in=Author.values), name="memory_author_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "end_user", "-id"], name="memory_list"),
            GinIndex(SearchVector("content", config="simple"), name="memory_search"),
        ]

    def __str__(self) -> str:
        return self.content


class SkillStatus(models.TextChoices):
    ACTIVE = "active", "Active"
    DISABLED = "disabled", "Off"


class Skill(Identified):
    """Named instructions that a teammate loads when its task calls for them."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="skills")
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="skills"
    )
    teammate = models.ForeignKey(  # None: for all
        Teammate, null=True, on_delete=models.CASCADE, related_name="skills"
    )
    slug = models.CharField(max_length=100)  # stays when the name changes
    name = models.CharField(max_length=200)
    description = models.CharField(max_length=1000)  # when to use it
    body = models.TextField()
    status = models.CharField(max_length=8, choices=SkillStatus.choices, default=SkillStatus.ACTIVE)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    written_by = models.ForeignKey(Teammate, null=True, on_delete=models.SET_NULL, related_name="+")

    objects = KnowledgeQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization", "end_user", "slug", name="skill_slug_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=SkillStatus.values), name="skill_status_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Document(Identified):
    """A longer text that teammates keep and read again: the company's, or one teammate's own."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="documents"
    )
    end_user = models.ForeignKey(
        EndUser, null=True, on_delete=models.CASCADE, related_name="documents"
    )
    teammate = models.ForeignKey(  # None: the company's
        Teammate, null=True, on_delete=models.CASCADE, related_name="documents"
    )
    name = models.CharField(max_length=200)
    summary = models.CharField(max_length=1000, blank=True, default="")
    content = models.TextField()
    size = models.PositiveIntegerField()  # bytes of the content
    mime_type = models.CharField(max_length=100, default="text/markdown")
    author = models.CharField(max_length=6, choices=Author.choices)
    written_by = models.ForeignKey(Teammate, null=True, on_delete=models.SET_NULL, related_name="+")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    source_run_id = models.BigIntegerField(null=True)  # `runs` is above this app

    objects = KnowledgeQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "organization",
                "end_user",
                "teammate",
                "name",
                name="document_name_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=models.Q(author__in=Author.values), name="document_author_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["organization", "end_user", "teammate", "-id"], name="document_list"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Passage(models.Model):
    """A piece of a document that searches find and answers cite."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="passages")
    number = models.PositiveIntegerField()  # in the document, from 1
    heading = models.CharField(max_length=200, blank=True, default="")  # that it stands under
    content = models.TextField()
    words = models.GeneratedField(
        expression=SearchVector("heading", "content", config=CONFIG),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("document", "number", name="passage_number_once"),
        ]
        indexes: ClassVar = [GinIndex(fields=["words"], name="passage_search")]

    def __str__(self) -> str:
        return f"{self.document}, {self.place}"

    def get_absolute_url(self) -> str:
        page = reverse("teammates:document_detail", args=[self.document_id])
        return f"{page}?passage={self.number}#passage-{self.number}"

    @property
    def digest(self) -> str:
        """Another, as good as surely, once the passage says something else."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:12]

    @property
    def place(self) -> str:
        """Where in its document it stands, for people."""
        return self.heading or f"part {self.number}"
