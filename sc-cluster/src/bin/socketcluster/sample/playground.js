// The page: what it shows of the connection, and what its forms do.

import { Client } from "/client.js";
import { Journal, element } from "/journal.js";

const $ = (id) => document.getElementById(id);
const NAMES = ["wren", "finch", "heron", "robin", "swift", "raven", "crane", "linnet", "plover", "dunlin", "siskin", "merlin"];
// Where the windows of this page tell each other that they are there.
const WINDOWS = "playground/windows";
const WINDOWS_KNOWN_MAX = 20;
const ANOTHER_WORKER_TRIES = 5;

const client = new Client();
const messages = new Journal($("messages"));
const frames = new Journal($("frames"));
const me = { window: windowName(), worker: null, pid: null, workers: 0, brokers: 0 };
const windows = new Map();
const brokers = new Map();
// The worker that the window which opened this one is on: this one is to be on another.
let besides = readBesides();
let besidesTries = 0;
let pulsed = 0;

// ---- the connection ----

const STATES = { connecting: "Connecting", open: "Connected", waiting: "Reconnecting", closed: "Disconnected" };
let countdown = null;
let wasOpen = false;

client.on("state", ({ state, code, wait }) => {
  clearInterval(countdown);
  const status = $("status");
  status.dataset.state = state;
  status.textContent = STATES[state];
  document.body.dataset.state = state;
  $("toggle").textContent = { open: "Disconnect", connecting: "Disconnect", waiting: "Connect now", closed: "Connect" }[state];
  if (state === "waiting" && wait >= 1000) countDown(wait);
  if (state === "open") note("connection", `Connected as ${client.id}`);
  // What is tried again and again is said once.
  if (wasOpen && state !== "open") note("connection", `The connection ended, code ${code}`, "problem");
  wasOpen = state === "open";
  if (!wasOpen) forgetWhere();
});

function countDown(wait) {
  const until = Date.now() + wait;
  const show = () => {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    $("status").textContent = `Reconnecting in ${seconds} s`;
  };
  show();
  countdown = setInterval(show, 1000);
}

$("toggle").addEventListener("click", () => {
  if (client.state === "open" || client.state === "connecting") client.disconnect();
  else client.connect();
});

client.on("protocol", () => ($("protocol").textContent = `Protocol ${client.protocol}`));

// ---- where this window is ----

client.on("event", ({ event, data }) => {
  if (event === "whoami") return arrived(data);
  if (event === "rand") {
    $("rand").textContent = `rand ${data.rand}`;
    return;
  }
  messages.add({ kind: "event", tag: event, path: "from the worker, to this window", ...shown(data) });
});

function arrived(whoami) {
  if (besides === whoami.worker && whoami.workers > 1 && besidesTries++ < ANOTHER_WORKER_TRIES) {
    note("connection", `This is worker ${whoami.worker}, as in the window that opened this one: asking for the next`);
    client.disconnect();
    return client.connect();
  }
  besides = null;
  Object.assign(me, whoami);
  $("worker").textContent = `worker ${me.worker}`;
  $("pid").textContent = `pid ${me.pid}, one of ${me.workers}`;
  $("broker").textContent = me.brokers === 1 ? "broker 0" : `brokers 0 ${me.brokers === 2 ? "and" : "to"} ${me.brokers - 1}`;
  $("beside").href = `/#beside=${me.worker}`;
  $("beside").textContent = me.workers > 1 ? "Open one on another worker" : "Open one";
  announce({ ask: true });
  for (const [channel] of client.channels) findBroker(channel);
}

function forgetWhere() {
  me.worker = me.pid = null;
  windows.clear();
  showWindows();
  $("worker").textContent = "–";
  $("pid").textContent = "\u00a0";
}

async function findBroker(channel) {
  if (brokers.has(channel) || client.state !== "open") return;
  try {
    const started = performance.now();
    brokers.set(channel, await client.invoke("brokerOf", channel));
    $("round-trip").textContent = `Answer in ${took(started)}`;
    showChannels();
  } catch {}
}

// ---- the other windows ----

