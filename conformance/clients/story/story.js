'use strict';
// What every client does with one running contract server, whatever its age: node story.js, with the client's package in
// the working folder's node_modules. Environment: PORT, NAME (of this client), NAMES (of all that run, comma separated),
// HOLD_MS (for how long a silent connection has to stay). A line for each chapter; exit code 0 if all went well.

const assert = require('assert');
const path = require('path');
const { createRequire } = require('module');
const { Queue, PATIENCE } = require('./queue');

const here = createRequire(path.join(process.cwd(), 'story.js'));
const lib = here('socketcluster-client');
const version = here('socketcluster-client/package.json').version;
const major = Number(version.split('.')[0]);
const { Client } = require(major >= 15 ? './stream' : './classic');
const { PORT, NAME } = process.env;
const NAMES = process.env.NAMES.split(',');
const HOLD_MS = Number(process.env.HOLD_MS);

const clients = [];

function open(options) {
  const client = new Client(lib, Object.assign({
    hostname: '127.0.0.1',
    port: Number(PORT),
    multiplex: false,
    ackTimeout: PATIENCE,
    autoReconnectOptions: { initialDelay: 100, randomness: 100, maxDelay: 200 },
  }, options));
  client.welcomes = new Queue('welcomes');
  client.on('welcome', (data) => client.welcomes.push(data));
  clients.push(client);
  return client;
}

async function connected(options) {
  const client = open(options);
  client.status = (await client.events.kind('connect')).status;
  client.welcome = await client.welcomes.next('welcome');
  return client;
}

/** A connection to another worker than `client`'s. */
async function elsewhere(client) {
  for (let tries = 0; tries < 50; tries += 1) {
    const other = await connected();
    if (other.welcome.worker !== client.welcome.worker) return other;
    other.disconnect();
  }
  throw new Error('all connections went to one worker');
}

async function fails(promise, expected) {
  let error;
  try {
    await promise;
  } catch (caught) {
    error = caught;
  }
  assert.ok(error !== undefined, `no error, but ${JSON.stringify(expected)} was expected`);
  for (const key of Object.keys(expected)) assert.deepStrictEqual(error[key], expected[key], `${key} of ${error}`);
  return error;
}

