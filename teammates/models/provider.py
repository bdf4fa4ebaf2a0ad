"""Providers of models (v1: routes), with encrypted keys, aliases and dated prices."""

from decimal import ROUND_UP, Decimal
from typing import ClassVar

from django.db import models
from django.utils import timezone

from teammates.fields import EncryptedField, Identified
from teammates.models.people import Organization
from teammates.models.teammate import Effort
from teammates.providers import Connection
from teammates.providers.base import TokenUsage
from teammates.providers.kinds import KINDS


class Provider(Identified):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="providers"
    )
    name = models.CharField(max_length=100)
    kind = models.CharField(
        max_length=20, choices=[(name, kind.label) for name, kind in KINDS.items()]
    )
    base_url = models.CharField(max_length=500, blank=True, default="")
    api_key = EncryptedField(blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "name", name="provider_name_once"),
            models.CheckConstraint(
                condition=models.Q(kind__in=list(KINDS)), name="provider_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def needs_key(self) -> bool:
        return KINDS[self.kind].needs_key

    @property
    def has_address(self) -> bool:
        """Whether it is a server of one's own."""
        return KINDS[self.kind].has_own_address

    @property
    def is_ready(self) -> bool:
        return bool(self.api_key) or not self.needs_key

    @property
    def has_embeddings(self) -> bool:
        """Whether it may have models that make vectors of texts."""
        return KINDS[self.kind].has_embeddings

    @property
    def connection(self) -> Connection:
        """What a client of this provider needs."""
        may_be_private = self.organization.reaches_private_addresses
        return Connection(self.kind, self.base_url, self.api_key, may_be_private)

    @property
    def masked_key(self) -> str:
        return f"{self.api_key[:4]}…{self.api_key[-4:]}" if len(self.api_key) > 12 else "•••"

    @property
    def key_hint(self) -> str:
        return f"Key is set: {self.masked_key}" if self.api_key else "API key"


class ModelQuerySet(models.QuerySet["Model"]):
    def by_priority(self) -> "ModelQuerySet":
        return self.select_related("provider__organization").order_by(
            "-is_default", "-priority", "id"
        )

    def lower(self, **limits: int) -> None:
        """Set limits (`context_window`, `max_output_tokens`) where they are higher than that."""
        for name, tokens in limits.items():
            higher = self.filter(**{f"{name}__gt": tokens})
            higher.update(**{name: tokens, "updated_at": timezone.now()})


class Model(Identified):
    """One model of a provider under the alias that people and programs use."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="models")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="models")
    alias = models.CharField(max_length=200)
    name = models.CharField(max_length=200)  # what the provider calls it
    is_default = models.BooleanField(default=False)
    priority = models.IntegerField(default=0)
    max_output_tokens = models.PositiveIntegerField(default=8192)
    context_window = models.PositiveIntegerField(default=200_000)  # tokens
    max_effort = models.CharField(max_length=10, choices=Effort.choices, default=Effort.MAX)
    # Who answers when this one cannot. A chain never comes back to its beginning.
    fallback = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # The last small call that somebody had made to see whether it answers (`checks.py`).
    test_due_at = models.DateTimeField(null=True)
    tested_at = models.DateTimeField(null=True)
    test_error = models.CharField(max_length=300, blank=True, default="")
    test_answer = models.CharField(max_length=300, blank=True, default="")
    test_ms = models.PositiveIntegerField(null=True)

    objects = ModelQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("organization", "alias", name="model_alias_once"),
            models.UniqueConstraint(
                "organization", name="model_one_default", condition=models.Q(is_default=True)
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["test_due_at"],
                name="model_test_due",
                condition=models.Q(test_due_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.alias

    @property
    def shown_price(self) -> "ModelPrice | None":
        """`price_now` of rows whose prices are prefetched."""
        valid = [price for price in self.prices.all() if price.valid_from <= timezone.now()]
        return max(valid, key=lambda price: price.valid_from, default=None)

    def price_now(self) -> "ModelPrice | None":
        return self.prices.filter(valid_from__lte=timezone.now()).order_by("-valid_from").first()


class ModelPrice(models.Model):
    """US dollars per million tokens, from `valid_from` on."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")
    valid_from = models.DateTimeField(default=timezone.now)
    uncached_input = models.DecimalField(max_digits=12, decimal_places=6)
    cache_read = models.DecimalField(max_digits=12, decimal_places=6)
    cache_write = models.DecimalField(max_digits=12, decimal_places=6)
    output = models.DecimalField(max_digits=12, decimal_places=6)
    # The catalogue and release that it is of; empty: somebody set it.
    source = models.CharField(max_length=50, blank=True, default="", db_default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint("model", "valid_from", name="model_price_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} from {self.valid_from:%Y-%m-%d}"

    def costs(self, usage: TokenUsage) -> dict[str, Decimal]:
        """Dollars of one call, by lane."""
        million = Decimal(1_000_000)
        return {lane: n * getattr(self, lane) / million for lane, n in usage.lanes.items()}

    def saved_by_cache(self, tokens: int) -> Decimal:
        """Dollars that input which was read from a cache would have cost more."""
        return tokens * (self.uncached_input - self.cache_read) / 1_000_000

    def most(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Dollars that one call costs at most, whatever a cache reads or writes."""
        dearest = max(self.uncached_input, self.cache_read, self.cache_write)
        most = (input_tokens * dearest + output_tokens * self.output) / 1_000_000
        return most.quantize(Decimal("0.000001"), ROUND_UP)

    def cost(self, usage: TokenUsage) -> Decimal:
        """Dollars of one call."""
        return sum(self.costs(usage).values(), start=Decimal(0))
