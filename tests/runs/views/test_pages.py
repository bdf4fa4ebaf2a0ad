"""Pages without a browser: the queries they need, what they refuse, what they draw."""

import pytest
from django.test import Client

from teammates.access import Access
from teammates.models import Role, Teammate
from tests.factories import browser_of, make_bob, make_thread
from threads.models import Thread


@pytest.fixture
def client(alice: Access) -> Client:
    return browser_of(alice)


def test_headers_are_strict(client: Client) -> None:
    response = client.get("/")
    policy = response["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "style=" not in response.content.decode()
    assert response["X-Frame-Options"] == "DENY"


def test_a_refused_first_message_leaves_no_thread(client: Client, alice: Access) -> None:
    before = Thread.objects.count()
    assert client.post("/threads/new/", {"message": "  "}).status_code == 422
    assert client.post("/threads/new/", {"message": "x", "teammate": "999999"}).status_code == 422
    viewer = browser_of(make_bob(alice, role=Role.VIEWER))
    assert viewer.post("/threads/new/", {"message": "x"}).status_code == 422
    assert Thread.objects.count() == before


def test_a_refusal_to_htmx_is_a_message_and_not_a_page(client: Client, alice: Access) -> None:
    thread = make_thread(alice)
    answer = client.post(
        f"/threads/{thread.pk}/send/", {"message": " "}, headers={"HX-Request": "true"}
    )
    assert answer.status_code == 422
    assert answer.json() == {"message": "message must not be empty."}


def test_the_setup_link_works_once(db: None) -> None:
    from teammates.people import organizations, setup

    organization = organizations.first_organization()
    token = setup.make_setup_token(organization)
    form = {
        "organization_name": "Acme",
        "email": "ann@example.com",
        "timezone": "Europe/Berlin",
        "password": "correct horse battery",
    }
    assert Client().get(f"/setup/{token}x/").status_code == 302
    weak = Client().post(f"/setup/{token}/", form | {"password": "password"})
    assert weak.status_code == 422
    assert Client().post(f"/setup/{token}/", form)["Location"] == "/"
    assert Client().get(f"/setup/{token}/")["Location"] == "/sign-in/"
    assert setup.make_setup_token(organization) is None


def test_sign_in_goes_back_to_where_one_wanted_to_be(alice: Access) -> None:
    wanted = Client().get("/runs/?status=failed&after=3")["Location"]
    assert wanted == "/sign-in/?next=/runs/%3Fstatus%3Dfailed%26after%3D3"
    form = {"email": "alice@example.com", "password": "correct horse battery"}
    assert Client().post(wanted, form)["Location"] == "/runs/?status=failed&after=3"
    elsewhere = Client().post("/sign-in/?next=https://evil.example/", form)
    assert elsewhere["Location"] == "/"
    wrong = Client().post("/sign-in/", form | {"password": "x"})
    assert wrong.status_code == 422
    assert "E-mail or password is wrong." in wrong.content.decode()


def test_an_edit_makes_the_next_version(client: Client, alice: Access) -> None:
    teammate = Teammate.objects.get(organization=alice.organization, key="normal")
    form = {"name": "Demo", "instructions": "New ones.", "permission_mode": "approval"}
    assert client.post(f"/teammates/{teammate.pk}/?tab=setup", form).status_code == 302
    assert client.post(f"/teammates/{teammate.pk}/?tab=setup", form).status_code == 302
    teammate.refresh_from_db()
    assert teammate.current_version.number == 2
    assert teammate.versions.get(number=1).instructions != "New ones."


def test_a_key_is_shown_once_and_stored_nowhere(client: Client) -> None:
    import re

    page = client.post("/settings/keys/new/", {"name": "ci"}).content.decode()
    (secret,) = set(re.findall(r"m8_[0-9a-f]{64}", page))
    assert secret not in client.get("/settings/keys/").content.decode()


def test_a_provider_whose_model_is_refused_is_not_left_behind(client: Client) -> None:
    form = {"kind": "openai", "name": "Mine", "api_key": "sk-x", "model": "m" * 198}
    assert client.post("/settings/models/", form | {"name": "First"}).status_code == 302
    assert client.post("/settings/models/", form).status_code == 422
    assert client.post("/settings/models/", form | {"model": "gpt-x"}).status_code == 302
