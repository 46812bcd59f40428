'use strict';
// The parts of CONTRACT.md that do not depend on the version of SocketCluster.

function failure(name, message, members) {
  const error = new Error(message);
  error.name = name;
  for (const key of Object.keys(members || {})) error[key] = members[key];
  return error;
}

// A middleware's verdict: undefined passes, true blocks silently, an error blocks, a number passes after so many ms.
const loggedIn = (token, expired) => (token ? undefined : expired || failure('AuthRequiredError', 'Login first'));

function emit(event, token, expired) {
  if (typeof event !== 'string') return;
  if (event.startsWith('blocked.')) return failure('ForbiddenError', 'Event is blocked', { code: 'EBLOCKED', event });
  if (event.startsWith('silent.')) return true;
  if (event.startsWith('user.')) return loggedIn(token, expired);
}

function subscribe(channel, data, token, expired) {
  if (typeof channel !== 'string') return;
  if (channel.startsWith('forbidden.')) {
    return failure('ForbiddenError', 'Channel is forbidden', { code: 'ECHANNEL', channel });
  }
  if (channel.startsWith('silent.')) return true;
  if (channel.startsWith('private.')) return loggedIn(token, expired);
  if (channel.startsWith('slow.')) return 200;
  if (channel.startsWith('member.') && !(data && data.pass === 'open')) {
    return failure('ForbiddenError', 'Bad pass', { code: 'EPASS' });
  }
}

function publishIn(channel, token, expired) {
  if (typeof channel !== 'string') return;
  if (channel.startsWith('readonly.')) {
    return failure('ForbiddenError', 'Channel is read-only', { code: 'EREADONLY', channel });
  }
  if (channel.startsWith('silent.')) return true;
  if (channel.startsWith('private.')) return loggedIn(token, expired);
}

const isStamped = (channel) => typeof channel === 'string' && channel.startsWith('stamp.');
const stamped = (data, token) => ({ data, by: token ? token.username : null });

function publishOut(channel, data, token, id) {
  if (data === null || typeof data !== 'object') return;
  if (channel.startsWith('direct.') && typeof data.to === 'string' && !(token && token.username === data.to)) return true;
  if (channel.startsWith('noecho.') && data.from === id) return true;
}

const denied = (url) => /[?&]deny=1(&|$)/.test(url || '');

// What is the same for both: an answer, a promise of one, or an error that is thrown.
const actions = {
  echo: (socket, data) => data,
  'user.echo': (socket, data) => data,
  add: (socket, data) => {
    const { a, b } = data || {};
    if (Number.isFinite(a) && Number.isFinite(b)) return a + b;
    throw failure('ArgumentError', 'a and b must be numbers', { code: 'EARG', detail: { got: [typeof a, typeof b] } });
  },
  reject: (socket, data) => {
    throw failure(data.name, data.message, data.props);
  },
  rejectString: (socket, data) => {
    throw String(data);
  },
  noAck: () => new Promise(() => {}),
  late: (socket, data) => new Promise((resolve) => setTimeout(() => resolve(data.data), data.ms)),
  count: (socket) => (socket.counted = (socket.counted || 0) + 1),
  whoami: (socket) => ({
    id: socket.id, pid: process.pid, worker: 0, authState: socket.authState, authToken: socket.authToken || null,
    subscriptions: socket.subscriptions().sort(),
  }),
  sendRaw: (socket, data) => {
    socket.send(String(data));
    return true;
  },
  login: async (socket, data) => {
    const good = data && typeof data.username === 'string' && data.username && data.password === 'pw-' + data.username;
    if (!good) throw failure('LoginError', 'Invalid credentials', { code: 'ELOGIN' });
    const token = { username: data.username, role: 'user' };
    if (data.extra !== undefined) token.extra = data.extra;
    await socket.setAuthToken(token, data.expiresIn == null ? {} : { expiresIn: data.expiresIn });
    return { username: data.username };
  },
};

const env = process.env;
const options = {
  authKey: env.AUTH_KEY || 'contract-test-key',
  pingInterval: Number(env.PING_INTERVAL || 8000),
  pingTimeout: Number(env.PING_TIMEOUT || 20000),
};

function listen(http, version) {
  http.on('request', (request, response) => {
    response.statusCode = request.url === '/health' ? 200 : 404;
    response.end(request.url === '/health' ? 'ok' : '');
  });
  http.listen(Number(env.PORT || 8000), '127.0.0.1', () => {
    const said = { pid: process.pid, port: http.address().port, version };
    console.log('CONTRACT READY ' + JSON.stringify(said));
  });
}

module.exports = {
  failure, emit, subscribe, publishIn, isStamped, stamped, publishOut, denied, actions, options, listen,
};
