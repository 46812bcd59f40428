'use strict';
// CONTRACT.md on the server of SocketCluster 14, in one process. To be run where it is installed.
const { createRequire } = require('module');
const path = require('path');
const here = createRequire(path.join(process.cwd(), 'x.js'));
const rules = require('./rules.js');

const http = require('http').createServer();
const server = here('socketcluster-server').attach(http, { ...rules.options, socketChannelLimit: 1000 });

const settle = (next, verdict) => {
  if (verdict === undefined) next();
  else if (typeof verdict === 'number') setTimeout(next, verdict);
  else next(verdict);
};
server.addMiddleware(server.MIDDLEWARE_HANDSHAKE_WS, (request, next) => {
  next(rules.denied(request.url) ? rules.failure('ForbiddenError', 'denied') : undefined);
});
server.addMiddleware(server.MIDDLEWARE_EMIT, (req, next) => {
  settle(next, rules.emit(req.event, req.socket.authToken, req.authTokenExpiredError));
});
server.addMiddleware(server.MIDDLEWARE_SUBSCRIBE, (req, next) => {
  settle(next, rules.subscribe(req.channel, req.data, req.socket.authToken, req.authTokenExpiredError));
});
server.addMiddleware(server.MIDDLEWARE_PUBLISH_IN, (req, next) => {
  if (rules.isStamped(req.channel)) req.data = rules.stamped(req.data, req.socket.authToken);
  settle(next, rules.publishIn(req.channel, req.socket.authToken, req.authTokenExpiredError));
});
server.addMiddleware(server.MIDDLEWARE_PUBLISH_OUT, (req, next) => {
  settle(next, rules.publishOut(req.channel, req.data, req.socket.authToken, req.socket.id));
});

const actions = {
  ...rules.actions,
  login: (socket, data) => {
    // Without the await: the client's ack of the token is not to be waited for.
    let outcome;
    rules.actions.login({ setAuthToken: (...args) => socket.setAuthToken(...args) }, data).then(
      (answer) => (outcome = answer), (error) => (outcome = error));
    return new Promise((resolve, reject) => setImmediate(() => (outcome instanceof Error ? reject : resolve)(outcome)));
  },
  logout: (socket) => {
    socket.deauthenticate();
    return true;
  },
  kick: (socket, data) => {
    socket.kickOut(data.channel, data.message);
    return true;
  },
  terminate: (socket) => {
    socket.socket.terminate();
    return new Promise(() => {});
  },
  push: (socket, data) => {
    const count = data.count === undefined ? 1 : data.count;
    for (let n = 1; n <= count; n++) socket.emit(data.event, count > 1 ? { seq: n, data: data.data } : data.data);
    return count;
  },
  ask: (socket, data) => new Promise((resolve) => socket.emit(data.event, data.data, (error, reply) => {
    resolve(error ? { ok: false, error: { name: error.name, message: error.message } } : { ok: true, reply });
  })),
  serverPublish: (socket, data) => new Promise((resolve, reject) => {
    server.exchange.publish(data.channel, data.data, (error) => (error ? reject(error) : resolve(true)));
  }),
};

server.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('raw', (message) => socket.emit('rawReceived', { message: String(message) }));
  // An answer at once, where there is one: the order of acks is part of what is looked at.
  for (const name of Object.keys(actions)) {
    socket.on(name, (data, respond) => {
      try {
        const answer = actions[name](socket, data);
        if (answer instanceof Promise) answer.then((value) => respond(null, value), respond);
        else respond(null, answer);
      } catch (error) {
        respond(error);
      }
    });
  }
  socket.on('closeMe', (data, respond) => {
    respond(null, true);
    socket.disconnect(data.code, data.reason);
  });
  socket.emit('welcome', { id: socket.id, pid: process.pid, worker: 0, authenticated: !!socket.authToken });
});
server.on('error', () => {});
server.on('warning', () => {});
rules.listen(http, 'socketcluster-server ' + here('socketcluster-server/package.json').version);
