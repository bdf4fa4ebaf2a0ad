"""Web search: set up, and turned off."""

from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import WebSearch
from teammates.public_http import check_url
from teammates.tools.search import ENGINES
from teammates.trust import audit

LONGEST_ADDRESS = 500


def of_organization(access: Access) -> WebSearch | None:
    return WebSearch.objects.filter(organization=access.organization).first()


@audit.recorded("web_search.set", makes=WebSearch)
def set_up(access: Access, *, kind: str, api_key: str = "", address: str = "") -> WebSearch:
    """Have teammates search through an engine. The key that is there stays if none is given, unless
    another engine or address is asked: that must not be handed it. Raises `Invalid`."""
    access.require("data.llm_credentials.manage")
    engine = ENGINES.get(kind)
    if engine is None:
        raise Invalid(f"kind must be one of {', '.join(ENGINES)}.")
    address, api_key = address.strip(), api_key.strip()
    if engine.address and address:
        raise Invalid(f"address: {engine.label} is where it is; leave this empty.")
    if not engine.address and not address:
        raise Invalid(f"address: say where your {engine.label} is.")
    if len(address) > LONGEST_ADDRESS:
        raise Invalid(f"address must have at most {LONGEST_ADDRESS} characters.")
    before = of_organization(access)
    if before is not None and (before.kind, before.address) == (kind, address):
        api_key = api_key or before.api_key
    if engine.needs_key and not api_key:
        raise Invalid(f"api_key: {engine.label} wants a key.")
    found = before or WebSearch(organization=access.organization)
    found.kind, found.api_key, found.address = kind, api_key, address
    if address:
        private = found.connection.may_be_private
        check_url(address, may_be_private=private, field="address")
    found.save()
    return found


@audit.recorded("web_search.remove")
def turn_off(access: Access, web_search: WebSearch) -> None:
    """Nobody searches any more."""
    access.require("data.llm_credentials.manage", web_search)
    web_search.delete()
