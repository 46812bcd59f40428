'use strict';
// The application on socketcluster-server 15 to 20: one process.
const http = require('http');
const rules = require('./rules');

const httpServer = http.createServer();
const server = require('socketcluster-server').attach(httpServer, rules.options);

function settle(action, rule) {
  if (rule === undefined) return action.allow();
  if (rule !== true) return action.block(rule);
  const silent = rules.error('SilentMiddlewareBlockedError', 'The action was blocked silently');
  silent.silent = true;
  action.block(silent);
}

server.setMiddleware(server.MIDDLEWARE_HANDSHAKE, async (actions) => {
  for await (const action of actions) {
    const denied = action.type === action.HANDSHAKE_WS && rules.denied(action.request.url);
    settle(action, denied ? rules.error('ForbiddenError', 'denied', { statusCode: 401 }) : undefined);
  }
});
server.setMiddleware(server.MIDDLEWARE_INBOUND, async (actions) => {
  for await (const action of actions) {
    const token = action.socket.authToken, expired = action.authTokenExpiredError;
    let rule;
    if (action.type === action.TRANSMIT || action.type === action.INVOKE) {
      rule = rules.emit(action.receiver || action.procedure, token, expired);
    } else if (action.type === action.SUBSCRIBE) {
      rule = rules.subscribe(action.channel, action.data, token, expired);
    } else if (action.type === action.PUBLISH_IN) {
      rule = rules.publish(action.channel, token, expired);
    }
    settle(action, rule);
  }
});

const handlers = {
  'echo': (socket, data) => data,
  'user.echo': (socket, data) => data,
  'add': (socket, data) => rules.add(data),
  'reject': (socket, data) => { throw rules.error(data.name, data.message, data.props); },
  'rejectString': (socket, data) => { throw String(data); },
  'noAck': () => new Promise(() => {}),
  'login': async (socket, data) => {
    if (!rules.mayLogin(data)) throw rules.loginError();
    await socket.setAuthToken({ username: data.username }, data.expiresIn ? { expiresIn: data.expiresIn } : {});
    return { username: data.username };
  },
  'logout': async (socket) => { await socket.deauthenticate(); return true; },
  'kick': async (socket, data) => { await socket.kickOut(data.channel, data.message); return true; },
  'ask': async (socket, data) => {
    try {
      return { ok: true, reply: await socket.invoke(data.event, data.data) };
    } catch (e) {
      return { ok: false, error: { name: e.name, message: e.message } };
    }
  },
  'push': (socket, data) => { socket.transmit(data.event, data.data); return 1; },
  'serverPublish': async (socket, data) => {
    await (server.exchange.invokePublish || server.exchange.publish).call(server.exchange, data.channel, data.data);
    return true;
  }
};

function serve(socket) {
  for (const name of Object.keys(handlers)) {
    (async () => {
      for await (const request of socket.procedure(name)) {
        (async () => {
          try {
            request.end(await handlers[name](socket, request.data));
          } catch (e) {
            request.error(e);
          }
        })();
      }
    })();
    (async () => { for await (const data of socket.receiver(name)) await handlers[name](socket, data); })();
  }
  (async () => {
    for await (const request of socket.procedure('closeMe')) {
      request.end(true);
      // The answer goes first.
      setImmediate(() => socket.disconnect(request.data.code, request.data.reason));
    }
  })();
  (async () => {
    for await (const { message } of socket.listener('raw')) socket.transmit('rawReceived', { message: String(message) });
  })();
  (async () => { for await (const _ of socket.listener('error')); })();
}

(async () => {
  for await (const { socket } of server.listener('connection')) {
    serve(socket);
    socket.transmit('welcome', { id: socket.id });
  }
})();
(async () => { for await (const _ of server.listener('error')); })();
(async () => { for await (const _ of server.listener('warning')); })();

process.on('SIGTERM', () => process.exit(0));
httpServer.listen(rules.port, rules.host, () => rules.ready(httpServer.address().port));
