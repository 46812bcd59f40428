'use strict';
// What happened and nobody has looked at yet.

/** How long anything may take to happen before the story has failed, in milliseconds. */
const PATIENCE = 30000;

class Queue {
  constructor(name) {
    this.name = name;
    this.items = [];
    this.waiters = [];
  }

  push(item) {
    this.items.push(item);
    const waiter = this.waiters.find(({ fits }) => fits(item));
    if (waiter) waiter.take();
  }

  /** The first item that fits; those before it are dropped. */
  next(what, fits = () => true) {
    const at = this.items.findIndex(fits);
    if (at >= 0) return Promise.resolve(this.items.splice(0, at + 1).pop());
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.waiters = this.waiters.filter((other) => other !== waiter);
      };
      const waiter = {
        fits,
        take: () => {
          end();
          resolve(this.items.splice(0, this.items.findIndex(fits) + 1).pop());
        },
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error(`${what} did not come; ${this.name}: ${JSON.stringify(this.items)}`));
      }, PATIENCE);
      this.waiters.push(waiter);
    });
  }

  /** The next event of this kind. */
  kind(kind) {
    return this.next(kind, (event) => event.kind === kind);
  }
}

module.exports = { Queue, PATIENCE };
