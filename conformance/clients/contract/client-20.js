'use strict';
// The client of CONTRACT.md on the client of SocketCluster 20. To be run where it is installed.
const { createRequire } = require('module');
const path = require('path');
const { create } = createRequire(path.join(process.cwd(), 'x.js'))('socketcluster-client');

const socket = create({
  hostname: '127.0.0.1', port: Number(process.env.PORT),
  autoReconnectOptions: { initialDelay: 20, randomness: 10, multiplier: 1, maxDelay: 50 },
});
async function each(stream, f) {
  for await (const item of stream) f(item);
}
const told = {
  emit: ({ event, data }) => socket.transmit(event, data),
  call: ({ event, data }) => socket.invoke(event, data).then(
    (answer) => socket.transmit('done', { data: answer }),
    (error) => socket.transmit('done', { error: { name: error.name, message: error.message || error } })),
  subscribe: ({ channel }) => each(socket.subscribe(channel), (data) => socket.transmit('got', { channel, data })),
  disconnect: () => socket.disconnect(),
};
each(socket.receiver('do'), (order) => told[order.op](order));
each(socket.procedure('question'), (request) => request.end(request.data));
each(socket.listener('error'), () => {});
// The suite ends it.
setInterval(() => {}, 1000);
