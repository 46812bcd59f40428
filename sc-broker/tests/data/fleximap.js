// Records what fleximap does with random operations: `node fleximap.js > fleximap.json`, with fleximap 0.9.10 installed.
// Each line is [operation, arguments, result, the whole map afterwards]; a result that is undefined is left out.
const { FlexiMap } = require('fleximap');

let seed = 20261124;
const draw = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return Math.floor(((seed >>> 8) / 0x1000000) * n);
};
const pick = (list) => list[draw(list.length)];
const NAMES = ['a', 'b', 'list', '0', '1', '2', '10', ''];
const key = () => Array.from({ length: 1 + draw(3) }, () => pick(NAMES));
const scalar = () => pick([null, true, false, 0, 1, -2.5, '', 'text', 'é"\\']);
const value = (depth = 2) => {
  const kind = depth ? draw(6) : 0;
  if (kind < 3) return scalar();
  if (kind < 5) return Array.from({ length: draw(4) }, () => value(depth - 1));
  return Object.fromEntries(Array.from({ length: draw(4) }, () => [pick(NAMES), value(depth - 1)]));
};
const edge = () => pick([0, 1, 2, 3, 5, '0', 'a', 'b', 'list']);
const maybe = (f) => (draw(3) ? f() : null);

const out = [];
for (let run = 0; run < 30; run++) {
  const map = new FlexiMap();
  out.push(['new', []]);
  for (let step = 0; step < 40; step++) {
    const op = pick(['set', 'set', 'set', 'add', 'add', 'concat', 'get', 'getRange', 'count', 'hasKey', 'remove', 'removeRange',
      'splice', 'pop']);
    let args = [key()];
    if (op === 'set' || op === 'add' || op === 'concat') args.push(value());
    if (op === 'getRange' || op === 'removeRange') args.push(edge(), maybe(edge));
    if (op === 'splice') args.push(maybe(() => draw(8) - 3), maybe(() => draw(4)), ...Array.from({ length: draw(3) }, () => value(1)));
    const kept = JSON.parse(JSON.stringify(args));
    // Left to the tests by hand: the reference writes undefined where there was nothing, and indexes into strings.
    if (op.endsWith('Range') && (typeof map.get(args[0]) !== 'object' || map.get(args[0]) === null)) continue;
    if (op === 'splice') {
      args = args.map((arg) => (arg === null ? undefined : arg));
      kept.slice(3).forEach((item, n) => { args[3 + n] = item; });
      while (args.length && args[args.length - 1] === undefined) args.pop();
    }
    const result = map[op](...args);
    const answered = ['get', 'getRange', 'count', 'hasKey', 'add', 'remove', 'removeRange', 'splice', 'pop'].includes(op);
    out.push([op, kept, answered && result !== undefined ? result : null, map.getAll()]);
  }
}
console.log('[\n' + out.map((line) => JSON.stringify(line)).join(',\n') + '\n]');
