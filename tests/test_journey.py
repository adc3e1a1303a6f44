"""The main job: a device asks, its owner approves it by mail, and two devices signal."""

from tests.support import Scene


async def test_a_device_asks_its_owner_approves_it_and_two_devices_signal(scene: Scene) -> None:
    owner = scene.owner()
    laptop = await scene.connect(email=owner.address, name="laptop", kind="lab")
    waiting = await laptop.hear()
    assert waiting["code"] == 401
    mail = await scene.mailbox.next_mail(owner.address)
    from tests.support import link_in, text_of

    assert waiting["pair"] in text_of(mail)
    await owner.open_link(link_in(mail))
    page = await owner.page()
    assert waiting["pair"] in page
    await owner.approve(laptop.fp, pair=waiting["pair"])
    welcome = await laptop.hear()
    assert welcome["code"] == 200
    peers = await laptop.hear()
    print(peers)
    phone = await scene.connect(email=owner.address, name="phone")
    w = await phone.hear()
    await owner.approve(phone.fp)
    assert (await phone.hear())["code"] == 200
    print(await phone.hear())
    print(await laptop.hear())
    await laptop.say({"target": phone.fp, "offer": {"a": 1}})
    print(await phone.hear())
    await owner.do(f"/peers/{phone.fp}/revoke")
    assert await phone.close_code() == 4403
    print(await laptop.hear())
    print(await laptop.ask({"target": phone.fp, "offer": {"a": 1}}))
