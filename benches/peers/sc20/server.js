// socketcluster-server 20: one process, no broker. Usage: node server.js PORT
'use strict';
const http = require('http');
const socketClusterServer = require('socketcluster-server');

const httpServer = http.createServer();
const server = socketClusterServer.attach(httpServer, { authKey: 'a key for benchmarks', socketChannelLimit: 10000 });

async function serve(socket) {
  for await (const request of socket.procedure('echo')) request.end(request.data);
}

(async () => {
  for await (const { socket } of server.listener('connection')) serve(socket);
})();

httpServer.listen(Number(process.argv[2]), '127.0.0.1');
