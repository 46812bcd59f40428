'use strict';

module.exports.run = (worker) => {
  worker.scServer.on('connection', (socket) => {
    socket.on('echo', (data, respond) => respond(null, data));
  });
};
