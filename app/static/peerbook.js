/**
 * A peer of a peerbook, in a web page: https or localhost, any browser with WebRTC.
 *
 *     import { Peerbook } from "https://book.example.org/static/peerbook.js";
 *     const book = new Peerbook({ email: "you@example.org", name: "my tablet" });
 *     book.addEventListener("state", ({ detail }) => show(detail.state, detail.pair));
 *     book.addEventListener("channel", ({ detail }) => talk(detail.channel, detail.name));
 *     await book.start();
 *     const channel = await book.connect("home-pi");
 *
 * What travels is in docs/protocol.md, how peers use it in docs/clients.md.
 *
 * @typedef {{fp: string, name: string, kind?: string, verified: boolean, online: boolean}} Peer
 * @typedef {"connecting"|"waiting"|"in"|"away"|"stopped"} State `waiting` for the owner, `away` until it dials again
 * @typedef {{certificate: RTCCertificate, fp: string}} Key
 * @typedef {Key & {secret: string, next?: Key}} Identity
 */

const DAY = 864e5;
const LONGEST = 365 * DAY; // browsers allow no more
const RENEW = 30 * DAY; // so long before its end a certificate is replaced
const RESTARTS = 3; // of ICE, until a connection is given up
const TIMEOUT = 30000;
// Seconds to wait after a close code, from and to. Whatever is not here backs off.
const PAUSES = { 1001: [0, 5], 4401: [60, 120], 4408: [60, 90], 4409: [60, 90], 4429: [60, 90] };
const FINAL = new Set([1002, 1007, 1009, 4403]); // the client is wrong, or not wanted
const NO_TARGET = new Set([410, 503]); // it may come back

/** An error of the server's, with its `code`. */
export class PeerbookError extends Error {
  /** @param {number} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

/**
 * Events, each with its `detail`: `state` {state, pair, code}; `peers` (the list); `presence` (a Peer that changed);
 * `channel` {channel, fp, name}, opened by another peer; `closed` {fp}, a connection and all its channels; `outcome` {fp, result, ms}; `refused` {fp}, a description
 * that named another certificate than its sender's.
 */
export class Peerbook extends EventTarget {
  /** @type {State} */ state = "stopped";
  /** @type {Map<string, Peer>} */ peers = new Map();
  /** @type {string|undefined} */ uid;
  /** @type {string|undefined} The code to compare, while it waits for the owner. */ pair;
  /** @type {Identity} */ #identity;
  /** @type {WebSocket|undefined} */ #socket;
  /** @type {Map<string, Link>} */ #links = new Map();
  /** @type {Map<number, {resolve: Function, reject: Function}>} */ #asked = new Map();
  #claim = "";
  #nonce = 0;
  #tries = 0;
  #replaced = /** @type {number[]} */ ([]);
  #servers = /** @type {RTCIceServer[]} */ ([]);
  #timer = 0;

  /**
   * @param {object} options
   * @param {string} [options.server] the peerbook's origin; by default where this file came from
   * @param {string} [options.email] the owner's mail address, or
   * @param {string} [options.uid] the owner's uid
   * @param {string} [options.name] @param {string} [options.kind] @param {string} [options.invite]
   * @param {string} [options.store] the IndexedDB database that keeps certificate and secret
   * @param {RTCConfiguration} [options.rtc] what connections are made with, beside servers and certificate
   * @param {() => number} [options.random] for the waiting times, from 0 to 1
   */
  constructor({ server = new URL(import.meta.url).origin, email, uid, name = "browser", kind = "browser", invite,
    store = "peerbook", rtc = {}, random = Math.random }) {
    super();
    Object.assign(this, { server: new URL(server).origin, email, name, kind, invite, store, rtc, random, uid });
  }

