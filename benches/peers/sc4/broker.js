'use strict';

module.exports.run = () => {};
