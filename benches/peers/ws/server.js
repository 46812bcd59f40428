// npm ws alone, with as much of SocketCluster's protocol as the load generator needs, found by substring: what a server on ws could
// reach at best. One prebuilt frame per publish. Usage: node server.js PORT
'use strict';
const { WebSocketServer, Sender } = require('ws');

const server = new WebSocketServer({ port: Number(process.argv[2]), host: '127.0.0.1', perMessageDeflate: false });
const channels = new Map();

function frame(text) {
  const options = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true };
  return Buffer.concat(Sender.frame(Buffer.from(text), options));
}

function channelOf(text, at) {
  return text.slice(at, text.indexOf('"', at));
}

const SUBSCRIBE = '{"event":"#subscribe","data":{"channel":"';
const PUBLISH = '{"event":"#publish","data":{"channel":"';
const ECHO = '{"event":"echo","data":';

server.on('connection', (client) => {
  const socket = client._socket;
  const own = new Set();
  client.on('message', (data) => {
    const text = data.toString();
    if (text.length < 20) return;
    const tail = text.lastIndexOf(',"cid":');
    const cid = text.slice(tail + 7, -1);
    if (text.startsWith(ECHO)) {
      socket.write(frame(`{"rid":${cid},"data":${text.slice(ECHO.length, tail)}}`));
      return;
    }
    if (text.startsWith(SUBSCRIBE)) {
      const name = channelOf(text, SUBSCRIBE.length);
      if (!channels.has(name)) channels.set(name, new Set());
      channels.get(name).add(socket);
      own.add(name);
    } else if (text.startsWith('{"event":"#unsubscribe"')) {
      const name = JSON.parse(text).data;
      channels.get(name)?.delete(socket);
      own.delete(name);
    }
    socket.write(frame(`{"rid":${cid}}`));
    if (text.startsWith(PUBLISH)) {
      const bytes = frame(text.slice(0, tail) + '}');
      for (const other of channels.get(channelOf(text, PUBLISH.length)) ?? []) other.write(bytes);
    }
  });
  client.on('close', () => {
    for (const name of own) channels.get(name)?.delete(socket);
  });
  client.on('error', () => {});
});
