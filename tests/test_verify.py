"""POST /verify, the ICE servers, and what platforms ask."""

import re
from typing import Any

import pytest

from tests.conftest import Start
from tests.support import Scene, link_in, new_fingerprint, stored, text_of

PAIR = re.compile(r"\d{3}-\d{3}")


def assert_is_no(answer: dict[str, Any]) -> None:
    assert answer.keys() == {"verified", "pair"}
    assert answer["verified"] is False
    assert PAIR.fullmatch(answer["pair"])


async def test_a_known_an_unknown_and_an_unserved_address_get_the_same_answer(start: Start) -> None:
    scene = await start(owners=("@example.org",))
    known = scene.owner("known@example.org")
    await known.log_in()
    for address in (known.address, "unknown@example.org", "unserved@example.com"):
        assert_is_no(await scene.verify(new_fingerprint(), email=address))


async def test_a_denied_device_gets_the_same_answer_and_causes_no_mail(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    before = await scene.verify(fp, email=owner.address)
    await owner.open_link(await scene.mailbox.next_link(owner.address))
    await owner.do(f"/peers/{fp}/reject", pair=before["pair"])
    assert await scene.verify(fp, email=owner.address) == before
    await scene.at_rest()
    assert scene.mailbox.mails == []
    assert before["pair"] not in await owner.page()


async def test_an_unserved_address_gets_no_mail(start: Start) -> None:
    scene = await start(owners=("@example.org",))
    await scene.verify(new_fingerprint(), email="unserved@example.com")
    await scene.at_rest()
    assert scene.mailbox.mails == []


async def test_asking_again_is_the_same_request_with_the_same_code_and_no_second_mail(start: Start) -> None:
    scene = await start(mail_interval=60)
    owner, fp = scene.owner(), new_fingerprint()
    first = await scene.verify(fp, email=owner.address)
    mail = await scene.mailbox.next_mail(owner.address)
    assert await scene.verify(fp, email=owner.address.upper()) == first
    await scene.at_rest()
    assert scene.mailbox.mails == []
    await owner.open_link(link_in(mail))
    assert (await owner.page()).count(f'<p class="pair">{first["pair"]}</p>') == 1


async def test_the_code_is_the_same_in_the_answer_the_mail_the_page_and_on_the_socket(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    pair = (await scene.verify(fp, email=owner.address))["pair"]
    mail = await scene.mailbox.next_mail(owner.address)
    assert pair in text_of(mail)
    await owner.open_link(link_in(mail))
    assert pair in await owner.page()
    device = await scene.connect(fp, email=owner.address)
    assert (await device.hear())["pair"] == pair


async def test_a_verified_fingerprint_gets_its_owners_uid(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    assert await scene.verify(device.fp, email=owner.address) == {"verified": True, "uid": await owner.uid()}


async def test_verified_in_one_book_is_not_verified_in_another(scene: Scene) -> None:
    device = await scene.join(scene.owner())
    assert_is_no(await scene.verify(device.fp, email=scene.owner().address))


async def test_a_revoked_device_is_not_verified(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    await owner.do(f"/peers/{device.fp}/revoke")
    assert_is_no(await scene.verify(device.fp, email=owner.address))


async def test_a_device_that_was_entered_ahead_is_verified_when_it_asks(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    await owner.do("/peers", fp=fp, name="doorbell")
    assert (await scene.verify(fp, email=owner.address))["verified"] is True


async def test_a_uid_stands_for_the_address(scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    by_uid = await scene.verify(fp, uid=await owner.uid())
    assert by_uid["pair"] in text_of(await scene.mailbox.next_mail(owner.address))
    assert by_uid == await scene.verify(fp, email=owner.address)


async def test_a_uid_that_nobody_has_gets_the_same_answer_and_stores_nothing(scene: Scene) -> None:
    assert_is_no(await scene.verify(new_fingerprint(), uid="0" * 32))
    await scene.at_rest()
    assert await stored(scene.context.store.redis) == set()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content-Type": "application/json; charset=utf-8"}, id="json"),
        pytest.param({"Content-Type": "text/plain"}, id="text"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"Content-Type": "multipart/form-data"}, id="multipart"),
        pytest.param({}, id="none"),
    ],
)
async def test_any_content_type_will_do(scene: Scene, headers: dict[str, str]) -> None:
    body = f'{{"fp": "{new_fingerprint()}", "email": "{scene.owner().address}"}}'
    answer = await scene.http.post("/verify", content=body.encode(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert_is_no(answer.json())


async def test_every_form_of_a_fingerprint_is_the_same_device(scene: Scene) -> None:
    owner = scene.owner()
    device = await scene.join(owner)
    colons = ":".join(device.fp[i : i + 2] for i in range(0, 64, 2))
    for form in (device.fp, device.fp.lower(), colons, colons.lower(), f"sha-256 {colons}", f"SHA-256 {colons}"):
        assert (await scene.verify(form, email=owner.address))["verified"] is True, form


async def test_the_owner_sees_the_name_and_the_kind_that_a_device_gives(scene: Scene) -> None:
    owner = scene.owner()
    await scene.verify(new_fingerprint(), email=owner.address, name="Grandma's piano", kind="piano-v2")
    mail = await scene.mailbox.next_mail(owner.address)
    assert "Grandmas piano" in text_of(mail)
    await owner.open_link(link_in(mail))
    page = await owner.page()
    assert "Grandma&#39;s piano" in page
    assert "piano-v2" in page


async def test_a_full_list_of_requests_replaces_the_oldest(start: Start) -> None:
    scene = await start(max_requests=2)
    owner = scene.owner()
    await owner.log_in()
    pairs = [(await scene.verify(new_fingerprint(), email=owner.address))["pair"] for _ in range(3)]
    page = await owner.page()
    assert page.count('<p class="pair">') == 2
    assert pairs[2] in page


async def test_turn_and_iceservers_tell_the_servers_that_need_no_credentials(start: Start) -> None:
    servers = [{"urls": ["stun:stun.example.org:3478"]}]
    scene = await start(ice_servers=tuple(servers))
    for path in ("/turn", "/iceservers"):
        answer = await scene.http.post(path)
        assert (answer.status_code, answer.json()) == (200, servers)


async def test_turn_and_iceservers_are_an_array_where_there_are_none(scene: Scene) -> None:
    for path in ("/turn", "/iceservers"):
        answer = await scene.http.post(path, json={})
        assert (answer.status_code, answer.json()) == (200, [])


async def test_a_running_server_is_alive_and_healthy(scene: Scene) -> None:
    assert (await scene.http.get("/livez")).status_code == 200
    assert (await scene.http.get("/healthz")).status_code == 200


async def test_a_server_that_stops_is_alive_but_not_healthy(scene: Scene) -> None:
    scene.context.draining = True
    assert (await scene.http.get("/livez")).status_code == 200
    answer = await scene.http.get("/healthz")
    assert (answer.status_code, answer.json()["code"]) == (503, 503)


async def test_there_are_no_metrics_without_a_token(scene: Scene) -> None:
    answer = await scene.http.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (404, 404)
