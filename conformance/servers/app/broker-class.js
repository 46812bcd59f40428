'use strict';
class Broker extends require('socketcluster/scbroker') {
  run() {}
}
new Broker();
