'use strict';
// CONTRACT.md on the server of SocketCluster 20. To be run where it is installed.
const { createRequire } = require('module');
const path = require('path');
const here = createRequire(path.join(process.cwd(), 'x.js'));
const rules = require('./rules.js');

const http = require('http').createServer();
const server = here('socketcluster-server').attach(http, { ...rules.options, socketChannelLimit: 1000 });

function settle(action, verdict, data) {
  const allow = () => (data === undefined ? action.allow() : action.allow({ data }));
  if (verdict === undefined) allow();
  else if (typeof verdict === 'number') setTimeout(allow, verdict);
  else if (verdict === true) action.block(rules.failure('SilentMiddlewareBlockedError', 'silent', { silent: true }));
  else action.block(verdict);
}
server.setMiddleware(server.MIDDLEWARE_HANDSHAKE, async (stream) => {
  for await (const action of stream) {
    const blocks = action.type === action.HANDSHAKE_WS && rules.denied(action.request.url);
    if (blocks) action.block(rules.failure('ForbiddenError', 'denied', { statusCode: 401 }));
    else action.allow();
  }
});
server.setMiddleware(server.MIDDLEWARE_INBOUND, async (stream) => {
  for await (const action of stream) {
    const [token, expired] = [action.socket.authToken, action.authTokenExpiredError];
    if (action.type === action.TRANSMIT || action.type === action.INVOKE) {
      settle(action, rules.emit(action.receiver || action.procedure || '', token, expired));
    } else if (action.type === action.SUBSCRIBE) {
      settle(action, rules.subscribe(action.channel, action.data, token, expired));
    } else if (action.type === action.PUBLISH_IN) {
      const data = rules.isStamped(action.channel) ? rules.stamped(action.data, token) : undefined;
      settle(action, rules.publishIn(action.channel, token, expired), data);
    } else {
      action.allow();
    }
  }
});
server.setMiddleware(server.MIDDLEWARE_OUTBOUND, async (stream) => {
  for await (const action of stream) {
    settle(action, rules.publishOut(action.channel, action.data, action.socket.authToken, action.socket.id));
  }
});

const actions = {
  ...rules.actions,
  logout: (socket) => socket.deauthenticate().then(() => true),
  kick: async (socket, data) => {
    await (data.channel === undefined ? socket.kickOut(undefined, data.message) : socket.kickOut(data.channel, data.message));
    return true;
  },
  closeMe: (socket, data) => {
    setTimeout(() => socket.disconnect(data.code, data.reason), 5);
    return true;
  },
  terminate: (socket) => {
    socket.socket.terminate();
    return new Promise(() => {});
  },
  push: (socket, data) => {
    const count = data.count === undefined ? 1 : data.count;
    for (let n = 1; n <= count; n++) socket.transmit(data.event, count > 1 ? { seq: n, data: data.data } : data.data);
    return count;
  },
  ask: (socket, data) => socket.invoke(data.event, data.data).then(
    (reply) => ({ ok: true, reply }),
    (error) => ({ ok: false, error: { name: error.name, message: error.message } })),
  serverPublish: (socket, data) => server.exchange.invokePublish(data.channel, data.data).then(() => true),
};

async function each(stream, f) {
  for await (const item of stream) f(item);
}
each(server.listener('connection'), ({ socket }) => {
  each(socket.listener('error'), () => {});
  each(socket.listener('raw'), ({ message }) => socket.transmit('rawReceived', { message: String(message) }));
  for (const name of Object.keys(actions)) {
    const act = async (data) => actions[name](socket, data);
    each(socket.procedure(name), (request) => {
      act(request.data).then((answer) => request.end(answer), (error) => request.error(error));
    });
    each(socket.receiver(name), (data) => act(data).catch(() => {}));
  }
  socket.transmit('welcome', { id: socket.id, pid: process.pid, worker: 0, authenticated: !!socket.authToken });
});
each(server.listener('error'), () => {});
each(server.listener('warning'), () => {});
rules.listen(http, 'socketcluster-server ' + here('socketcluster-server/package.json').version);
