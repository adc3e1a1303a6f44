// The device page, live: follows the book's stream, keeps what the owner is doing across every change of the page,
// and adds what a form alone can't do (copying, Escape, search). Everything else works without it.
"use strict";
(() => {
  const SETTLE_MS = 100; // htmx is done with an answer by then
  const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
  const live = () => document.getElementById("live");
  const notice = document.getElementById("status");
  const note = document.getElementById("stream");
  const title = document.title;
  let skew = 0; // seconds by which this computer's clock is ahead of the server's
  let answered = null; // the form whose own answer is being shown
  let counter = 0;

  document.documentElement.classList.add("js");

  // --- what is said ---

  let hush = 0;
  function say(text) {
    notice.textContent = text;
    clearTimeout(hush);
    hush = setTimeout(() => { notice.textContent = ""; }, 8000);
  }

  function ago(seconds) {
    const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
    for (const [unit, length] of units) {
      const count = Math.floor(seconds / length);
      if (count === 1 && unit === "day") return "yesterday";
      if (count) return `${count} ${unit}${count > 1 ? "s" : ""} ago`;
    }
    return "just now";
  }

  function refreshTimes() {
    const now = Date.now() / 1000 - skew;
    for (const time of document.querySelectorAll("time:not(.day)")) {
      const text = ago(now - Date.parse(time.dateTime) / 1000);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // --- what the owner is doing, kept across a change of the page ---

  // The same element in another state of the page: same home (a row, a card, a box), same form, name and place.
  function twin(element, next) {
    const home = element.closest("li[id], .box, .devices, #live");
    const name = (home.id && "#" + CSS.escape(home.id)) ||
      (home.hasAttribute("aria-labelledby") && `[aria-labelledby="${home.getAttribute("aria-labelledby")}"]`);
    const there = home.id === "live" ? next : next.querySelector(name);
    if (!there) return null;
    const key = keyOf(element);
    const alike = (root) => [...root.querySelectorAll(element.tagName)].filter((other) => keyOf(other) === key);
    return alike(there)[alike(home).indexOf(element)] || null;
  }

  function keyOf(element) {
    const choice = element.type === "checkbox" || element.type === "radio" || element.type === "hidden";
    return JSON.stringify([
      element.getAttribute("name"),
      choice && element.value,
      element.getAttribute("form") || element.closest("form")?.getAttribute("action"),
      element.closest("details")?.dataset.k,
    ]);
  }

  function edited(field) {
    if (field.type === "checkbox" || field.type === "radio") return field.checked;
    if (field.tagName === "SELECT") return [...field.options].some((each) => each.selected !== each.defaultSelected);
    return field === document.activeElement || field.value !== field.defaultValue ||
      field.getAttribute("aria-invalid") === "true";
  }

  function keepField(field, other) {
    if (field.type === "checkbox" || field.type === "radio") {
      other.setAttribute("checked", "");
    } else if (field.tagName === "SELECT") {
      for (const each of other.options) each.toggleAttribute("selected", each.value === field.value);
    } else {
      field.id ||= `kept-${++counter}`;
      other.id = field.id;
      other.setAttribute("hx-preserve", "");
      const problem = field.getAttribute("aria-describedby") && field.form?.querySelector(".problem");
      if (problem && !other.form.querySelector(".problem")) {
        const copy = problem.cloneNode(true);
        copy.id = `${field.id}-problem`;
        field.setAttribute("aria-describedby", copy.id);
        other.form.append(copy);
      }
    }
  }

  // A new invite is shown once, by the answer to its form; the stream does not know of it.
  function keepInvite(old, next) {
    const shown = old.querySelector(".invite"), place = next.querySelector("#invite");
    if (!shown || !place || place.querySelector(".invite") || Date.now() > Number(shown.dataset.until)) return;
    const asked = new Set([...old.querySelectorAll("[data-fp]")].map((card) => card.dataset.fp));
    const came = [...next.querySelectorAll(".row.verified")].find(
      (row) => !old.querySelector("#" + row.id) && !asked.has(row.id.replace("peer-", "")));
    if (came) say(`${came.dataset.name} came with the invite and is in.`);
    else place.replaceChildren(next.ownerDocument.importNode(shown, true));
  }

  // What is marked in the next state of the page, so that the owner's work goes on in it.
  function carry(html) {
    const old = live();
    const next = new DOMParser().parseFromString(html, "text/html").getElementById("live");
    if (!next) return null;
    const own = answered;
    for (const details of old.querySelectorAll("details[open]")) {
      const answers = own && (details.contains(own) || own.contains(details));
      if (!answers) twin(details, next)?.setAttribute("open", "");
    }
    for (const field of old.querySelectorAll("input:not([type=hidden], [type=file]), select")) {
      if (field.form && field.form === own) continue;
      const other = edited(field) && twin(field, next);
      if (other) keepField(field, other);
    }
    keepInvite(old, next);
    for (const each of next.querySelectorAll("li[id]")) {
      if (!old.querySelector("#" + CSS.escape(each.id))) each.classList.add("arrived");
    }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    if (focused) {
      let heir = own && next.querySelector("[aria-invalid=true]:not([hx-preserve])");
      if (!heir && own?.contains(focused)) {
        const pop = focused.closest("details.pop");
        if (pop) heir = twin(pop, next)?.querySelector("summary");
      }
      heir ||= twin(focused, next) || next.querySelector("#requests-title, #devices-title");
      heir?.setAttribute("data-focus", "");
    }
    return { html: next.outerHTML, focused, old };
  }

  function settle(state) {
    const now = live();
    skew = Date.now() / 1000 - Number(now.dataset.now);
    for (const invite of now.querySelectorAll(".invite:not([data-until])")) {
      invite.dataset.until = Date.now() + Number(invite.dataset.minutes) * 60000;
    }
    const heir = now.querySelector("[data-focus]");
    heir?.removeAttribute("data-focus");
    if (state?.focused) {
      const target = state.focused.isConnected ? state.focused : heir;
      if (target && document.activeElement !== target) target.focus({ preventScroll: true });
      if (answered && heir?.matches("[aria-invalid=true]")) heir.select?.();
    }
    if (now.dataset.flash) say(now.dataset.flash);
    else if (state && !answered) {
      const card = now.querySelector(".card.arrived");
      if (card) say(`${card.dataset.name} asks to join.`);
    }
    const requests = Number(now.dataset.requests);
    document.title = requests ? `(${requests}) ${title}` : title;
    find();
    refreshTimes();
  }

  // --- the stream ---

  let stream = null, tries = 0, timer = 0, first = true, waiting = null, pressed = false, composing = false;
  let asking = 0; // forms whose answer is under way

  function show(html) {
    // A click, a composed character or a form that was sent must not lose its element half-way.
    if (pressed || composing || asking) { waiting = html; return; }
    waiting = null;
    const state = carry(html);
    if (!state) return;
    htmx.swap("#live", state.html, { swapStyle: "outerHTML", swapDelay: 0, settleDelay: 0 });
    settle(state);
  }

  function hold(on) {
    return (event) => {
      if (event.type.startsWith("composition")) composing = on; else pressed = on;
      if (!on) setTimeout(showWaiting);
    };
  }

  function showWaiting() {
    if (waiting !== null) show(waiting);
  }

  function connect() {
    if (stream || document.visibilityState === "hidden") return;
    clearTimeout(timer);
    first = true;
    stream = new EventSource("/peers/events");
    stream.addEventListener("book", (event) => {
      tries = 0;
      note.hidden = true;
      const version = Number(/data-version="(\d+)"/.exec(event.data)?.[1]);
      // Another process may be a moment behind the answer to a form; a stream that begins is right in any case.
      if (!first && version < Number(live().dataset.version)) return;
      first = false;
      show(event.data);
    });
    stream.addEventListener("away", () => {
      note.textContent = "Out of reach… what you see may be out of date, and nothing can be changed right now.";
      note.hidden = false;
    });
    stream.addEventListener("end", () => { disconnect(); location.href = "/"; });
    stream.onerror = lost;
  }

  function disconnect() {
    clearTimeout(timer);
    stream?.close();
    stream = null;
  }

  function lost() {
    disconnect();
    if (document.visibilityState === "hidden") return;
    if (tries) {
      note.textContent = "Reconnecting… what you see may be out of date.";
      note.hidden = false;
    }
    const pause = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
    timer = setTimeout(tries > 2 ? check : connect, pause * (0.75 + Math.random() / 2));
  }

  // A stream does not tell why it failed; a page that sends us away says that the session is over.
  async function check() {
    try {
      const answer = await fetch("/peers", { redirect: "manual" });
      if (answer.type === "opaqueredirect") { location.href = "/"; return; }
    } catch { /* the server is out of reach: go on trying */ }
    connect();
  }

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") disconnect(); else { tries = 0; connect(); }
  });
  // A form that leaves the page may end the session: its answer is what is shown, not what the stream says of that.
  document.addEventListener("submit", (event) => {
    if (event.target.hasAttribute("hx-post")) return;
    disconnect();
    timer = setTimeout(connect, 10000);
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  addEventListener("online", () => { if (!stream) { tries = 0; connect(); } });
  document.addEventListener("pointerdown", hold(true), true);
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, hold(false), true);
  document.addEventListener("compositionstart", hold(true), true);
  document.addEventListener("compositionend", hold(false), true);

  // --- forms, which htmx sends ---

  let state = null;
  document.addEventListener("htmx:beforeSend", () => { asking += 1; });
  document.addEventListener("htmx:afterRequest", () => {
    setTimeout(() => { asking = Math.max(0, asking - 1); showWaiting(); }, SETTLE_MS);
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target?.id !== "live") return;
    answered = event.detail.requestConfig.elt;
    waiting = null;
    state = carry(event.detail.serverResponse);
    if (state) event.detail.serverResponse = state.html; else event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (!answered) return;
    settle(state);
    answered = state = null;
  });
  document.addEventListener("htmx:responseError", (event) => {
    answered = state = null;
    let text = "";
    try { text = JSON.parse(event.detail.xhr.responseText).text; } catch { /* a page, not a sentence */ }
    say(text || "That did not work. Reload the page and try again.");
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => say("The server is out of reach. Nothing was changed."));
  }

  // --- small helps ---

  function find() {
    const field = document.getElementById("search");
    if (!field) return;
    const wanted = field.value.trim().toLowerCase(), tight = wanted.replace(/[\s:]/g, "");
    let found = 0;
    for (const row of document.querySelectorAll(".row")) {
      const text = `${row.dataset.name} ${row.querySelector(".fp summary").textContent}`.toLowerCase();
      const hit = text.includes(wanted) || row.id.toLowerCase().slice("peer-".length).includes(tight || wanted);
      row.hidden = !hit;
      found += hit;
    }
    document.getElementById("found-none").hidden = found > 0;
  }
  document.addEventListener("input", (event) => { if (event.target.id === "search") find(); });

  async function copy(button) {
    const code = button.closest(".copyable").querySelector("code");
    const text = button.dataset.copy === "tight" ? code.textContent.replace(/\s/g, "") : code.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the clipboard (plain http, an old browser) the text is selected, and copied where that is allowed.
      getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) { say("Selected. Copy it with your keyboard."); return; }
    }
    say("Copied.");
  }

  function takeUp(field) {
    field.focus({ preventScroll: true });
    field.select();
  }

  function closePop(pop) {
    pop.querySelector("form").reset();
    for (const problem of pop.querySelectorAll(".problem")) problem.remove();
    for (const field of pop.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      field.value = pop.closest(".row").dataset.name;
    }
    pop.open = false;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
    const inside = event.target.closest("details.pop");
    for (const pop of document.querySelectorAll("details.pop.confirm[open]")) if (pop !== inside) pop.open = false;
    if (event.target.closest("summary")?.parentElement === inside && inside?.matches(".rename")) {
      requestAnimationFrame(() => { if (inside.open) takeUp(inside.querySelector("input[name=name]")); else closePop(inside); });
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    const pop = event.target.closest("details.pop[open]") || document.querySelector("details.pop.confirm[open]");
    if (!pop) return;
    closePop(pop);
    pop.querySelector("summary").focus();
  });

  settle(null);
  setInterval(refreshTimes, 30000);
  connect();
})();
