'use strict';
// The application on socketcluster 4 to 14: a master with one worker and one broker.
var rules = require('./rules');
var socketcluster = require('socketcluster');
var SocketCluster = socketcluster.SocketCluster || socketcluster;

// Until 10 controllers are functions, from then on they are classes.
var classes = true;
try { require.resolve('socketcluster/scworker'); } catch (e) { classes = false; }
var suffix = classes ? '-class.js' : '.js';

var options = {
  workers: 1,
  brokers: 1,
  port: rules.port,
  host: rules.host,
  logLevel: 1,
  wsEngine: 'ws',
  workerController: __dirname + '/worker' + suffix,
  brokerController: __dirname + '/broker' + suffix,
  crashWorkerOnError: true,
  rebootWorkerOnCrash: false,
  killMasterOnSignal: false
};
Object.keys(rules.options).forEach(function (key) { options[key] = rules.options[key]; });
new SocketCluster(options).on('fail', function (e) { console.error(e); });
