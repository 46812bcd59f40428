// A real client with sc-codec-min-bin: values there and back, a channel, and a connection that outlives its pingTimeout.
const assert = require('assert');
const require_ = require('module').createRequire(process.cwd() + '/');
const codecEngine = require_('sc-codec-min-bin');
const [version, port, holdMs] = [process.argv[2], +process.argv[3], +process.argv[4]];
const library = require_('client-' + version);
const options = { hostname: '127.0.0.1', port, codecEngine, autoReconnect: false };
const values = [{ a: [1, -1, 1.5, 'é', null, true] }, 'x'.repeat(70000), 4294967296, []];
const fail = (error) => { console.error(error); process.exit(1); };
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
setTimeout(() => fail(new Error('the story takes too long')), 60000).unref();

async function classic() {
  const socket = library.create(options);
  socket.on('error', fail);
  socket.on('disconnect', (code) => fail(new Error('disconnected with ' + code)));
  const call = (event, data) => new Promise((resolve, reject) =>
    socket.emit(event, data, (error, answer) => (error ? reject(error) : resolve(answer))));
  for (const value of values) assert.deepStrictEqual(await call('echo', value), value);
  await assert.rejects(call('refuse', 1), { name: 'MyError', message: 'no', code: 7 });
  const channel = socket.subscribe('news');
  await new Promise((resolve, reject) => { channel.on('subscribe', resolve); channel.on('subscribeFail', reject); });
  const heard = new Promise((resolve) => channel.watch(resolve));
  channel.publish({ n: 1 });
  assert.deepStrictEqual(await heard, { n: 1 });
  await wait(holdMs);
  assert.strictEqual(socket.state, 'open');
  socket.removeAllListeners('disconnect');
  socket.disconnect();
}

async function streams() {
  const socket = library.create(options);
  (async () => { for await (const { error } of socket.listener('error')) fail(error); })();
  for (const value of values) assert.deepStrictEqual(await socket.invoke('echo', value), value);
  await assert.rejects(socket.invoke('refuse', 1), { name: 'MyError', message: 'no', code: 7 });
  const channel = socket.subscribe('news');
  await channel.listener('subscribe').once();
  const heard = channel.once();
  await channel.invokePublish({ n: 1 });
  assert.deepStrictEqual(await heard, { n: 1 });
  await wait(holdMs);
  assert.strictEqual(socket.state, 'open');
  socket.disconnect();
}

(version === '14' ? classic() : streams()).then(() => process.exit(0), fail);
