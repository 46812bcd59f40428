// Reads lines of JSON; writes for each what sc-codec-min-bin makes of it, as base64, and what that says when it is read again.
// Buffers, which JSON has not, are written as SocketCluster writes them: {"base64": true, "data": …}.
const fs = require('fs');
const codec = require('module').createRequire(process.cwd() + '/')('sc-codec-min-bin');

const fromWrapper = (key, value) => {
  if (value && value.base64 === true && typeof value.data === 'string' && Object.keys(value).length === 2) {
    const bytes = Buffer.from(value.data, 'base64');
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  }
  return value;
};
const toWrapper = (key, value) =>
  value instanceof ArrayBuffer ? { base64: true, data: Buffer.from(value).toString('base64') } : value;

const lines = fs.readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean);
const out = lines.map((line) => {
  const message = Buffer.from(codec.encode(JSON.parse(line, fromWrapper)));
  // It reads the bytes it is given; what a small message shares with others is none of it.
  const read = codec.decode(new Uint8Array(message).buffer);
  return message.toString('base64') + ' ' + JSON.stringify(read, toWrapper);
});
fs.writeFileSync(process.argv[3], out.join('\n') + '\n');
