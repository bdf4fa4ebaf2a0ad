"""Providers and their models: connected, chosen, priced."""

from decimal import Decimal, InvalidOperation

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from config.compiled import Hole, compiled
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.llm import known_models
from teammates.models import Effort, EmbeddingModel, Model, ModelPrice, Organization, Provider
from teammates.providers.kinds import KINDS
from teammates.public_http import check_url
from teammates.trust import audit

# Aliases that every organization has from the start (contract v2, D6). An operator maps them.
ANTHROPIC_MODELS = {
    # alias: (name, uncached input, cache read, cache write, output), dollars per million tokens
    "sonnet": ("claude-sonnet-5-5", "2", "0.1", "2.5", "10"),
    "opus": ("claude-opus-5-5", "4", "0.2", "5", "20"),
    "fable": ("claude-fable-5-2", "8", "0.2", "10", "40"),
}
LONGEST_URL, LONGEST_NAME = 500, 200
HIGHEST_PRICE = 100_000
LANES = ("uncached_input", "cache_read", "cache_write", "output")  # of a price


def add_built_in(organization: Organization) -> None:
    """The demo provider, and Anthropic's aliases that wait for a key."""
    demo = Provider.objects.create(organization=organization, name="Demo", kind="demo")
    model = Model.objects.create(
        organization=organization, provider=demo, alias="demo", name="demo", is_default=True
    )
    _set_price(model, "0", "0", "0", "0")
    anthropic = Provider.objects.create(
        organization=organization, name="Anthropic", kind="anthropic"
    )
    for alias, (name, *price) in ANTHROPIC_MODELS.items():
        of_theirs = {"provider": anthropic, "context_window": 1_000_000}
        model = Model.objects.create(organization=organization, alias=alias, name=name, **of_theirs)
        _set_price(model, *price)


@audit.recorded("provider.create")
def create_provider(
    access: Access, *, name: str, kind: str, api_key: str = "", base_url: str = ""
) -> Provider:
    """Connect a provider. Raises `Invalid`, `Forbidden`, `Conflict` (name taken)."""
    access.require("data.llm_credentials.manage")
    if kind not in KINDS or kind == "demo":
        raise Invalid(f"kind must be one of {', '.join([*KINDS][1:])}.")
    if not name.strip() or "^" in name:
        raise Invalid("name must not be empty or contain ^.")
    provider = Provider(
        organization=access.organization,
        name=name.strip(),
        kind=kind,
        api_key=api_key.strip(),
        base_url=base_url.strip(),
    )
    if provider.has_address and not provider.base_url:
        provider.base_url = KINDS[kind].address
        if not provider.base_url:
            raise Invalid(f"base_url: say where your {KINDS[kind].label} is.")
    _check_address(provider)
    try:
        with transaction.atomic():
            provider.save()
    except IntegrityError:
        raise Conflict(
            f"There is a provider named {name} already.", code="llm_providers.name_conflict"
        ) from None
    return provider


@transaction.atomic
def connect(
    access: Access, *, name: str, kind: str, api_key: str, base_url: str, model: str
) -> Provider:
    """Connect a provider with its first model; "model (provider)" where the alias is taken."""
    provider = create_provider(access, name=name, kind=kind, api_key=api_key, base_url=base_url)
    is_taken = Model.objects.filter(organization=access.organization, alias=model).exists()
    add_model(access, provider, alias=f"{model} ({provider})" if is_taken else model, name=model)
    return provider


@audit.recorded("provider.update")
def update_provider(
    access: Access, provider: Provider, *, api_key: str | None = None, base_url: str | None = None
) -> Provider:
    """Change key or address; None leaves it. Another address loses the key: whoever is asked there
    must not be handed it. Raises `Invalid`."""
    access.require("data.llm_credentials.manage", provider)
    if api_key is not None:
        provider.api_key = api_key.strip()
    if base_url is not None and base_url.strip() != provider.base_url:
        if not provider.has_address:
            raise Invalid(f"{provider.name} has no address of yours.")
        if not base_url.strip():
            raise Invalid("base_url must not be empty.")
        provider.base_url = base_url.strip()
        _check_address(provider)
        provider.api_key = api_key.strip() if api_key else ""
    provider.save(update_fields=["api_key", "base_url", "updated_at"])
    return provider


