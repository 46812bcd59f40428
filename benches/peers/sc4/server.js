// SocketCluster 4.3.2: one worker, one broker. Usage: node server.js PORT
'use strict';
const { SocketCluster } = require('socketcluster');

new SocketCluster({
  workers: 1,
  brokers: 1,
  port: Number(process.argv[2]),
  host: '127.0.0.1',
  appName: 'peer' + process.pid,
  wsEngine: 'ws',
  authKey: 'a key for benchmarks',
  workerController: __dirname + '/worker.js',
  brokerController: __dirname + '/broker.js',
  socketChannelLimit: 10000,
  logLevel: 1
});
