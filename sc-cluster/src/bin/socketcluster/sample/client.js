// A small SocketCluster client: one file, nothing to install, nothing it depends on.
//
// It speaks protocol 2 (SocketCluster 15 and later), and protocol 1 to a server that has only that. It answers pings, gives up
// a connection on which none arrive, connects anew after a pause that grows, subscribes again to what was subscribed, and
// keeps the token that the server gave it.
//
//   const client = new Client();
//   client.on("message", ({ channel, data }) => console.log(channel, data));
//   client.connect();
//   client.subscribe("chat");
//   console.log(await client.invoke("echo", "hello"));

const ACK_TIMEOUT = 10_000;
const RETRY_FIRST = 400;
const RETRY_MAX = 10_000;
// The server's or our own timeout, and an empty close: nothing speaks against trying again at once.
const RETRY_AT_ONCE = new Set([4000, 4001, 1005]);
const TOKEN_KEY = "socketcluster.authToken";

/** An error as it came from the server, or one of our own in the same form. */
export class ScError extends Error {
  constructor(error) {
    super(typeof error === "string" ? error : error?.message ?? "");
    this.name = error?.name ?? "Error";
  }
}

export class Client {
  /** `connecting`, `open`, `waiting` (to try again) or `closed`. */
  state = "closed";
  /** Socket id, while open. */
  id = null;
  /** The claims of the token, or null. Nobody has verified them here; the server has. */
  claims = null;
  /** The protocol the server was found to speak. */
  protocol = null;

  #url;
  #socket = null;
  #listeners = new Map();
  #channels = new Map();
  #calls = new Map();
  #cid = 0;
  #failures = 0;
  #retry = null;
  #silence = null;
  #patience = ACK_TIMEOUT;
  #token = null;

