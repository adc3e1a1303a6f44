// The page /demo: four steps, each of which begins when the one before it is done.
import { Peerbook } from "/static/peerbook.js";

const CHUNK = 16384, MOST_BUFFERED = 1 << 20;
const demo = document.getElementById("demo");
const { owner, peer } = demo.dataset;
const book = new Peerbook({ email: owner, name: "this tab", store: "peerbook-demo" });
const show = (id, text) => { const place = document.getElementById(id); place.textContent = text; place.hidden = !text; };

/** Make a step the current one. */
function enter(id) {
  let before = true;
  for (const step of demo.children) {
    if (step.id === id) before = false;
    step.classList.toggle("done", before);
    step.classList.toggle("later", !before && step.id !== id);
    for (const part of step.querySelectorAll("button, input")) part.disabled = step.id !== id;
  }
  document.querySelector(`#${id} h2`).focus({ preventScroll: true });
}

function fail(error) { show("trouble", `${error.message} Reload the page to try again.`); }

book.addEventListener("state", ({ detail: { state, pair, code } }) => {
  if (state === "waiting") {
    show("pair", pair ?? "");
    enter("approve");
  } else if (state === "in" && !demo.querySelector("#connect.done, #talk:not(.later)")) {
    enter("connect");
  } else if (state === "stopped") {
    fail({ message: code === 4403 ? "The owner does not want this tab." : "The server ended the connection." });
  }
});
book.addEventListener("outcome", ({ detail: { result, ms } }) => show("outcome", `${result}, ${ms} ms`));
book.addEventListener("closed", () => fail({ message: `The connection to ${peer} ended.` }));

document.querySelector("#ask button").addEventListener("click", ({ target }) => {
  target.disabled = true;
  book.start().catch(fail);
});

document.querySelector("#connect button").addEventListener("click", async ({ target }) => {
  target.disabled = true;
  try {
    const chat = await book.connect(peer, { label: "chat" });
    chat.onmessage = ({ data }) => add(peer, data);
    document.getElementById("say").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = new FormData(event.target).get("text");
      add("this tab", text);
      chat.send(text);
      event.target.reset();
    });
    document.getElementById("file").addEventListener("change", ({ target: { files } }) => send(files[0]).catch(fail));
    enter("talk");
  } catch (error) {
    fail(error);
  }
});

/** A file goes over a channel of its own, no faster than it is taken. */
async function send(file) {
  if (!file) return;
  const channel = await book.connect(peer, { label: "file" });
  channel.onmessage = ({ data }) => { add(peer, data); channel.close(); };
  channel.bufferedAmountLowThreshold = MOST_BUFFERED / 2;
  add("this tab", `sends ${file.name}, ${file.size} bytes`);
  channel.send(JSON.stringify({ name: file.name, size: file.size }));
  for (let start = 0; start < file.size; start += CHUNK) {
    if (channel.bufferedAmount > MOST_BUFFERED) {
      await new Promise((resolve) => { channel.onbufferedamountlow = resolve; });
    }
    channel.send(await file.slice(start, start + CHUNK).arrayBuffer());
  }
}

function add(who, text) {
  const line = document.createElement("li"), name = document.createElement("strong");
  name.textContent = `${who}: `;
  line.append(name, text);
  document.getElementById("heard").append(line);
}
