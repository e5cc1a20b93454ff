// Writes tfjs_ops.json: every TensorFlow operation that TF.js' graph executor maps, with its category.
// Run after an update of TF.js:  node list_ops.mjs NODE_MODULES > tfjs_ops.json
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(process.argv[2] ?? 'node_modules', '@tensorflow/tfjs-converter');
const operations = join(root, 'dist/operations');

// The mapper's own imports are the truth: op_list holds files that it does not read.
const mapper = readFileSync(join(operations, 'operation_mapper.js'), 'utf8');
const categories = [...mapper.matchAll(/from '\.\/op_list\/(\w+)'/g)].map(match => match[1]);

const found = {};
for (const category of categories) {
  const text = readFileSync(join(operations, 'op_list', `${category}.js`), 'utf8');
  const { json } = await import(
    'data:text/javascript;base64,' + Buffer.from(text).toString('base64'));
  // An operation that is mapped but has no case in its executor throws when it runs.
  const executor = readFileSync(
    join(operations, 'executors', `${json[0].category}_executor.js`), 'utf8');
  for (const { tfOpName, category: name } of json) {
    if (name === 'graph' || executor.includes(`case '${tfOpName}'`)) found[tfOpName] = name;
  }
}
const version = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version;
const ops = Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
console.log(JSON.stringify({ tfjs: version, ops }, null, 1));