  constructor(url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socketcluster/`) {
    this.#url = url;
    this.#keepToken(readStored());
    addEventListener("online", () => this.state === "waiting" && this.connect());
  }

  /** Events: `state`, `protocol`, `auth`, `channels`, `message` {channel, data}, `event` {event, data}, `raw`, `kicked` {channel, message}, `frame` {out, text}. */
  on(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
    return this;
  }

  /** Connects now, also out of a pause. */
  connect() {
    clearTimeout(this.#retry);
    if (this.#socket) return;
    const socket = (this.#socket = new WebSocket(this.#url));
    socket.onopen = () => this.#handshake();
    socket.onmessage = ({ data }) => this.#message(data);
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
    this.protocol = null;
    this.#patience = ACK_TIMEOUT;
    this.#heard();
    this.#setState("connecting");
  }

  /** Closes the connection, and stays away until `connect`. */
  disconnect() {
    this.#drop(1000, true);
  }

  /** Emits an event and resolves to the answer of the server. */
  invoke(event, data) {
    return this.state === "open" ? this.#call(event, data) : Promise.reject(notConnected(event));
  }

  /** Emits an event to which no answer is wanted. */
  transmit(event, data) {
    if (this.state !== "open") throw notConnected(event);
    this.#send({ event, data });
  }

  /** Resolves when the broker has acknowledged, which it does after the delivery to every worker. */
  publish(channel, data) {
    return this.invoke("#publish", { channel, data });
  }

  /** Subscribes now, and again after each reconnect. Resolves or rejects with the first answer. */
  subscribe(channel) {
    const known = this.#channels.get(channel);
    if (known) return known.answer;
    const entry = { state: "pending" };
    entry.answer = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    entry.answer.catch(() => {});
    this.#channels.set(channel, entry);
    this.#emit("channels");
    if (this.state === "open") this.#subscribe(channel, entry);
    return entry.answer;
  }

  unsubscribe(channel) {
    const entry = this.#channels.get(channel);
    if (!entry) return;
    this.#forget(channel);
    entry.reject(new ScError({ name: "InvalidActionError", message: `Unsubscribed from ${channel}` }));
    if (this.state === "open") this.#call("#unsubscribe", channel).catch(() => {});
  }

  /** `[name, "pending" | "subscribed"]` of each channel. */
  get channels() {
    return [...this.#channels].map(([name, { state }]) => [name, state]);
  }

  /** Throws the token away, here and on the server. */
  deauthenticate() {
    this.#keepToken(null);
    if (this.state === "open") this.transmit("#removeAuthToken");
  }

  async #handshake() {
    const socket = this.#socket;
    try {
      const answer = await this.#call("#handshake", { authToken: this.#token });
      if (socket !== this.#socket) return;
      this.id = answer.id;
      this.#patience = answer.pingTimeout;
      this.#failures = 0;
      // A token that the server did not take is not one that we have.
      if (!answer.isAuthenticated) this.#keepToken(null);
      this.#heard();
      this.#setState("open");
      for (const [channel, entry] of this.#channels) this.#subscribe(channel, entry);
    } catch {
      if (socket === this.#socket) this.#drop(4007);
    }
  }

  async #subscribe(channel, entry) {
    const socket = this.#socket;
    try {
      await this.#call("#subscribe", { channel });
      if (socket !== this.#socket || this.#channels.get(channel) !== entry) return;
      entry.state = "subscribed";
      entry.resolve();
      this.#emit("channels");
    } catch (error) {
      // Where the connection went, the next one subscribes.
      if (socket !== this.#socket || this.#channels.get(channel) !== entry) return;
      this.#forget(channel);
      entry.reject(error);
    }
  }

  #forget(channel) {
    this.#channels.delete(channel);
    this.#emit("channels");
  }

  #call(event, data) {
    const cid = ++this.#cid;
    return new Promise((resolve, reject) => {
      const fail = () => {
        this.#calls.delete(cid);
        reject(new ScError({ name: "TimeoutError", message: `Event response for '${event}' timed out` }));
      };
      this.#calls.set(cid, { event, resolve, reject, timer: setTimeout(fail, ACK_TIMEOUT) });
      this.#send({ event, data, cid });
    });
  }

  #send(packet) {
    this.#write(JSON.stringify(packet));
  }

  #write(text) {
    this.#socket.send(text);
    this.#emit("frame", { out: true, text });
  }

  #message(text) {
    this.#emit("frame", { out: false, text });
    if (text === "" || text === "#1") return this.#ping(text);
    let packets;
    try {
      packets = JSON.parse(text);
    } catch {
      return this.#emit("raw", text);
    }
    for (const packet of Array.isArray(packets) ? packets : [packets]) this.#packet(packet);
  }

  // A server of both protocols sends a ping of each with the upgrade, and goes on with the kind that is answered. One that
  // comes later, without the other ever having come, is from a server of protocol 1.
  #ping(text) {
    const version = text === "" ? 2 : 1;
    const first = this.protocol === null;
    if (version === 2 || (first && this.state === "open")) this.protocol = version;
    if (first && this.protocol !== null) this.#emit("protocol");
    if (this.protocol !== version) return;
    this.#heard();
    this.#write(version === 2 ? "" : "#2");
  }

  #packet(packet) {
    if (packet === null || typeof packet !== "object") return;
    if (packet.rid !== undefined) return this.#answered(packet);
    const { event, data, cid } = packet;
    if (event === "#publish") this.#emit("message", data);
    else if (event === "#setAuthToken") this.#keepToken(data.token);
    else if (event === "#removeAuthToken") this.#keepToken(null);
    else if (event === "#kickOut") {
      this.#forget(data.channel);
      this.#emit("kicked", data);
    } else if (event !== "#disconnect") this.#emit("event", { event, data });
    if (cid !== undefined) this.#send({ rid: cid });
  }

  #answered({ rid, error, data }) {
    const call = this.#calls.get(rid);
    if (!call) return;
    this.#calls.delete(rid);
    clearTimeout(call.timer);
    if (error === undefined || error === null) call.resolve(data);
    else call.reject(new ScError(error));
  }

  #heard() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#drop(4000), this.#patience);
  }

  // Not waiting for the peer's part of the closing: it may be what is gone.
  #drop(code, forGood = false) {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    if (socket) {
      socket.close(code);
      this.#closed(socket, code, "", forGood);
    } else if (forGood) this.#setState("closed", { code });
  }

  #closed(socket, code, reason, forGood = code === 1000 || code >= 4500) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.id = null;
    clearTimeout(this.#silence);
    for (const [cid, { event, reject, timer }] of this.#calls) {
      this.#calls.delete(cid);
      clearTimeout(timer);
      reject(notConnected(event));
    }
    for (const entry of this.#channels.values()) entry.state = "pending";
    this.#emit("channels");
    if (forGood) return this.#setState("closed", { code, reason });
    const grown = Math.min(RETRY_MAX, RETRY_FIRST * 1.6 ** this.#failures++);
    // A part of it by chance, so that the clients of a server that died do not all come back in one moment.
    const wait = RETRY_AT_ONCE.has(code) && this.#failures === 1 ? 0 : Math.round(grown * (0.5 + Math.random() / 2));
    this.#retry = setTimeout(() => this.connect(), wait);
    this.#setState("waiting", { code, reason, wait });
  }

  #keepToken(token) {
    this.#token = token;
    this.claims = token && readClaims(token);
    store(token);
    this.#emit("auth");
  }

  #setState(state, detail = {}) {
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  #emit(type, detail) {
    for (const listener of this.#listeners.get(type) ?? []) listener(detail);
  }
}

function notConnected(event) {
  return new ScError({ name: "BadConnectionError", message: `Event '${event}' was aborted: there is no connection` });
}

// Storage may be forbidden; then the token lives as long as the page.
function readStored() {
  try {
    return localStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

function store(token) {
  try {
    if (token === null) localStorage.removeItem(TOKEN_KEY);
    else localStorage.setItem(TOKEN_KEY, token);
  } catch {}
}

function readClaims(token) {
  try {
    const text = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}
