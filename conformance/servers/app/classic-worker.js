'use strict';
// A worker of socketcluster 4 to 14.
var rules = require('./rules');
var major = parseInt(require('socketcluster/package.json').version, 10);

module.exports = function (worker) {
  var http = worker.httpServer || worker.getHTTPServer();
  var server = worker.scServer || worker.getSCServer();
  http.on('listening', function () { rules.ready(http.address().port); });

  function token(socket) {
    return (socket.getAuthToken ? socket.getAuthToken() : socket.authToken) || null;
  }
  function setToken(socket, data) {
    var claims = { username: data.username };
    if (!data.expiresIn) return socket.setAuthToken(claims);
    // 5 puts its default in place of the option, and 4 in place of the claim.
    if (major !== 5) return socket.setAuthToken(claims, { expiresIn: data.expiresIn });
    claims.exp = Math.floor(Date.now() / 1000) + data.expiresIn;
    socket.setAuthToken(claims);
  }
  function middleware(type, rule) {
    server.addMiddleware(type, function (request, next) { next(rule(request)); });
  }
  middleware(server.MIDDLEWARE_HANDSHAKE_WS || server.MIDDLEWARE_HANDSHAKE, function (request) {
    // An Error here ends the worker of some versions.
    return rules.denied((request.req || request).url) ? 'denied' : undefined;
  });
  middleware(server.MIDDLEWARE_EMIT, function (r) { return rules.emit(r.event, token(r.socket), r.authTokenExpiredError); });
  middleware(server.MIDDLEWARE_SUBSCRIBE, function (r) {
    return rules.subscribe(r.channel, r.data, token(r.socket), r.authTokenExpiredError);
  });
  middleware(server.MIDDLEWARE_PUBLISH_IN, function (r) {
    return rules.publish(r.channel, token(r.socket), r.authTokenExpiredError);
  });

  server.on('connection', function (socket) {
    function on(event, handle) {
      socket.on(event, function (data, respond) { handle(data || {}, respond || function () {}, data); });
    }
    socket.emit('welcome', { id: socket.id });
    on('echo', function (_, respond, data) { respond(null, data); });
    on('user.echo', function (_, respond, data) { respond(null, data); });
    on('add', function (data, respond) {
      var sum;
      try { sum = rules.add(data); } catch (e) { return respond(e); }
      respond(null, sum);
    });
    on('reject', function (data, respond) { respond(rules.error(data.name, data.message, data.props)); });
    on('rejectString', function (_, respond, data) { respond(String(data)); });
    on('noAck', function () {});
    on('login', function (data, respond) {
      if (!rules.mayLogin(data)) return respond(rules.loginError());
      setToken(socket, data);
      respond(null, { username: data.username });
    });
    on('logout', function (_, respond) { socket.deauthenticate(); respond(null, true); });
    on('kick', function (data, respond) { socket.kickOut(data.channel, data.message); respond(null, true); });
    on('closeMe', function (data, respond) { respond(null, true); socket.disconnect(data.code, data.reason); });
    on('ask', function (data, respond) {
      socket.emit(data.event, data.data, function (e, reply) {
        respond(null, e ? { ok: false, error: { name: e.name, message: e.message } } : { ok: true, reply: reply });
      });
    });
    on('push', function (data, respond) { socket.emit(data.event, data.data); respond(null, 1); });
    on('serverPublish', function (data, respond) { server.exchange.publish(data.channel, data.data, function (e) { respond(e, true); }); });
    socket.on('raw', function (message) { socket.emit('rawReceived', { message: String(message) }); });
    socket.on('error', function () {});
  });
};
