'use strict';
// One side of a conversation between two generations of clients on two workers: node conversation.js, with the client's
// package in the working folder's node_modules. Environment: PORT, NAME, OTHER, WORKER (whose connection to take),
// FOR_MS. Prints `{"order": …, "mine": …, "others": …}`: a digest of everything in the order it came, and the counts.

const assert = require('assert');
const crypto = require('crypto');
const path = require('path');
const { createRequire } = require('module');
const { Queue } = require('./queue');

const here = createRequire(path.join(process.cwd(), 'story.js'));
const lib = here('socketcluster-client');
const major = Number(here('socketcluster-client/package.json').version.split('.')[0]);
const { Client } = require(major >= 15 ? './stream' : './classic');
const { PORT, NAME, OTHER, WORKER, FOR_MS } = process.env;
const CHANNEL = 'conversation';

async function connectTo(worker) {
  for (;;) {
    const client = new Client(lib, { hostname: '127.0.0.1', port: Number(PORT), multiplex: false, autoReconnect: false });
    const welcomes = new Queue('welcomes');
    client.on('welcome', (data) => welcomes.push(data));
    const welcome = await welcomes.next('welcome');
    if (String(welcome.worker) === worker) return client;
    client.disconnect();
  }
}

async function main() {
  const client = await connectTo(WORKER);
  const order = crypto.createHash('sha256');
  const next = { [NAME]: 0, [OTHER]: 0 }, said = new Queue('said'), ended = new Set();
  await client.subscribe(CHANNEL, undefined, ({ from, n, end }) => {
    if (n === 'here') return said.push(from);
    assert.strictEqual(n, next[from], `from ${from}, at ${NAME}`);
    next[from] += 1;
    order.update(`${from} ${n}\n`);
    if (end) ended.add(from);
    if (ended.size === 2) said.push('end');
  });
  // Both are there before either begins.
  const there = said.next('the other', (from) => from === OTHER);
  await client.publish(CHANNEL, { from: NAME, n: 'here' });
  await there;
  await client.publish(CHANNEL, { from: NAME, n: 'here' });

  const until = Date.now() + Number(FOR_MS);
  let mine = 0;
  for (let going = true; going; mine += 1) {
    going = Date.now() < until;
    const acked = client.publish(CHANNEL, { from: NAME, n: mine, end: !going });
    // Mostly several are under way, now and then one waits for its ack.
    if (mine % 4 === 0 || !going) await acked;
    if (mine % 32 === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await said.next('the end', (what) => what === 'end');
  assert.deepStrictEqual(client.errors.map(String), []);
  assert.strictEqual(next[NAME], mine);
  console.log(JSON.stringify({ order: order.digest('hex'), mine, others: next[OTHER] }));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(NAME, error);
    process.exit(1);
  },
);
process.on('unhandledRejection', (error) => {
  console.error(NAME, 'unhandled:', error);
  process.exit(1);
});
