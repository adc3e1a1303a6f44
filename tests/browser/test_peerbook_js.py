"""peerbook.js in real Chromium: tabs of different profiles connect, whatever happens to the server between them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, WebSocketRoute, async_playwright

from tests.browser.conftest import FLAGS, OpenTab, find_chromium
from tests.browser.tabs import Tab, pair_of
from tests.conftest import Start
from tests.support import Owner, Scene, eventually

FORGED = ":".join(["EE"] * 32)
# Notes each waiting time, and does not wait.
PAUSES = """
window.pauses = [];
const waits = setTimeout;
window.setTimeout = (work, ms, ...rest) => { if (ms) pauses.push(ms); return waits(work, 0, ...rest); };
"""


async def restarted(scene: Scene, start: Start) -> Scene:
    """The server ends, and another one with the same store takes its place."""
    port = scene.running.port
    await scene.stop()
    return await start(port=port)


async def test_two_profiles_ask_are_approved_and_connect(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    await phone.connect("home-pi")
    assert await phone.ask("hello") == "home-pi heard hello"
    assert await home.see("channels.map(each => [each.fp, each.name])") == [[phone.fp, "phone"]]
    (outcome,) = await phone.see("outcomes")
    assert (outcome["fp"], outcome["result"]) == (home.fp, "direct")
    assert await home.see("outcomes") == []
    await scene.at_rest()
    assert "home-pi</span>: direct" in await owner.page()
    assert "proves itself by secret" in await owner.page()
    assert await phone.see("book.verify()") == {"verified": True, "uid": await owner.uid()}


async def test_a_connection_outlives_a_restart_of_the_server_and_is_renegotiated_after_it(
    scene: Scene, owner: Owner, open_tab: OpenTab, start: Start
) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    await phone.connect(home.fp)
    scene = await restarted(scene, start)
    for tab in (phone, home):
        await tab.until("states.some(each => each.code === 1001) && book.state === 'in'")
    assert await phone.ask("still here?") == "home-pi heard still here?"
    await phone.renegotiate(home.fp)
    assert await phone.ask("and now?") == "home-pi heard and now?"
    assert [await tab.see("ended") for tab in (phone, home)] == [0, 0]


async def test_both_connect_at_once_over_one_connection(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    await asyncio.gather(phone.connect("home-pi"), home.connect("phone"))
    assert await phone.ask("a") == "home-pi heard a"
    assert await home.ask("b") == "phone heard b"
    for tab, other in ((phone, home), (home, phone)):
        assert await tab.see(f"book.connection('{other.fp}').connectionState") == "connected"
        assert await tab.see("[channels.length, ended]") == [1, 0]


async def test_an_offline_peer_is_offered_to_when_it_comes(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    scene.tell_absences_after(0)
    await home.see("book.stop()")
    await phone.until(f"!book.peers.get('{home.fp}').online")
    connecting = asyncio.create_task(phone.connect("home-pi"))
    await home.see("book.start()")
    await connecting
    assert await phone.ask("hello") == "home-pi heard hello"


async def test_a_page_that_was_loaded_anew_is_connected_to_anew(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    fp = home.fp
    await phone.connect("home-pi")
    await home.page.reload()
    await home.start(scene, owner)
    await home.until("book.state === 'in'")
    assert home.fp == fp, "its certificate was kept"
    await home.connect("phone")  # which still holds the old connection
    assert await home.ask("again") == "phone heard again"
    # A renegotiation of a connection that the other side has lost ends it, and does not hang.
    await home.page.reload()
    await home.start(scene, owner)
    await home.until("book.state === 'in'")
    await phone.until(f"book.peers.get('{fp}').online && book.connection('{fp}')")
    await phone.see(f"book.connection('{fp}').restartIce()")
    await phone.until(f"!book.connection('{fp}')")


async def test_whoever_is_revoked_is_cut_off_by_the_others_and_cuts_off_itself(
    scene: Scene, owner: Owner, open_tab: OpenTab
) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    tablet = await (await open_tab("tablet")).join(scene, owner)
    await phone.connect("home-pi")
    await tablet.connect("home-pi")
    await owner.do(f"/peers/{phone.fp}/revoke")
    await home.until("ended === 1")
    await phone.until("book.state === 'stopped'")
    assert await phone.see("[states.at(-1).code, ended]") == [4403, 1]
    assert await tablet.ask("still here?") == "home-pi heard still here?"
    assert await phone.see("book.connect('home-pi').catch(error => error.code)") == 403


async def forge(ws: WebSocketRoute) -> None:
    """A server on the way that puts another certificate into each description that arrives."""
    server = ws.connect_to_server()

    def pass_on(message: str | bytes) -> None:
        heard: dict[str, Any] = json.loads(message)
        for kind in {"offer", "answer"} & {kind for kind, value in heard.items() if value}:
            lines = heard[kind]["sdp"].split("\r\n")
            forged = [f"a=fingerprint:sha-256 {FORGED}" if "fingerprint" in line else line for line in lines]
            heard[kind]["sdp"] = "\r\n".join(forged)
        ws.send(json.dumps(heard))

    server.on_message(pass_on)


async def test_a_forged_description_is_refused_by_who_gets_it(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await open_tab("phone"), await open_tab("home-pi")
    await home.page.route_web_socket("**/ws?*", forge)
    await phone.join(scene, owner)
    await home.join(scene, owner)
    for source, target, count in ((phone, "home-pi", 1), (home, "phone", 2)):  # the offer, and the answer
        await source.see(f"void (window.connecting = book.connect('{target}').catch(error => error.code))")
        await home.until(f"refused.length === {count}")
        await source.see(f"book.disconnect('{target}')")
        assert await source.see("connecting") == 410
    assert await home.see("refused") == [phone.fp] * 2
    assert await home.see("[channels, outcomes.map(each => each.result)]") == [[], ["failed"]]


async def test_a_forged_description_is_refused_by_the_server(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    await phone.connect("home-pi")
    sdp = await phone.see(f"book.connection('{home.fp}').localDescription.sdp")
    for kind in ("offer", "answer"):
        message = {"target": home.fp, kind: {"type": kind, "sdp": sdp.replace(_colons(phone.fp), FORGED)}}
        assert await phone.page.evaluate("message => book.ask(message).catch(error => error.code)", message) == 403
    assert await home.see("refused") == []


def _colons(fp: str) -> str:
    return ":".join(fp[i : i + 2] for i in range(0, 64, 2))


async def test_certificate_and_secret_outlive_a_restart_of_the_browser(
    scene: Scene, owner: Owner, site: str, tmp_path: Path
) -> None:
    fps: list[str] = []
    async with async_playwright() as playwright:
        for join in (True, False):
            profile = await playwright.chromium.launch_persistent_context(
                tmp_path / "profile", executable_path=find_chromium(), args=FLAGS
            )
            page: Page = profile.pages[0]
            await page.goto(site)
            tab = Tab(page, "phone")
            if join:
                await tab.join(scene, owner)
            else:
                await tab.start(scene, owner)
                await tab.until("book.state === 'in'")
                assert await tab.see("states.some(each => each.pair)") is False
                assert await tab.see("book.expires - Date.now() > 360 * 864e5"), "the longest that browsers allow"
            fps.append(tab.fp)
            await profile.close()
    assert fps[0] == fps[1]


async def test_who_clears_the_sites_data_while_the_page_is_open_stays_the_same_device(
    scene: Scene, owner: Owner, open_tab: OpenTab, start: Start
) -> None:
    phone = await (await open_tab("phone")).join(scene, owner)
    await phone.see("new Promise(done => { indexedDB.deleteDatabase('peerbook').onsuccess = done; })")
    await restarted(scene, start)
    await phone.until("states.some(each => each.code === 1001) && book.state === 'in'")
    await phone.until("indexedDB.databases().then(all => all.length === 1)")
    fp = phone.fp
    await phone.page.reload()
    await phone.start(scene, owner)
    await phone.until("book.state === 'in'")
    assert phone.fp == fp


async def test_a_peer_that_is_unknown_given_up_or_left_is_said_so(
    scene: Scene, owner: Owner, open_tab: OpenTab
) -> None:
    phone, home = await pair_of(open_tab, scene, owner)
    scene.tell_absences_after(0)
    assert await phone.see("book.connect('nobody').catch(error => error.code)") == 404
    assert await phone.see("book.connect('phone').catch(error => error.code)") == 404, "itself"
    await phone.connect("home-pi")
    await home.see("book.disconnect('phone')")
    await phone.until("ended === 1")
    await home.see("book.stop()")
    await phone.until(f"!book.peers.get('{home.fp}').online")
    given_up = "book.connect('home-pi', { signal: AbortSignal.timeout(50) }).catch(error => error.name)"
    assert await phone.see(given_up) == "TimeoutError"
    assert [each["result"] for each in await phone.see("outcomes")] == ["direct"]


# What is kept, with a certificate that ends soon.
KEEP = """ms => new Promise(done => {
    const opening = indexedDB.open("peerbook", 1);
    opening.onsuccess = async () => {
        const certificate = await RTCPeerConnection.generateCertificate({
            name: "ECDSA", namedCurve: "P-256", expires: ms });
        const fp = certificate.getFingerprints()[0].value.replaceAll(":", "").toUpperCase();
        const all = opening.result.transaction("identities", "readwrite").objectStore("identities");
        const cursor = all.openCursor();
        cursor.onsuccess = () => {
            const put = cursor.result.update({ ...cursor.result.value, certificate, fp });
            put.onsuccess = () => { opening.result.close(); done(fp); };
        };
    };
})"""


async def test_a_certificate_is_replaced_before_it_ends(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone = await open_tab("phone")
    await phone.start(scene, owner)
    await phone.see("book.stop()")
    short = await phone.page.evaluate(KEEP, 20 * 86_400_000)
    await phone.page.reload()
    await phone.join(scene, owner)
    await phone.until(f"book.fp !== '{short}' && book.state === 'in' && book.peers.get(book.fp)?.verified")
    assert await phone.see("book.expires - Date.now() > 360 * 864e5")
    assert await phone.see(f"[book.peers.get(book.fp).name, book.peers.has('{short}')]") == ["phone", False]
    assert phone.fp == short
    renewed = await phone.see("book.fp")
    await phone.page.reload()
    await phone.start(scene, owner)
    await phone.until("book.state === 'in'")
    assert phone.fp == renewed


async def test_a_rekey_of_which_no_answer_came_is_found_out(scene: Scene, owner: Owner, open_tab: OpenTab) -> None:
    phone = await (await open_tab("phone")).join(scene, owner)
    # The server does it, and the page is gone before it hears of that.
    await phone.see("void (book.ask = (message) => { book.say(message); return new Promise(() => {}); })")
    await phone.see("void book.rekey()")
    await phone.until("book.state === 'in' && states.filter(each => each.state === 'in').length === 2")
    assert await phone.see("book.fp") != phone.fp
    assert await phone.see("states.some(each => each.code === 4403)") is False


@pytest.mark.parametrize(
    ("codes", "pauses", "ends"),
    [
        ([1001], [2500], None),
        ([1013, 1006, 1013, 1006, 1013, 1006, 1013], [500, 1000, 2000, 4000, 8000, 15000, 15000], None),
        ([4401], [90_000], None),
        ([4408], [75_000], None),
        ([4429], [75_000], None),
        ([4409, 4409, 4409], [75_000, 75_000], 4409),
        *(([code], [], code) for code in (4403, 1002, 1007, 1009)),
    ],
)
async def test_it_obeys_the_close_codes(
    scene: Scene, owner: Owner, open_tab: OpenTab, codes: list[int], pauses: list[int], ends: int | None
) -> None:
    tab = await open_tab("phone")
    left = list(codes)

    async def refuse(ws: WebSocketRoute) -> None:
        if left:
            await ws.close(code=left.pop(0))

    await tab.page.route_web_socket("**/ws?*", refuse)
    await tab.page.evaluate(PAUSES)
    await tab.page.evaluate(
        """async ([server, email]) => {
            const { Peerbook } = await import(`${server}/static/peerbook.js`);
            window.states = [];
            window.book = new Peerbook({ server, email, random: () => 0.5 });
            book.addEventListener("state", ({ detail }) => states.push(detail.state));
            await book.start();
        }""",
        [scene.url, owner.address],
    )
    await tab.until(f"states.filter(each => each !== 'connecting').length === {len(codes)}")
    await eventually(lambda: not left)
    assert await tab.see("pauses") == pauses
    assert await tab.see("states.includes('stopped')") is (ends is not None)