function announce(more) {
  if (me.worker === null || client.state !== "open") return;
  client.publish(WINDOWS, { window: me.window, worker: me.worker, ...more }).catch(() => {});
}

function windowSaid({ window, worker, ask, left }) {
  if (typeof window !== "string" || window === me.window) return;
  if (left) windows.delete(window);
  else if (windows.has(window) || windows.size < WINDOWS_KNOWN_MAX) windows.set(window, worker);
  if (ask && windows.size < WINDOWS_KNOWN_MAX) announce({});
  showWindows();
}

function showWindows() {
  const all = [...windows].map(([name, worker]) => `${name} on worker ${worker}`);
  $("others").textContent = all.length > 2 ? `${all.length} windows` : all.join(", ") || "none yet";
  $("others").title = all.join("\n");
}

addEventListener("pagehide", () => announce({ left: true }));

$("beside").addEventListener("click", (event) => {
  // A window of its own can stand beside this one; where there are no such windows, or with a key held, it is a tab.
  if (event.ctrlKey || event.metaKey || event.shiftKey || matchMedia("(max-width: 60rem)").matches) return;
  if (open(event.currentTarget.href, "", `width=${outerWidth},height=${outerHeight},left=${screenX + 60},top=${screenY + 60}`)) {
    event.preventDefault();
  }
});

// ---- messages ----

client.on("message", ({ channel, data }) => {
  pulse();
  if (channel === WINDOWS) return windowSaid(data ?? {});
  const signed = data !== null && typeof data === "object" && typeof data.window === "string" && "text" in data;
  messages.add({
    kind: signed && data.window === me.window ? "message own" : "message",
    tag: channel,
    path: way(channel, signed ? data : null),
    ...shown(signed ? data.text : data),
  });
});

function way(channel, from) {
  const broker = brokers.has(channel) ? `broker ${brokers.get(channel)}` : "its broker";
  const name = from !== null && from.window === me.window ? "this window" : from?.window;
  const origin = from === null ? "" : `${name} → worker ${from.worker} → `;
  return `${origin}${broker} → worker ${me.worker} → this window`;
}