  /** This device's fingerprint. */
  get fp() { return this.#identity?.fp; }

  /** When its certificate ends. */
  get expires() { return this.#identity?.certificate.expires; }

  get certificate() { return this.#identity.certificate; }

  /** Load or make the identity, and connect to the server; from then on it stays connected until `stop`. */
  async start() {
    if (!globalThis.crypto?.subtle) throw new Error("Peerbook needs https or localhost.");
    this.#identity ??= await load(this.store, this.server) ?? await this.#save({ ...await newKey(), secret: newSecret() });
    this.#claim = base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(this.#identity.secret)));
    navigator.storage?.persist?.();
    addEventListener("online", this.#dialNow);
    this.#dial();
  }

  /** Leave the server and close all connections. */
  stop() {
    this.#end(1000);
    this.#socket?.close(1000);
  }

  /**
   * Ask over HTTP whether this device is in; if not, its owner is asked.
   * @returns {Promise<{verified: boolean, uid?: string, pair?: string}>}
   */
  async verify() {
    const owner = this.uid ? { uid: this.uid } : { email: this.email };
    const body = { fp: this.fp, proof: this.#claim, name: this.name, kind: this.kind, invite: this.invite, ...owner };
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(`${this.server}/verify`, { method: "POST", headers, body: JSON.stringify(body) });
    const heard = await answer.json();
    if (!answer.ok) throw new PeerbookError(heard.code, heard.text);
    return heard;
  }

  /**
   * An open data channel to a peer. One that is offline is offered to when it comes online.
   * @param {string} peer its fingerprint or name
   * @param {{label?: string, timeout?: number, signal?: AbortSignal} & RTCDataChannelInit} [options] the time in
   *     milliseconds counts from when the peer is online; `signal` ends the waiting
   * @returns {Promise<RTCDataChannel>}
   */
  async connect(peer, { label = "data", timeout = TIMEOUT, signal, ...init } = {}) {
    const { fp } = await this.online(peer, signal);
    const began = performance.now(), known = this.#links.get(fp);
    const link = known ?? this.#open(fp, newSession());
    const failure = Promise.race([link.over, aborted(signal), later(timeout)]);
    try {
      let channel;
      do { // again where both offered at once
        await Promise.race([link.ready, failure]);
        channel = link.pc.createDataChannel(label, init);
        await Promise.race([once(channel, "open"), link.renewed, failure]);
      } while (channel.readyState !== "open");
      const route = await link.route();
      if (!known) this.#report(fp, route, began);
      return channel;
    } catch (error) {
      if (!known && !link.opened) {
        if (!signal?.aborted) this.#report(fp, "failed", began);
        link.close();
      }
      throw error;
    }
  }

  /** The RTCPeerConnection to a peer (fingerprint or name), for media and whatever else it can; none without `connect`.
   * @param {string} peer @returns {RTCPeerConnection|undefined} */
  connection(peer) { return this.#links.get(this.#named(peer)?.fp ?? peer)?.pc; }

  /** Close the connection to a peer. @param {string} peer */
  disconnect(peer) { this.#links.get(this.#named(peer)?.fp ?? peer)?.close(); }

  /** Send one message, and wait until it is served; rejects with the server's PeerbookError.
   * @param {object} message @returns {Promise<any>} */
  ask(message) {
    const id = ++this.#nonce;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      if (!this.say({ ...message, id })) this.#answered({ id, code: 503, text: "Not connected to the server." });
    });
  }

  /** Send one message, if it can be. @param {object} message */
  say(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Take another certificate, keeping name and history. It is done before the old one ends, by itself. */
  async rekey() {
    const next = this.#identity.next ?? await newKey();
    await this.#save({ ...this.#identity, next }); // before the server knows it: it may do it and we never hear of it
    await this.ask({ command: "rekey", fp: next.fp, proof: this.#claim });
    await this.#promote();
    this.#dial();
  }

  // --- the socket ---

  #dialNow = () => { if (this.state === "away") this.#dial(); };

  #dial() {
    clearTimeout(this.#timer);
    this.#forget();
    const owner = this.uid ? { uid: this.uid } : { email: this.email ?? "" };
    const query = { fp: this.fp, name: this.name, kind: this.kind, proof: this.#claim, ...owner };
    if (this.invite) query.invite = this.invite;
    const socket = this.#socket = new WebSocket(`${this.server.replace(/^http/, "ws")}/ws?${new URLSearchParams(query)}`);
    socket.onmessage = ({ data }) => { if (socket === this.#socket) this.#hear(JSON.parse(data)); };
    socket.onclose = ({ code }) => { if (socket === this.#socket) this.#closed(code); };
    this.#become("connecting");
  }

  /** @param {number} code */
  #closed(code) {
    this.#socket = undefined;
    this.#forget();
    if (this.state === "stopped") return;
    if (code === 4403 && this.#identity.next) { // was it our own rekey, of which we heard no more?
      this.#promote();
      return this.#dial();
    }
    const now = Date.now();
    if (code === 4409) this.#replaced = [...this.#replaced.filter((at) => now - at < 600000), now];
    if (FINAL.has(code) || this.#replaced.length >= 3) return this.#end(code);
    const [from, to] = PAUSES[code] ?? [0, Math.min(30, 2 ** this.#tries++)];
    this.#timer = setTimeout(() => this.#dial(), 1000 * (from + this.random() * (to - from)));
    this.#become("away", code);
  }

  /** What was asked on a socket that is gone will not be answered. */
  #forget() {
    for (const id of [...this.#asked.keys()]) this.#answered({ id, code: 503, text: "The connection to the server ended." });
  }

  /** @param {number} code */
  #end(code) {
    clearTimeout(this.#timer);
    removeEventListener("online", this.#dialNow);
    this.#become("stopped", code);
    for (const link of [...this.#links.values()]) link.close();
  }

  #hear(message) {
    const { code, id, source_fp: fp } = message;
    if (message.ice_servers) return this.#servers = message.ice_servers;
    if (id !== undefined && this.#asked.has(id)) return this.#answered(message);
    if (message.peers) return this.#list(message);
    if (message.peer_update) return this.#update({ ...this.peers.get(fp), ...message.peer_update, fp });
    if (fp) return this.#signal(fp, message);
    if (code === 200) {
      this.uid = message.text;
      this.#tries = 0;
    } else if (code === 401 && (message.nonce || message.pair)) {
      this.pair = message.pair;
      this.#become("waiting", code);
      // Shown while it waits, a proof lets it in the moment that its owner approves it.
      if (message.pair || message.proof) this.say({ command: "prove", secret: this.#identity.secret });
    }
  }

  #answered({ id, code, text }) {
    const { resolve, reject } = this.#asked.get(id) ?? {};
    this.#asked.delete(id);
    if (code === 200) resolve?.();
    else reject?.(new PeerbookError(code, text));
  }

  #list({ peers, uid }) {
    this.uid = uid;
    this.pair = undefined;
    this.peers = new Map(peers.map((peer) => [peer.fp, peer]));
    if (this.state !== "in") {
      this.#become("in");
      // Who cleared the site's data while the page was open stays who it is.
      load(this.store, this.server).then((kept) => kept ?? this.#save(this.#identity)).catch(() => {});
    }
    this.#emit("peers", peers);
    for (const [fp, link] of this.#links) {
      if (!this.peers.get(fp)?.verified) link.close();
      else if (this.peers.get(fp)?.online) link.resume();
    }
    const left = Number(this.expires) - Date.now();
    if (left < (this.#links.size ? DAY : RENEW)) this.rekey().catch(() => {}); // it tries again the next time
  }

  /** @param {Peer} peer */
  #update(peer) {
    const { fp } = peer;
    if (fp === this.fp) this.name = peer.name;
    this.peers.set(fp, peer);
    this.#emit("presence", peer);
    if (!peer.verified) this.#links.get(fp)?.close();
    else if (peer.online) this.#links.get(fp)?.resume();
  }

  // --- connections ---

  #signal(fp, message) {
    for (const kind of ["offer", "answer"]) if (kind in message) message[kind] = described(message[kind]);
    const description = message.offer ?? message.answer;
    if (description && !isHonest(description.sdp, fp)) return this.#emit("refused", { fp });
    let link = this.#links.get(fp);
    // Programs that know of no sessions have one for each RTCPeerConnection: the id in the line of its origin.
    const session = message.session ?? (message.offer ? /^o=\S+ (\S+)/m.exec(message.offer.sdp)?.[1] : link?.session);
    if (message.offer && session !== link?.session) {
      if (message.again) return this.say({ target: fp, answer: null, session }); // we have lost it
      if (link && !link.answered) { // both offer at once
        if (!link.polite) return;
        link.giveWay(session);
      } else {
        link?.close();
        link = this.#open(fp, session);
      }
    }
    if (link && session === link.session) link.hear(message);
  }

  #open(fp, session) {
    const link = new Link(this, fp, session, (event, detail) => this.#emit(event, detail), () => {
      if (this.#links.get(fp) !== link) return;
      this.#links.delete(fp);
      this.#emit("closed", { fp });
    });
    this.#links.set(fp, link);
    return link;
  }

  /** The ICE servers of now: their credentials don't last. @returns {Promise<RTCIceServer[]>} */
  async iceServers() {
    await this.ask({ command: "ice_servers" }).catch(() => {});
    return this.#servers;
  }

  #named(peer) {
    return this.peers.get(peer) ?? [...this.peers.values()].find(({ name, verified }) => verified && name === peer);
  }

  /** Wait until a peer (fingerprint or name) can be offered to. @param {string} peer @param {AbortSignal} [signal]
   * @returns {Promise<Peer>} */
  async online(peer, signal) {
    for (;;) {
      const found = this.#named(peer);
      if (this.state === "stopped") throw new PeerbookError(403, "This device is not connected to its book.");
      if (this.state === "in") {
        if (!found?.verified || found.fp === this.fp) throw new PeerbookError(404, "There is no such peer.");
        if (found.online) return found;
      }
      await Promise.race([once(this, "presence"), once(this, "peers"), once(this, "state"), aborted(signal)]);
    }
  }

  #report(fp, result, began) {
    const ms = Math.round(performance.now() - began);
    this.#emit("outcome", { fp, result, ms });
    this.say({ command: "outcome", target: fp, result, ms });
  }

  // --- the rest ---

  /** @param {State} state @param {number} [code] */
  #become(state, code) {
    this.state = state;
    this.#emit("state", { state, code, pair: this.pair });
  }

  #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #promote() {
    const { next, secret } = this.#identity;
    return this.#save({ ...next, secret });
  }

  #save(identity) {
    this.#identity = identity;
    return stored(this.store, "readwrite", (all) => all.put(identity, this.server)).then(() => identity);
  }
}

/** One connection to a peer: perfect negotiation (W3C WebRTC, section 10.7), and what becomes of it. */
class Link {
  answered = false; // whether the other side has said anything of this session
  opened = false;
  #tail;
  #renew;
  #theirs = false; // whether the other side makes the first offer
  #offering = false;
  #sending = false;
  #restarts = 0;

  constructor(book, fp, session, emit, closed) {
    Object.assign(this, { book, fp, session, emit, closed, polite: book.fp < fp });
    this.over = new Promise((_, reject) => { this.fail = reject; });
    this.over.catch(() => {});
    this.#begin();
  }

  #begin() {
    this.renewed = new Promise((resolve) => { this.#renew = resolve; });
    this.#tail = this.ready = this.#make();
  }

  /** Both offered at once, and we are polite. A first offer is not taken back, since Chromium then gathers no
   * candidates at times: the connection is made anew. */
  giveWay(session) {
    [this.session, this.#theirs] = [session, true];
    if (!this.pc) return;
    this.pc.close();
    this.pc = undefined;
    const renew = this.#renew;
    this.#begin();
    renew();
  }

  async #make() {
    const { book } = this;
    const iceServers = await book.iceServers();
    const pc = this.pc = new RTCPeerConnection({ ...book.rtc, iceServers, certificates: [book.certificate] });
    pc.onnegotiationneeded = () => {
      if (!this.#theirs || this.answered) this.#offer().catch(() => {}); // it was closed meanwhile
    };
    pc.onicecandidate = ({ candidate }) => { if (candidate) this.#say({ candidate }); };
    pc.ondatachannel = ({ channel }) => this.emit("channel", { channel, fp: this.fp, name: book.peers.get(this.fp)?.name });
    pc.onconnectionstatechange = () => this.#changed();
  }

  /** Serve a message of this session, after those before it. */
  hear(message) { this.#tail = this.#tail.then(() => this.#serve(message)).catch(() => {}); }

  async #serve({ offer, answer, candidate }) {
    const { pc } = this;
    if (answer === null) return this.close();
    if (candidate) return pc.addIceCandidate(candidate);
    const stable = pc.signalingState === "stable" && !this.#offering;
    if (answer ? pc.signalingState !== "have-local-offer" : !offer || (!stable && !this.polite)) return;
    this.answered = true;
    await pc.setRemoteDescription(offer ?? answer); // takes back an offer of ours
    if (!offer) return;
    await pc.setLocalDescription();
    this.#say({ answer: pc.localDescription });
  }

  async #offer() {
    const { pc } = this;
    try {
      this.#offering = true;
      await pc.setLocalDescription();
    } finally {
      this.#offering = false;
    }
    await this.#send();
  }

  /** Offer until it was handed over: a target that is offline gets it when it comes. */
  async #send() {
    const { pc, fp, book } = this;
    if (this.#sending) return;
    this.#sending = true;
    while (pc.signalingState === "have-local-offer") {
      try {
        await book.online(fp);
        const again = Boolean(pc.currentRemoteDescription);
        await book.ask({ target: fp, offer: pc.localDescription, session: this.session, again });
        break;
      } catch (error) {
        if (!NO_TARGET.has(error.code)) this.close(error);
        else await Promise.race([later(1000).catch(() => {}), once(book, "presence")]);
      }
    }
    this.#sending = false;
  }

  /** The way to the peer is there again: say what may have been lost. */
  resume() {
    if (this.pc?.signalingState === "have-local-offer") this.#send();
    else if (["disconnected", "failed"].includes(this.pc?.connectionState)) this.pc.restartIce();
  }

  #changed() {
    const { pc } = this;
    const ended = ["closed", "failed"].includes(pc.sctp?.transport?.state);
    if (pc.connectionState === "connected") [this.opened, this.#restarts] = [true, 0];
    if (pc.connectionState === "failed") {
      if (ended || this.#restarts++ >= RESTARTS) this.close();
      else pc.restartIce();
    }
  }

  /** Whether it goes `direct` or by `relay`. */
  async route() {
    this.opened = true;
    const stats = await this.pc.getStats();
    const all = [...stats.values()];
    const pair = stats.get(all.find(({ type }) => type === "transport")?.selectedCandidatePairId)
      ?? all.find(({ type, selected, nominated }) => type === "candidate-pair" && (selected || nominated));
    const ends = [stats.get(pair?.localCandidateId), stats.get(pair?.remoteCandidateId)];
    return ends.some((end) => end?.candidateType === "relay") ? "relay" : "direct";
  }

  #say(message) { this.book.say({ target: this.fp, session: this.session, ...message }); }

  close(error = new PeerbookError(410, "The connection was closed.")) {
    this.#say({ answer: null }); // so that the other side does not wait for us
    this.fail(error);
    this.pc?.close();
    this.ready.then(() => this.pc.close(), () => {});
    this.closed();
  }
}

/** Whether every fingerprint in a description is that one, in SHA-256, and there is one (RFC 8122, section 5).
 * @param {string} sdp @param {string} fp */
export function isHonest(sdp, fp) {
  const all = sdp.match(/fingerprint/gi) ?? [];
  const lines = [...sdp.matchAll(/^a=fingerprint:sha-256 ([0-9A-F:]{95})\r?$/gim)];
  return all.length > 0 && all.length === lines.length && lines.every(([, value]) => plain(value) === fp);
}

/** A description: an object, or JSON of it, or base64 of that. */
function described(value) {
  try {
    const description = typeof value === "string" ? JSON.parse(value[0] === "{" ? value : atob(value)) : value;
    return typeof description?.sdp === "string" ? description : null;
  } catch {
    return null;
  }
}

// --- identity ---

/** @returns {Promise<Key>} */
async function newKey() {
  const certificate = await RTCPeerConnection.generateCertificate(
    /** @type {any} */ ({ name: "ECDSA", namedCurve: "P-256", expires: LONGEST }));
  const pc = new RTCPeerConnection({ certificates: [certificate] });
  pc.createDataChannel("");
  const { sdp } = await pc.createOffer(); // not every browser has RTCCertificate.getFingerprints
  pc.close();
  return { certificate, fp: plain(/^a=fingerprint:sha-256 (\S+)/m.exec(sdp)[1]) };
}

const newSecret = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const newSession = () => base64url(crypto.getRandomValues(new Uint8Array(9)));
const plain = (fingerprint) => fingerprint.replaceAll(":", "").toUpperCase();
const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** @returns {Promise<Identity|undefined>} */
const load = (database, server) => stored(database, "readonly", (all) => all.get(server));

/** Do one thing with what is kept in IndexedDB. @returns {Promise<any>} */
async function stored(database, mode, work) {
  const opening = indexedDB.open(database, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("identities");
  const db = await settled(opening);
  try {
    return await settled(work(db.transaction("identities", mode).objectStore("identities")));
  } finally {
    db.close();
  }
}

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

// --- waiting ---

const once = (target, type) => new Promise((resolve) => { target.addEventListener(type, resolve, { once: true }); });
const later = (ms) => new Promise((_, reject) => { setTimeout(reject, ms, new PeerbookError(408, "It took too long.")); });
const aborted = (signal) => new Promise((_, reject) => {
  if (signal?.aborted) reject(signal.reason);
  signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
});