const chapters = {
  async 'connect and welcome'(a) {
    assert.strictEqual(a.status.id, a.id);
    assert.strictEqual(a.status.isAuthenticated, false);
    assert.strictEqual(a.welcome.id, a.id);
    assert.strictEqual(a.welcome.authenticated, false);
    assert.ok(a.welcome.pid > 0);
    const { clients, pid } = await a.call('stats');
    assert.ok(clients >= 1 && pid === a.welcome.pid);
  },

  async 'a refused upgrade'() {
    const refused = open({ query: { deny: '1' }, autoReconnect: false });
    const event = await refused.events.kind('abort');
    assert.strictEqual(event.code, 1006);
    const allowed = await connected({ query: { deny: '0' } });
    allowed.disconnect();
  },

  async 'values there and back'(a) {
    const long = 'ü€𝄞 '.repeat(20000);
    for (const value of [null, true, 0, -1.5, '', 'text "\\\n\u0007', [], [[1], { a: null }], { b: { c: [] } }, long]) {
      assert.deepStrictEqual(await a.call('echo', value), value);
    }
    assert.ok((await a.call('echo')) == null);
    assert.strictEqual(await a.call('add', { a: 2, b: 40 }), 42);
    assert.strictEqual(await a.call('add', { a: 0.5, b: 0.25 }), 0.75);
  },

  async 'errors with their properties'(a) {
    const got = ['number', 'string'];
    await fails(a.call('add', { a: 1, b: 'x' }), {
      name: 'ArgumentError', message: 'a and b must be numbers', code: 'EARG', detail: { got },
    });
    const props = { code: 7, list: [1, { x: null }], flag: false };
    await fails(a.call('reject', { name: 'OwnError', message: 'own', props }), Object.assign({ name: 'OwnError', message: 'own' }, props));
    const error = await fails(a.call('rejectString', 'just text'), {});
    assert.strictEqual(typeof error === 'string' ? error : error.message, 'just text');
  },

  async 'events without ack, in order'(a) {
    for (let n = 0; n < 20; n += 1) a.send('count');
    assert.strictEqual(await a.call('count'), 21);
    const pushed = new Queue('pushed');
    a.on('pushed', (data) => pushed.push(data));
    assert.strictEqual(await a.call('push', { event: 'pushed', data: 'x', count: 100 }), 100);
    for (let seq = 1; seq <= 100; seq += 1) assert.deepStrictEqual(await pushed.next('pushed'), { seq, data: 'x' });
    await a.call('push', { event: 'pushed', data: { one: 1 } });
    assert.deepStrictEqual(await pushed.next('pushed'), { one: 1 });
  },

  async 'answers that come late, or never'(a) {
    const order = [];
    const late = a.call('late', { ms: 300, data: 'late' }).then((data) => order.push(data));
    order.push(await a.call('echo', 'soon'));
    await late;
    assert.deepStrictEqual(order, ['soon', 'late']);
    const impatient = await connected({ ackTimeout: 400 });
    const error = await fails(impatient.call('noAck', 1), {});
    if (major > 3) assert.strictEqual(error.name, 'TimeoutError');
    // It stays: 8.0 trips over its own bookkeeping when it disconnects after a timeout.
  },

  async 'the server asks'(a) {
    a.on('question', (data, respond) => {
      if (data.bad) respond(Object.assign(new Error('no answer'), { name: 'RefusedError' }));
      else respond(null, { n: data.n + 1 });
    });
    assert.deepStrictEqual(await a.call('ask', { event: 'question', data: { n: 1 } }), { ok: true, reply: { n: 2 } });
    const refused = await a.call('ask', { event: 'question', data: { bad: true } });
    assert.strictEqual(refused.ok, false);
    assert.strictEqual(refused.error.message, 'no answer');
  },

  async 'publish and subscribe across workers'(a, b) {
    const channel = `room.${NAME}`, own = new Queue('own'), others = new Queue('others');
    await a.subscribe(channel, undefined, (data) => own.push(data));
    await b.subscribe(channel, undefined, (data) => others.push(data));
    const send = async (client, from) => {
      for (let n = 0; n < 50; n += 1) await client.publish(channel, { from, n });
    };
    await Promise.all([send(a, 'a'), send(b, 'b')]);
    const seen = [];
    for (let count = 0; count < 100; count += 1) {
      seen.push(await own.next('a message'));
      assert.deepStrictEqual(await others.next('a message'), seen[count], 'all subscribers see one order');
    }
    for (const from of ['a', 'b']) {
      const numbers = seen.filter((data) => data.from === from).map(({ n }) => n);
      assert.deepStrictEqual(numbers, Array.from({ length: 50 }, (_, n) => n));
    }
    assert.strictEqual(await a.call('serverPublish', { channel, data: 'from the server' }), true);
    assert.strictEqual(await own.next('the message'), 'from the server');
    assert.strictEqual(await others.next('the message'), 'from the server');
    assert.deepStrictEqual((await a.call('whoami')).subscriptions, [channel]);

    a.unsubscribe(channel);
    await a.call('echo', 'the server has it');
    await b.publish(channel, 'not for a');
    assert.strictEqual(await others.next('the message'), 'not for a');
    await a.call('echo', 'whatever was sent has come');
    assert.deepStrictEqual(own.items, []);
    b.unsubscribe(channel);
  },

  async 'middleware blocks and changes'(a, b) {
    await fails(a.call('blocked.x', 1), { name: 'ForbiddenError', message: 'Event is blocked', code: 'EBLOCKED', event: 'blocked.x' });
    await fails(a.call('silent.x', 1), { name: 'SilentMiddlewareBlockedError' });
    await fails(a.call('user.x', 1), { name: 'AuthRequiredError', message: 'Login first' });
    const forbidden = `forbidden.${NAME}`;
    await fails(a.subscribe(forbidden), { name: 'ForbiddenError', code: 'ECHANNEL', channel: forbidden });
    await fails(a.subscribe(`silent.${NAME}`), { name: 'SilentMiddlewareBlockedError' });
    await fails(a.subscribe(`private.${NAME}`), { name: 'AuthRequiredError' });
    // Options of a subscription came with client 4.2.
    if (major > 3) {
      await fails(a.subscribe(`member.no.${NAME}`, { data: { pass: 'shut' } }), { code: 'EPASS' });
      await a.subscribe(`member.${NAME}`, { data: { pass: 'open' } });
      assert.ok(a.isSubscribed(`member.${NAME}`));
    }
    const heard = new Queue('heard');
    await a.subscribe(`slow.${NAME}`, undefined, (data) => heard.push(data));
    await b.publish(`slow.${NAME}`, 'heard');
    assert.strictEqual(await heard.next('the message'), 'heard');
    await fails(a.publish(`readonly.${NAME}`, 1), { name: 'ForbiddenError', code: 'EREADONLY' });
    await fails(a.publish(`silent.${NAME}`, 1), { name: 'SilentMiddlewareBlockedError' });
    const stamped = new Queue('stamped');
    await a.subscribe(`stamp.${NAME}`, undefined, (data) => stamped.push(data));
    await b.publish(`stamp.${NAME}`, [1]);
    assert.deepStrictEqual(await stamped.next('the message'), { data: [1], by: null });
    await a.subscribe(`noecho.${NAME}`, undefined, (data) => stamped.push(data));
    await a.publish(`noecho.${NAME}`, { from: a.id, n: 1 });
    await a.publish(`noecho.${NAME}`, { from: b.id, n: 2 });
    assert.deepStrictEqual(await stamped.next('the message'), { from: b.id, n: 2 });
  },

  async 'login, and what it opens'(a, b) {
    await fails(a.call('login', { username: NAME, password: 'wrong' }), { name: 'LoginError', code: 'ELOGIN' });
    const login = { username: NAME, password: `pw-${NAME}`, extra: { level: 3 } };
    const signed = a.events.kind('authenticate');
    assert.deepStrictEqual(await a.call('login', login), { username: NAME });
    a.token = (await signed).token;
    assert.strictEqual(a.token.split('.').length, 3);
    const { authState, authToken } = await a.call('whoami');
    assert.strictEqual(authState, 'authenticated');
    assert.deepStrictEqual([authToken.username, authToken.role, authToken.extra], [NAME, 'user', { level: 3 }]);
    assert.ok(authToken.exp > authToken.iat);
    assert.strictEqual(await a.call('user.echo', 'in'), 'in');
    const heard = new Queue('heard');
    await a.subscribe(`private.${NAME}`, undefined, (data) => heard.push(data));
    await fails(b.publish(`private.${NAME}`, 1), { name: 'AuthRequiredError' });
    await a.publish(`private.${NAME}`, 2);
    assert.strictEqual(await heard.next('the message'), 2);
    const direct = new Queue('direct');
    await a.subscribe(`direct.${NAME}`, undefined, (data) => direct.push(data));
    await b.publish(`direct.${NAME}`, { to: 'somebody else' });
    await b.publish(`direct.${NAME}`, { to: NAME });
    assert.deepStrictEqual(await direct.next('the message'), { to: NAME });
  },

  async 'a reconnect keeps token and subscriptions'(a, b) {
    const heard = new Queue('heard');
    await a.subscribe(`lasting.${NAME}`, undefined, (data) => heard.push(data));
    const before = a.id;
    a.disconnect();
    await a.events.kind('disconnect');
    a.connect();
    const { status } = await a.events.kind('connect');
    a.welcome = await a.welcomes.next('welcome');
    assert.notStrictEqual(a.id, before);
    assert.strictEqual(status.isAuthenticated, true);
    assert.strictEqual(a.welcome.authenticated, true);
    await a.subscribe(`lasting.${NAME}`, undefined, (data) => heard.push(data));
    await b.publish(`lasting.${NAME}`, 'again');
    assert.strictEqual(await heard.next('the message'), 'again');
    assert.strictEqual((await a.call('whoami')).authToken.username, NAME);
  },

  async 'a token on another connection, and a bad one'(a, b) {
    await b.authenticate(a.token);
    assert.strictEqual((await b.call('whoami')).authToken.username, NAME);
    const error = await b.authenticate(`${a.token}x`).then((status) => status.authError, (caught) => caught);
    assert.ok(error);
    if (major > 3) assert.strictEqual(error.name, 'AuthTokenInvalidError');
    assert.strictEqual((await b.call('whoami')).authState, 'unauthenticated');
  },

  async 'logout by the server and by the client'(a) {
    assert.strictEqual(await a.call('logout'), true);
    await a.events.kind('deauthenticate');
    assert.strictEqual((await a.call('whoami')).authToken, null);
    await fails(a.call('user.echo', 1), { name: 'AuthRequiredError' });
    if (!a.canLogOut) return;
    await a.call('login', { username: NAME, password: `pw-${NAME}` });
    assert.strictEqual((await a.call('whoami')).authState, 'authenticated');
    await a.logOut();
    assert.strictEqual((await a.call('whoami')).authState, 'unauthenticated');
  },

  async 'a token expires'() {
    const c = await connected();
    await c.call('login', { username: NAME, password: `pw-${NAME}`, expiresIn: 1 });
    assert.strictEqual(await c.call('user.echo', 1), 1);
    await c.events.kind('deauthenticate');
    await fails(c.call('user.echo', 1), {});
    assert.strictEqual((await c.call('whoami')).authState, 'unauthenticated');
    c.disconnect();
  },

  async 'kicked out of a channel'(a, b) {
    const channel = `kicked.${NAME}`, heard = new Queue('heard');
    await a.subscribe(channel, undefined, (data) => heard.push(data));
    assert.strictEqual(await a.call('kick', { channel, message: 'out' }), true);
    const event = await a.events.kind('kickOut');
    assert.deepStrictEqual([event.channel, event.message], [channel, 'out']);
    assert.ok(!a.isSubscribed(channel));
    await b.publish(channel, 1);
    await a.call('echo', 'whatever was sent has come');
    assert.deepStrictEqual(heard.items, []);
  },

  async 'raw messages'(a) {
    const received = new Queue('received');
    a.on('rawReceived', (data) => received.push(data));
    a.sendRaw('no packet');
    assert.deepStrictEqual(await received.next('rawReceived'), { message: 'no packet' });
    assert.strictEqual(await a.call('sendRaw', 'nor this'), true);
    const { message } = await a.events.next('raw', (event) => event.kind === 'raw' && event.message === 'nor this');
    assert.strictEqual(message, 'nor this');
  },

  async 'closed and dropped by the server'() {
    const c = await connected();
    c.call('closeMe', { code: 4100, reason: 'enough' }).catch(() => {});
    const closed = await c.events.kind('disconnect');
    assert.strictEqual(closed.code, 4100);
    await c.events.kind('connect');
    c.send('terminate');
    const dropped = await c.events.kind('disconnect');
    assert.strictEqual(dropped.code, 1006);
    await c.events.kind('connect');
    c.disconnect(4200, 'bye');
    assert.strictEqual((await c.events.kind('disconnect')).code, 4200);
    c.disconnect();
  },

  // Each says its name whenever it hears a new one, so that in the end all have heard all.
  async 'every other client is heard'(a) {
    const waiting = new Set(NAMES), heard = new Queue('heard');
    await a.subscribe('hello', undefined, (name) => heard.push(name));
    await a.publish('hello', NAME);
    while (waiting.size > 0) {
      const name = await heard.next([...waiting].join(', '), (name) => waiting.has(name));
      waiting.delete(name);
      await a.publish('hello', NAME);
    }
  },
};

async function main() {
  const began = Date.now();
  const silent = await connected();
  const a = await connected();
  const b = await elsewhere(a);
  for (const [name, chapter] of Object.entries(chapters)) {
    await chapter(a, b).catch((error) => {
      error.message = `${name}: ${error.message}`;
      throw error;
    });
    console.log(`${String(Date.now() - began).padStart(6)} ms  ${name}`);
  }
  // A wrong ping, or none, shows only after a while.
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, HOLD_MS - (Date.now() - began))));
  const { id } = silent.status;
  assert.strictEqual(silent.id, id);
  assert.strictEqual((await silent.call('whoami')).id, id, 'a silent connection stays');
  assert.deepStrictEqual(silent.events.items.filter(({ kind }) => kind !== 'raw'), []);
  assert.deepStrictEqual(silent.errors, []);
  console.log(`${String(Date.now() - began).padStart(6)} ms  ${HOLD_MS} ms of silence`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(`${NAME} (${version}): ${error && error.stack ? error.stack : JSON.stringify(error)}`);
    for (const client of clients) if (client.errors.length) console.error('errors:', client.errors.map(String));
    process.exit(1);
  },
);
process.on('unhandledRejection', (error) => {
  console.error('unhandled:', error);
  process.exit(1);
});
