'use strict';
module.exports.run = require('./classic-worker');
