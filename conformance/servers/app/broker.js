'use strict';
module.exports.run = function () {};
