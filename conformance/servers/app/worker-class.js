'use strict';
class Worker extends require('socketcluster/scworker') {
  run() { require('./classic-worker')(this); }
}
new Worker();