def providers_with_embeddings(access: Access) -> "QuerySet[Provider]":
    """Those that are ready and may have models that make vectors of texts."""
    kinds = [name for name, kind in KINDS.items() if kind.has_embeddings]
    keyless = [name for name in kinds if not KINDS[name].needs_key]
    found = Provider.objects.filter(organization=access.organization, kind__in=kinds)
    return found.filter(~Q(api_key="") | Q(kind__in=keyless)).order_by("id")


@audit.recorded("provider.delete")
def delete_provider(access: Access, provider: Provider) -> None:
    """Remove a provider with its models. Raises `Conflict` for the one in use by default."""
    access.require("data.llm_credentials.manage", provider)
    if provider.models.filter(is_default=True).exists():
        raise Conflict("The default model is this provider's; choose another default first.")
    # Locked first: whoever is writing vectors of its embedding model waits, and finds it gone.
    EmbeddingModel.objects.select_for_update().filter(provider=provider).first()
    provider.delete()


@audit.recorded("model.create", makes=Model)
def add_model(
    access: Access,
    provider: Provider,
    *,
    alias: str,
    name: str,
    prices: dict[str, str] | None = None,
    is_default: bool = False,
) -> Model:
    """Offer a model under `alias`; `prices` has the four lanes of `ModelPrice`. What is not given
    is the catalogue's, where that knows the model.

    Raises `Invalid`, `Forbidden`, `Conflict` (alias taken).
    """
    access.require("data.llm_credentials.manage", provider)
    alias, name = alias.strip() or name.strip(), name.strip()
    if not name:
        raise Invalid("name: say what the provider calls the model.")
    for field, text in (("alias", alias), ("name", name)):
        if len(text) > LONGEST_NAME:
            raise Invalid(f"{field} must have at most {LONGEST_NAME} characters.")
    known = known_models.find(provider.kind, name)
    try:
        with transaction.atomic():
            model = Model(
                organization=access.organization, provider=provider, alias=alias, name=name
            )
            if known is not None and known.context_window:
                model.context_window = known.context_window
            model.save()
            if prices is None and known is not None and known.prices:
                ModelPrice.objects.create(model=model, source=known.source, **known.prices)
            elif prices:
                _set_price(
                    model,
                    *(prices.get(lane) or "0" for lane in LANES),
                )
            if is_default:
                set_default_model(access, model)
    except IntegrityError:
        raise Conflict(
            f"There is a model called {alias} already.",
            code="llm_provider_models.model_conflict",
        ) from None
    return model


@audit.recorded("model.default")
@transaction.atomic
def set_default_model(access: Access, model: Model) -> Model:
    """Use `model` wherever none is named."""
    access.require("data.llm_credentials.manage", model)
    # The organization's row is the lock: two at once must not both be the default.
    Organization.objects.select_for_update().get(pk=access.organization.pk)
    Model.objects.filter(organization=access.organization, is_default=True).update(is_default=False)
    model.is_default = True
    model.save(update_fields=["is_default", "updated_at"])
    return model


@audit.recorded("model.limits")
@transaction.atomic
def update_model(
    access: Access,
    model: Model,
    *,
    fallback: Model | None,
    max_effort: str,
    context_window: int,
    max_output_tokens: int | None = None,
) -> Model:
    """Set who answers when the model cannot, and its limits. Raises `Invalid` for a circle."""
    access.require("data.llm_credentials.manage", model)
    # The organization's row is the lock: two changes at once must not close a circle.
    Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
    if max_effort not in Effort.values:
        raise Invalid(f"max_effort must be one of {', '.join(Effort.values)}.")
    if not 1_000 <= context_window <= 10_000_000:
        raise Invalid("context_window must be 1000 to 10 000 000 tokens.")
    if max_output_tokens is not None and not 1 <= max_output_tokens <= 1_000_000:
        raise Invalid("max_output_tokens must be 1 to 1 000 000 tokens.")
    seen, behind = {model.pk}, fallback
    while behind is not None:
        if behind.pk in seen:
            raise Invalid(f"fallback: {behind.alias} would come back to itself.")
        seen.add(behind.pk)
        behind = behind.fallback
    model.fallback, model.max_effort, model.context_window = fallback, max_effort, context_window
    model.max_output_tokens = max_output_tokens or model.max_output_tokens
    changed = ["fallback", "max_effort", "context_window", "max_output_tokens"]
    model.save(update_fields=[*changed, "updated_at"])
    return model


def learn_limits(model: Model, **limits: int) -> None:
    """Remember limits (`context_window`, `max_output_tokens`) that the provider named, where they
    are lower than what was thought."""
    Model.objects.filter(pk=model.pk).lower(**limits)