function pulse() {
  if (performance.now() - pulsed < 150 || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  pulsed = performance.now();
  for (const stop of document.querySelectorAll(".route li")) {
    stop.animate([{ "--glow": 1 }, { "--glow": 0 }], { duration: 700, easing: "ease-out" });
  }
}

client.on("kicked", ({ channel, message }) => note(channel, `Kicked out: ${message ?? "no reason given"}`, "problem"));

client.on("frame", ({ out, text }) => {
  const body = { "": out ? "pong (an empty message)" : "ping (an empty message)", "#1": "#1 (ping of protocol 1)" }[text] ?? text;
  frames.add({ kind: out ? "sent" : "received", tag: out ? "sent" : "received", body, code: true });
});

// ---- channels ----

client.on("channels", showChannels);

function showChannels() {
  const own = client.channels.filter(([name]) => name !== WINDOWS);
  $("channels").replaceChildren(...own.map(([name, state]) => chip(name, state)));
  $("known-channels").replaceChildren(...own.map(([name]) => Object.assign(element("option"), { value: name })));
  const homes = own.filter(([name]) => brokers.has(name)).map(([name]) => `${name} on ${brokers.get(name)}`);
  $("shard").textContent = me.brokers > 1 && homes.length ? homes.slice(0, 3).join(", ") : "each channel lives on one";
}

function chip(name, state) {
  const close = element("button", "", "×");
  close.type = "button";
  close.ariaLabel = `Unsubscribe from ${name}`;
  close.addEventListener("click", () => {
    client.unsubscribe(name);
    remember();
    $("channel").focus();
  });
  const item = element("li", state, element("span", "", name), close);
  item.title = state;
  return item;
}

async function subscribe(channel) {
  const answer = client.subscribe(channel);
  findBroker(channel);
  try {
    await answer;
    note(channel, "Subscribed");
    remember();
    return true;
  } catch (error) {
    note(channel, `Not subscribed. ${error.name}: ${error.message}`, "problem");
    return false;
  }
}

// A reload subscribes to the same channels again.
function remember() {
  const names = client.channels.map(([name]) => name).filter((name) => name !== WINDOWS);
  keep("channels", JSON.stringify(names));
}

onSubmit("subscribe", async () => {
  const channel = $("channel").value.trim();
  if (channel === "") return;
  $("channel").value = "";
  if (await subscribe(channel)) $("to").value = channel;
});

// ---- publish, emit, sign in ----

onSubmit("publish", async () => {
  const channel = $("to").value.trim();
  findBroker(channel);
  const subscribed = client.channels.some(([name]) => name === channel);
  await attempt("publish-result", (time) => `${channel}: acknowledged by its broker in ${time}${subscribed ? "" : "; you are not subscribed to it"}`, () =>
    client.publish(channel, { text: $("text").value, window: me.window, worker: me.worker }),
  );
});

onSubmit("emit", async () => {
  const event = $("event").value.trim();
  const data = parsed($("data").value);
  if (!$("ack").checked) {
    return attempt("emit-result", () => `${event}: sent; no answer is wanted`, async () => client.transmit(event, data));
  }
  await attempt("emit-result", (time, answer) => `${event}: ${answer === undefined ? "answered" : JSON.stringify(answer)} in ${time}`, () => client.invoke(event, data));
});

onSubmit("login", async () => {
  if (client.claims) {
    client.deauthenticate();
    return;
  }
  const name = $("name").value.trim();
  if (name) await attempt("login-result", () => "The token is kept, and comes with the next connection.", () => client.invoke("login", name));
});

client.on("auth", showUser);

function showUser() {
  const name = client.claims?.username;
  $("user").textContent = client.claims ? `signed in as ${name}` : "not signed in";
  $("login-button").textContent = client.claims ? "Sign out" : "Sign in";
  $("name").disabled = client.claims !== null;
  if (client.claims) $("name").value = name;
  else result("login-result", "Only then may you subscribe to “members”.");
}

async function attempt(id, done, action) {
  const started = performance.now();
  try {
    const answer = await action();
    result(id, done(took(started), answer));
    $("round-trip").textContent = `Answer in ${took(started)}`;
  } catch (error) {
    result(id, `${error.name}: ${error.message}`, true);
  }
}

function result(id, text, problem = false) {
  $(id).textContent = text;
  $(id).classList.toggle("problem", problem);
}

// ---- small things ----

function onSubmit(id, action) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

function note(tag, body, kind = "") {
  messages.add({ kind: `note ${kind}`, tag, body });
}

function shown(data) {
  return typeof data === "string" ? { body: data } : { body: JSON.stringify(data), code: true };
}

function parsed(text) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function took(started) {
  return `${(performance.now() - started).toFixed(1)} ms`;
}

function readBesides() {
  const match = /^#beside=(\d+)$/.exec(location.hash);
  if (!match) return null;
  history.replaceState(null, "", "/");
  return Number(match[1]);
}

// A window keeps its name over reloads. One that another window opened begins with a copy of that one's storage.
function windowName() {
  const kept = location.hash.startsWith("#beside") ? null : recall("window");
  const name = kept ?? `${NAMES[Math.floor(Math.random() * NAMES.length)]}-${Math.floor(Math.random() * 90 + 10)}`;
  keep("window", name);
  return name;
}

function recall(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    sessionStorage.setItem(key, value);
  } catch {}
}

for (const radio of document.querySelectorAll("[name=view]")) {
  radio.addEventListener("change", () => {
    const shownFrames = radio.value === "frames";
    $("messages").hidden = shownFrames;
    $("frames").hidden = !shownFrames;
    (shownFrames ? frames : messages).toEnd();
  });
}

$("clear").addEventListener("click", () => {
  messages.clear();
  frames.clear();
});

$("window").textContent = me.window;
showUser();
client.subscribe(WINDOWS);
for (const channel of parsed(recall("channels") ?? '["chat", "sample"]')) subscribe(channel);
client.connect();
