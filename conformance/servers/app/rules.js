'use strict';
// What the application of the contract decides, for every generation of servers: options from the environment, and the
// rules of its middleware. A rule answers undefined (pass), true (block silently), or an error (block with it).
var env = process.env;

function number(name, otherwise) {
  return env[name] ? Number(env[name]) : otherwise;
}

function error(name, message, props) {
  var e = new Error(message);
  e.name = name;
  e.message = message;
  Object.keys(props || {}).forEach(function (key) { e[key] = props[key]; });
  return e;
}

function starts(text, start) {
  return typeof text === 'string' && text.indexOf(start) === 0;
}

function needsAuth(token, expired) {
  return token ? undefined : (expired || error('AuthRequiredError', 'Login first'));
}

module.exports = {
  error: error,
  port: number('PORT', 0),
  host: '127.0.0.1',
  options: {
    path: '/socketcluster/',
    authKey: 'contract-test-key',
    authDefaultExpiry: 86400,
    pingInterval: number('PING_INTERVAL', 8000),
    pingTimeout: number('PING_TIMEOUT', 20000),
    origins: '*:*',
    perMessageDeflate: true
  },
  denied: function (url) { return /[?&]deny=1(&|$)/.test(url || ''); },
  emit: function (name, token, expired) {
    if (starts(name, 'blocked.')) return error('ForbiddenError', 'Event is blocked', { code: 'EBLOCKED', event: name });
    if (starts(name, 'silent.')) return true;
    if (starts(name, 'user.')) return needsAuth(token, expired);
  },
  subscribe: function (channel, data, token, expired) {
    if (starts(channel, 'forbidden.')) {
      return error('ForbiddenError', 'Channel is forbidden', { code: 'ECHANNEL', channel: channel });
    }
    if (starts(channel, 'private.')) return needsAuth(token, expired);
    if (starts(channel, 'member.') && !(data && data.pass === 'open')) {
      return error('ForbiddenError', 'Bad pass', { code: 'EPASS' });
    }
  },
  publish: function (channel, token, expired) {
    if (starts(channel, 'readonly.')) {
      return error('ForbiddenError', 'Channel is read-only', { code: 'EREADONLY', channel: channel });
    }
    if (starts(channel, 'private.')) return needsAuth(token, expired);
  },
  add: function (data) {
    var a = data == null ? undefined : data.a, b = data == null ? undefined : data.b;
    if (typeof a === 'number' && typeof b === 'number') return a + b;
    throw error('ArgumentError', 'a and b must be numbers', { code: 'EARG', detail: { got: [typeof a, typeof b] } });
  },
  mayLogin: function (data) {
    return !!data && typeof data.username === 'string' && data.username !== '' && data.password === 'pw-' + data.username;
  },
  loginError: function () { return error('LoginError', 'Invalid credentials', { code: 'ELOGIN' }); },
  ready: function (port) { console.log('CONTRACT READY ' + JSON.stringify({ pid: process.pid, port: port })); }
};