def fallback_of(model: Model) -> Model | None:
    """Who answers when `model` cannot; one whose provider lacks its key is passed over."""
    seen = {model.pk}
    behind = model.fallback_id
    while behind is not None and behind not in seen:
        seen.add(behind)
        found = Model.objects.select_related("provider__organization").get(pk=behind)
        if found.provider.is_ready:
            return found
        behind = found.fallback_id
    return None


@compiled
def _default_model(organization_id: Hole) -> "QuerySet[Model]":
    return Model.objects.filter(organization=organization_id).by_priority()[:1]


@compiled
def _model_by_alias(organization_id: Hole, alias: Hole) -> "QuerySet[Model]":
    return Model.objects.filter(organization=organization_id, alias=alias).by_priority()


def resolve_model(organization: Organization, alias: str = "") -> Model:
    """The model of an alias, of `provider^model`, or the default.

    Raises `Invalid` naming the model if there is none.
    """
    if not alias:
        found = _default_model.first(organization_id=organization.pk)
        if found is None:
            raise Invalid("No model is set up; add one in Models & prices.")
        return found
    provider, hat, name = alias.partition("^")
    if hat:
        models = Model.objects.filter(organization=organization).by_priority()
        found = models.filter(provider__name=provider, name=name).first()
    else:
        found = _model_by_alias.first(organization_id=organization.pk, alias=alias)
    if found is None:
        raise Invalid(
            f"model: there is no model {alias!r}; GET /models/ lists those that exist.",
            code="routing.not_found",
        )
    return found


def reloaded(model: Model) -> Model:
    """The model and its provider as they are now: an admin may have changed a key or a limit."""
    return Model.objects.select_related("provider__organization").get(pk=model.pk)


@compiled
def _models(organization_id: Hole) -> "QuerySet[Model]":
    return Model.objects.filter(organization=organization_id).by_priority()


def ready_models(organization: Organization) -> list[Model]:
    """Those that can be asked now, by priority."""
    models = _models.all(organization_id=organization.pk)
    return [model for model in models if model.provider.is_ready]


def models_of(access: Access) -> "QuerySet[Model]":
    """The organization's models, by priority."""
    access.require("data.personas.read")
    return Model.objects.filter(organization=access.organization).by_priority()


def get_route(organization: Organization, route_id: str) -> Model:
    """A v1 route: the model's uid, or its alias. Raises `NotFound`."""
    import uuid

    try:
        found = Model.objects.filter(organization=organization, uid=uuid.UUID(route_id)).first()
    except ValueError:
        found = Model.objects.filter(organization=organization, alias=route_id).first()
    if found is None:
        raise NotFound(f"There is no route {route_id!r}.", code="routing.not_found")
    return found


@audit.recorded("model.price", makes=ModelPrice)
def set_price(
    access: Access,
    model: Model,
    *,
    uncached_input: str,
    cache_read: str,
    cache_write: str,
    output: str,
) -> ModelPrice:
    """What a model costs from now on, in dollars per million tokens; what was booked stays.

    Raises `Invalid`.
    """
    access.require("data.llm_credentials.manage", model)
    return _set_price(model, uncached_input, cache_read, cache_write, output)


def _set_price(model: Model, *lanes: str) -> ModelPrice:
    return ModelPrice.objects.create(model=model, **read_price(*lanes))


def read_price(
    uncached_input: str, cache_read: str, cache_write: str, output: str
) -> dict[str, Decimal]:
    """The lanes of a `ModelPrice` as somebody wrote them. Raises `Invalid`."""
    given = (uncached_input, cache_read, cache_write, output)
    try:
        lanes = [Decimal(lane) for lane in given]
    except InvalidOperation:
        raise Invalid("price must be a number of dollars per million tokens.") from None
    if not all(lane.is_finite() and 0 <= lane < HIGHEST_PRICE for lane in lanes):
        raise Invalid(f"price must be 0 to {HIGHEST_PRICE} dollars per million tokens.")
    return dict(zip(LANES, lanes, strict=True))


def _check_address(provider: Provider) -> None:
    if len(provider.base_url) > LONGEST_URL:
        raise Invalid(f"base_url must have at most {LONGEST_URL} characters.")
    if provider.base_url:
        private = provider.connection.may_be_private
        check_url(provider.base_url, may_be_private=private, field="base_url")
