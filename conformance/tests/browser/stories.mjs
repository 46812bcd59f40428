// What a person does with the page, one story each: node stories.mjs STORY URL FOLDER-FOR-PICTURES
//
// A story waits for what it expects to see, never for a time; Playwright gives up after its timeout.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const [story, url, pictures] = process.argv.slice(2);
const problems = [];

const browser = await chromium.launch({
  executablePath: process.env.PATH.split(":").map((dir) => `${dir}/chromium`).find(existsSync),
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
context.setDefaultTimeout(20_000);
context.on("page", (page) => {
  page.on("pageerror", (error) => problems.push(`page error: ${error}`));
  page.on("console", (line) => {
    // A connection that is refused while the server is gone is what some stories are about.
    if (["error", "warning"].includes(line.type()) && !line.text().includes("WebSocket connection to")) problems.push(line.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) problems.push(`request to ${request.url()}`);
  });
});

class Window {
  constructor(page) {
    this.page = page;
  }

  static async open(address = url, within = context) {
    const page = await within.newPage();
    const answer = await page.goto(address);
    assert.equal(answer.status(), 200);
    const window = new Window(page);
    await window.reaches("open");
    return window;
  }

  // Opened by the link on the page, as a person does it.
  async besides() {
    const opened = context.waitForEvent("page");
    await this.page.getByRole("link", { name: "Open one on another worker" }).click();
    const other = new Window(await opened);
    await other.reaches("open");
    await other.saw("Subscribed");
    return other;
  }

  reaches(state) {
    return this.page.locator(`#status[data-state=${state}]`).waitFor();
  }

  // A pattern of a whole line in the list of messages.
  saw(pattern) {
    return this.page.getByRole("log").getByRole("listitem").filter({ hasText: pattern }).last().waitFor();
  }

  count(pattern) {
    return this.page.getByRole("log").getByRole("listitem").filter({ hasText: pattern }).count();
  }

  result(id, pattern) {
    return this.page.locator(`#${id}-result`).filter({ hasText: pattern }).waitFor();
  }

  async publish(channel, text) {
    await this.page.getByLabel("Channel", { exact: true }).fill(channel);
    await this.page.getByLabel("Message", { exact: true }).fill(text);
    await this.page.getByRole("button", { name: "Publish" }).click();
  }

  async emit(event, data, wait = true) {
    await this.page.getByLabel("Event", { exact: true }).fill(event);
    await this.page.getByLabel("Data, JSON or text").fill(data);
    await this.page.getByLabel("wait for the answer").setChecked(wait);
    await this.page.getByRole("button", { name: "Emit" }).click();
  }

  async subscribe(channel) {
    await this.page.getByLabel("Channel to subscribe to").fill(channel);
    await this.page.getByRole("button", { name: "Subscribe", exact: true }).click();
  }

  async where() {
    await this.page.locator("#worker", { hasText: "worker" }).waitFor();
    const [worker, pid] = await Promise.all(["#worker", "#pid"].map((id) => this.page.locator(id).innerText()));
    return { worker: Number(/worker (\d+)/.exec(worker)[1]), pid: Number(/pid (\d+)/.exec(pid)[1]) };
  }

  // How often it has connected: each time says so in the list.
  connections() {
    return this.count("Connected as");
  }

  async frames(pattern, count) {
    await this.page.getByText("Frames", { exact: true }).click();
    const found = this.page.locator("#frames li").filter({ hasText: pattern });
    await found.nth(count - 1).waitFor();
    await this.page.getByText("Messages", { exact: true }).click();
  }
}

const stories = {
  async loads() {
    for (const colorScheme of ["light", "dark"]) {
      for (const [width, height] of [[1280, 860], [390, 844]]) {
        const within = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
        within.setDefaultTimeout(20_000);
        const { page } = await Window.open(url, within);
        await page.locator("#channels li.subscribed").nth(1).waitFor();
        await page.locator("#rand", { hasText: /rand [0-4]/ }).waitFor();
        const { shift, overflow } = await page.evaluate(async () => ({
          overflow: document.documentElement.scrollWidth - innerWidth,
          shift: await new Promise((resolve) => {
            new PerformanceObserver((list) => resolve(list.getEntries().reduce((sum, { value }) => sum + value, 0))).observe({
              type: "layout-shift",
              buffered: true,
            });
            // Two pictures later there is nothing to be told: nothing has shifted.
            requestAnimationFrame(() => requestAnimationFrame(() => resolve(0)));
          }),
        }));
        assert.ok(overflow <= 0, `${width} px wide, the page is ${overflow} px wider than its window`);
        assert.ok(shift < 0.01, `the layout shifted by ${shift}`);
        await page.screenshot({ path: `${pictures}/${colorScheme}-${width}.png`, fullPage: true });
        await within.close();
      }
    }
    // Each file says what it is, and that it may do nothing that the page does not need.
    for (const file of ["", "style.css", "client.js", "journal.js", "playground.js", "icon.svg"]) {
      const answer = await context.request.get(url + file);
      assert.match(answer.headers()["content-security-policy"], /^default-src 'none';/);
      assert.doesNotMatch(await answer.text(), /https?:\/\/(?!www\.w3\.org\/2000\/svg)/, `${file} names another place`);
    }
  },

  async keyboard() {
    const window = await Window.open();
    const { page } = window;
    const names = [];
    // Round the page once, by the tabulator alone.
    for (let step = 0; step < 40; step++) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const element = document.activeElement;
        const { outlineStyle } = getComputedStyle(element.matches("[type=radio]") ? element.nextElementSibling : element);
        return { name: element.ariaLabel ?? element.id, tag: element.tagName, seen: outlineStyle !== "none" };
      });
      if (name.tag === "BODY") break;
      assert.ok(name.seen, `the focus on ${name.name || name.tag} cannot be seen`);
      names.push(name.name);
    }
    for (const wanted of ["toggle", "beside", "channel", "Unsubscribe from chat", "to", "text", "clear", "Messages", "ack", "event", "data", "name"]) {
      assert.ok(names.includes(wanted), `${wanted} is not reached: ${names}`);
    }
    await page.getByLabel("Message", { exact: true }).focus();
    await page.keyboard.type("by key");
    await page.keyboard.press("Enter");
    await window.saw(/chat.*by key/);
    await page.getByRole("button", { name: "Unsubscribe from chat" }).press("Enter");
    await page.getByRole("button", { name: "Unsubscribe from chat" }).waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.id), "channel");
    await window.publish("chat", "unheard");
    await window.result("publish", "you are not subscribed to it");
    assert.equal(await window.count("unheard"), 0);
  },

  async emits() {
    const window = await Window.open();
    await window.emit("echo", '{"deep": [1, null, "ü"]}');
    await window.result("emit", 'echo: {"deep":[1,null,"ü"]} in');
    await window.emit("echo", "no JSON");
    await window.result("emit", 'echo: "no JSON" in');
    await window.emit("brokerOf", '"sample"');
    await window.result("emit", /brokerOf: [01] in/);
    await window.emit("brokerOf", "[1]");
    await window.result("emit", "Error");
    // The count of the worker goes to everybody who is subscribed to the channel.
    await window.emit("sampleClientEvent", "", false);
    await window.result("emit", "no answer is wanted");
    await window.saw(/sample.*broker [01] → worker [01] → this window.*1/);
  },

  // A channel with more on it than anybody can read: nothing is lost on the way, the list stays short, and the page answers.
  async busy() {
    const window = await Window.open();
    await window.saw(/chat.*Subscribed/);
    const heard = await window.page.evaluate(async () => {
      const { Client } = await import("/client.js");
      const [publisher, reader] = [new Client(), new Client()];
      const heard = [];
      const all = new Promise((resolve) => reader.on("message", ({ data }) => heard.push(data) === 2000 && resolve()));
      reader.connect();
      await reader.subscribe("chat");
      await new Promise((resolve) => publisher.on("state", ({ state }) => state === "open" && resolve()).connect());
      await Promise.all(Array.from({ length: 2000 }, (_, number) => publisher.publish("chat", number)));
      await all;
      return heard;
    });
    assert.deepEqual(heard, Array.from({ length: 2000 }, (_, number) => number));
    await window.saw(/→ this window1999$/);
    assert.equal(await window.page.locator("#messages li").count(), 200);
    await window.emit("echo", "1");
    await window.result("emit", "echo: 1 in");
  },

  async "two-windows"() {
    const first = await Window.open();
    const second = await first.besides();
    const [here, there] = [await first.where(), await second.where()];
    assert.notEqual(here.worker, there.worker);
    assert.notEqual(here.pid, there.pid);
    await first.page.locator("#others", { hasText: `on worker ${there.worker}` }).waitFor();
    await second.page.locator("#others", { hasText: `on worker ${here.worker}` }).waitFor();
    for (const channel of ["chat", "sample"]) {
      await first.publish(channel, `over ${channel}`);
      await first.result("publish", `${channel}: acknowledged by its broker`);
      await second.saw(new RegExp(`${channel}.* → worker ${here.worker} → broker [01] → worker ${there.worker} → this window.*over ${channel}`));
      await first.saw(new RegExp(`this window → worker ${here.worker} → broker [01] → worker ${here.worker} → this window.*over ${channel}`));
    }
    await second.subscribe("weather");
    await second.saw(/weather.*Subscribed/);
    await first.publish("weather", "rain");
    await second.saw(/weather.*rain/);
    await second.publish("chat", "back");
    await first.saw(/chat.*back/);
    // Nobody subscribed to it here.
    assert.equal(await first.count("rain"), 0);
    await second.page.close({ runBeforeUnload: false });
    await first.page.locator("#others", { hasText: "none yet" }).waitFor();
  },

  async "outlives-ping-timeout"() {
    const window = await Window.open();
    // Twelve intervals, which are three timeouts.
    await window.frames("pong (an empty message)", 12);
    await window.page.locator("#protocol", { hasText: "Protocol 2" }).waitFor();
    assert.equal(await window.connections(), 1);
    await window.reaches("open");
  },

  async "outlives-ping-timeout-protocol-1"() {
    const window = await Window.open();
    await window.frames(/sent.*#2/, 12);
    assert.equal(await window.connections(), 1);
    await window.emit("echo", "7");
    await window.result("emit", "echo: 7 in");
    await window.publish("chat", "as ever");
    await window.saw(/chat.*as ever/);
    await window.page.locator("#protocol", { hasText: "Protocol 1" }).waitFor();
  },

  // That the story before can fail: a page whose pongs get lost is cut off.
  async "without-pongs"() {
    await context.addInitScript(() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (text) {
        if (text !== "" && text !== "#2") send.call(this, text);
      };
    });
    const window = await Window.open();
    await window.saw("The connection ended, code 4001");
    await window.reaches("open");
    await window.saw(/The connection ended/);
  },

  async "signs-in"() {
    const window = await Window.open();
    const { page } = window;
    await window.subscribe("members");
    await window.saw("AuthRequiredError: Sign in to subscribe to members");
    await page.getByLabel("Name", { exact: true }).fill("Ada");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("#user", { hasText: "signed in as Ada" }).waitFor();
    await window.subscribe("members");
    await window.saw(/members.*Subscribed/);
    // The token comes with the next connection, and with it what it allows.
    await page.reload();
    await page.locator("#user", { hasText: "signed in as Ada" }).waitFor();
    await window.saw(/members.*Subscribed/);
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.locator("#user", { hasText: "not signed in" }).waitFor();
    await page.reload();
    await window.saw("AuthRequiredError: Sign in to subscribe to members");
  },

  async "worker-killed"() {
    const first = await Window.open();
    const second = await first.besides();
    const [here, there] = [await first.where(), await second.where()];
    const reconnecting = first.reaches("waiting");
    process.kill(here.pid, "SIGKILL");
    await reconnecting;
    await first.saw("The connection ended, code 1006");
    await first.reaches("open");
    await first.page.locator("#channels li.subscribed").nth(1).waitFor();
    // Both channels, whose brokers differ, and both ways.
    for (const channel of ["chat", "sample"]) {
      await second.publish(channel, `${channel} is back`);
      await first.saw(new RegExp(`${channel}.*${channel} is back`));
      await first.publish(channel, `${channel} indeed`);
      await second.saw(new RegExp(`${channel}.*${channel} indeed`));
    }
    assert.notEqual((await first.where()).pid, here.pid);
    // The other worker's window has not noticed.
    assert.deepEqual(await second.where(), there);
    assert.equal(await second.connections(), 1);
  },
};

try {
  await stories[story]();
  assert.deepEqual(problems, []);
} catch (error) {
  console.error(error, ...problems);
  for (const [number, page] of context.pages().entries()) {
    const path = `${pictures}/failed-${story}-${number}.png`;
    await page.screenshot({ path }).then(() => console.error(`a picture: ${path}`), () => {});
  }
  process.exitCode = 1;
} finally {
  await browser.close();
}
