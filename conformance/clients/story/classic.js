'use strict';
// The clients of SocketCluster 3 to 14, which call back, as the story wants a client: calls are promises, events are queues.

const { Queue } = require('./queue');

class Classic {
  constructor(lib, options) {
    this.events = new Queue('events');
    this.errors = [];
    this.socket = (lib.create || lib.connect).call(lib, options);
    const tell = (kind, fields) => this.events.push(Object.assign({ kind }, fields));
    this.socket.on('error', (error) => this.errors.push(error));
    this.socket.on('connect', (status) => tell('connect', { status }));
    this.socket.on('disconnect', (code, reason) => tell('disconnect', { code, reason }));
    this.socket.on('connectAbort', (code, reason) => tell('abort', { code, reason }));
    this.socket.on('raw', (message) => tell('raw', { message }));
    this.socket.on('kickOut', (message, channel) => tell('kickOut', { message, channel }));
    this.socket.on('authenticate', (token) => tell('authenticate', { token }));
    // Before 4.0 there was no state of authentication, but a token that came and went.
    const logout = this.socket.authState === undefined ? 'removeAuthToken' : 'deauthenticate';
    this.socket.on(logout, () => tell('deauthenticate', {}));
  }

  call(event, data) {
    return new Promise((resolve, reject) => {
      this.socket.emit(event, data, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  send(event, data) {
    this.socket.emit(event, data);
  }

  on(event, handler) {
    this.socket.on(event, (data, respond) => handler(data, respond));
  }

  publish(channel, data) {
    return new Promise((resolve, reject) => {
      this.socket.publish(channel, data, (error) => (error ? reject(error) : resolve()));
    });
  }

  subscribe(name, options, handler) {
    this.socket.unwatch(name);
    if (handler) this.socket.watch(name, handler);
    const channel = this.socket.subscribe(name, options);
    return new Promise((resolve, reject) => {
      if (channel.state === 'subscribed') return resolve();
      const settle = (then) => (value) => {
        channel.removeListener('subscribe', done);
        channel.removeListener('subscribeFail', failed);
        then(value);
      };
      const done = settle(() => resolve()), failed = settle(reject);
      channel.on('subscribe', done);
      channel.on('subscribeFail', failed);
    });
  }

  unsubscribe(name) {
    this.socket.unsubscribe(name);
  }

  isSubscribed(name) {
    return this.socket.isSubscribed(name);
  }

  sendRaw(text) {
    this.socket.send(text);
  }

  get id() {
    return this.socket.id;
  }

  authenticate(token) {
    return new Promise((resolve, reject) => {
      this.socket.authenticate(token, (error, status) => (error ? reject(error) : resolve(status)));
    });
  }

  /** Whether this client can log itself out. */
  get canLogOut() {
    return typeof this.socket.deauthenticate === 'function';
  }

  logOut() {
    return new Promise((resolve, reject) => this.socket.deauthenticate((error) => (error ? reject(error) : resolve())));
  }

  connect() {
    this.socket.connect();
  }

  disconnect(code, reason) {
    this.socket.disconnect(code, reason);
  }
}

module.exports = { Client: Classic };
