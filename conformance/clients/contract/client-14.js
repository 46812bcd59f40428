'use strict';
// The client of CONTRACT.md on the client of SocketCluster 14. To be run where it is installed.
const { createRequire } = require('module');
const path = require('path');
const { create } = createRequire(path.join(process.cwd(), 'x.js'))('socketcluster-client');

const socket = create({
  hostname: '127.0.0.1', port: Number(process.env.PORT),
  autoReconnectOptions: { initialDelay: 20, randomness: 10, multiplier: 1, maxDelay: 50 },
});
const told = {
  emit: ({ event, data }) => socket.emit(event, data),
  call: ({ event, data }) => socket.emit(event, data, (error, answer) => {
    const failed = error && { name: error.name, message: error.message || error };
    socket.emit('done', failed ? { error: failed } : { data: answer });
  }),
  subscribe: ({ channel }) => socket.subscribe(channel).watch((data) => socket.emit('got', { channel, data })),
  disconnect: () => socket.disconnect(),
};
socket.on('do', (order) => told[order.op](order));
socket.on('question', (data, respond) => respond(null, data));
socket.on('error', () => {});
// The suite ends it.
setInterval(() => {}, 1000);
