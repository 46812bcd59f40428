// The two lists of the page: messages as a person reads them, and frames as they are on the wire. Whatever comes in between two
// pictures of the screen is put on it at once, and only the last ones are kept, so that a busy channel does not stop the page.

const KEPT = 200;
const NEAR_THE_END = 40;

export class Journal {
  #list;
  #waiting = [];
  #scheduled = false;

  constructor(list) {
    this.#list = list;
  }

  add(entry) {
    this.#waiting.push({ time: new Date(), ...entry });
    if (this.#waiting.length > KEPT) this.#waiting.shift();
    if (this.#scheduled) return;
    this.#scheduled = true;
    // A window in the background draws nothing, and needs nothing drawn but what it then shows.
    requestAnimationFrame(() => this.#draw());
  }

  clear() {
    this.#waiting = [];
    this.#list.replaceChildren();
  }

  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #draw() {
    this.#scheduled = false;
    const list = this.#list;
    // Who reads further up is left there.
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_THE_END;
    list.append(...this.#waiting.map(row));
    this.#waiting = [];
    while (list.childElementCount > KEPT) list.firstElementChild.remove();
    if (atEnd) this.toEnd();
  }
}

function row({ time, kind, tag, path, body, code = false }) {
  const head = element("div", "head", element("time", "", clock(time)));
  if (tag !== undefined) head.append(element("b", "", tag));
  if (path) head.append(element("span", "path", path));
  const item = element("li", kind, head);
  if (body !== undefined) item.append(element(code ? "code" : "div", "body", body));
  return item;
}

export function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function clock(time) {
  return `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}
