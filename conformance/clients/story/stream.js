'use strict';
// The clients of SocketCluster 15 to 20, which are made of streams, as the story wants a client.

const { Queue } = require('./queue');

class Stream {
  constructor(lib, options) {
    this.events = new Queue('events');
    this.errors = [];
    this.socket = lib.create(options);
    const tell = (kind) => (fields) => this.events.push(Object.assign({ kind }, fields));
    this.each(this.socket.listener('error'), ({ error }) => this.errors.push(error));
    this.each(this.socket.listener('connect'), (status) => tell('connect')({ status }));
    this.each(this.socket.listener('disconnect'), tell('disconnect'));
    this.each(this.socket.listener('connectAbort'), tell('abort'));
    this.each(this.socket.listener('raw'), tell('raw'));
    this.each(this.socket.listener('kickOut'), tell('kickOut'));
    this.each(this.socket.listener('authenticate'), (event) => tell('authenticate')({ token: event.signedAuthToken }));
    this.each(this.socket.listener('deauthenticate'), () => tell('deauthenticate')({}));
    this.watched = new Map();
  }

  async each(stream, handler) {
    for await (const event of stream) handler(event);
  }

  call(event, data) {
    return this.socket.invoke(event, data);
  }

  send(event, data) {
    this.socket.transmit(event, data);
  }

  on(event, handler) {
    this.each(this.socket.receiver(event), (data) => handler(data));
    this.each(this.socket.procedure(event), (request) => {
      handler(request.data, (error, answer) => (error ? request.error(error) : request.end(answer)));
    });
  }

  publish(channel, data) {
    return this.socket.invokePublish(channel, data);
  }

  subscribe(name, options, handler) {
    const channel = this.socket.subscribe(name, options);
    if (handler && !this.watched.has(name)) this.each(channel, (data) => this.watched.get(name)(data));
    if (handler) this.watched.set(name, handler);
    if (channel.state === 'subscribed') return Promise.resolve();
    return new Promise((resolve, reject) => {
      channel.listener('subscribe').once().then(() => resolve(), () => {});
      channel.listener('subscribeFail').once().then(({ error }) => reject(error), () => {});
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
    return this.socket.authenticate(token);
  }

  get canLogOut() {
    return true;
  }

  logOut() {
    return this.socket.deauthenticate();
  }

  connect() {
    this.socket.connect();
  }

  disconnect(code, reason) {
    this.socket.disconnect(code, reason);
  }
}

module.exports = { Client: Stream };
