const { readdirSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

// The layers, lowest first. A package that declares methods is one of the methods, which stand between `core` and `models`.
const below = ['safetensors', 'gguf', 'core', 'conformance'];
const above = ['models', 'onnx', 'layers', 'tasks', 'engine', 'pipelines', 'cli', 'bench', 'peftjs', 'create-peftjs'];

const packages = join(__dirname, 'packages');
const declaresMethods = (name) =>
  JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')).peft?.methods !== undefined;
const others = readdirSync(packages).filter((name) => ![...below, ...above].includes(name));
const lost = others.filter((name) => !declaresMethods(name));
if (lost.length > 0) {
  throw new Error(
    `packages/${lost[0]} has no layer: name it in .dependency-cruiser.cjs, or declare its methods as "peft"`,
  );
}
const method = `(?:${others.join('|')})`;
const order = [...below, method, ...above];

// The tests of core use the conformance package, which is built on core.
const allowed = { core: '[.]test[.]ts$' };

const upwards = order.slice(0, -1).map((layer, index) => ({
  name: layer === method ? 'methods-import-downwards' : `${layer}-imports-downwards`,
  comment:
    'A layer imports only from the layers below it: see docs/contributing/architecture.md. The program of a README, which a test runs, may use all of them.',
  severity: 'error',
  from: { path: `^packages/${layer}/`, pathNot: allowed[layer] ?? '/test/readme[.]test[.]ts$' },
  to: { path: `^packages/(?:${order.slice(index + 1).join('|')})/` },
}));

// The folders of the command line along the path of the data, the first one knowing none of the others.
const paths = {
  cli: ['registry', 'results', 'study', 'run', 'commands'],
  bench: ['report', 'run', 'commands'],
};

const alongTheData = Object.entries(paths).flatMap(([name, path]) =>
  path.slice(0, -1).map((folder, index) => ({
    name: `${name}-${folder}-follows-the-data`,
    comment: 'What is asked, how it is computed, what came out, what it means: none knows what comes after it.',
    severity: 'error',
    from: { path: `^packages/${name}/src/${folder}/`, pathNot: '[.]test[.]ts$' },
    to: { path: `^packages/${name}/src/(?:${path.slice(index + 1).join('|')})/` },
  })),
);

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...upwards,
    ...alongTheData,
    {
      name: 'methods-stand-alone',
      comment:
        'Methods never import one another, and no source names a method but the package of all: the command line finds them at run time.',
      severity: 'error',
      from: { path: '^packages/([^/]+)/src/', pathNot: '[.]test[.]ts$|^packages/peftjs/' },
      to: { path: `^packages/${method}/`, pathNot: '^packages/$1/' },
    },
    {
      name: 'conformance-is-for-tests',
      comment: 'It needs vitest.',
      severity: 'error',
      from: { path: '^packages/(?!conformance/)', pathNot: '[.]test[.]ts$|/test/' },
      to: { path: '^packages/conformance/' },
    },
    {
      name: 'peftjs-runs-no-command',
      comment:
        'What a page imports has nothing of the command line: bin/ alone starts it, and programs for a terminal get its progress line by an entry of their own.',
      severity: 'error',
      from: { path: '^packages/peftjs/src/', pathNot: '/progress[.]ts$' },
      to: { path: '^packages/(?:bench|cli)/' },
    },
    {
      name: 'tasks-know-no-model',
      comment: 'Data sets work with any model: what both need lives in core.',
      severity: 'error',
      from: { path: '^packages/tasks/' },
      to: { path: '^packages/models/' },
    },
    {
      name: 'packages-stand-without-the-repository',
      comment:
        'What is published imports nothing that is not: tests, docs, tools and examples look at it from outside.',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(?:tests|docs|tools|examples)/' },
    },
    {
      name: 'no-cycles',
      comment: 'Files never go round in a circle, types included.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment:
        'The import leads nowhere. TensorFlow.js on native code is an optional peer; transformers.js is an example reader’s.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true, pathNot: '^(?:@tensorflow/tfjs-node(?:-gpu)?|@huggingface/transformers)$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(?:^|/)dist/|^packages/create-peftjs/templates/' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['@peftjs/source', 'import', 'node', 'default', 'types'],
      extensions: ['.ts', '.js', '.cjs', '.mjs', '.json', '.d.ts'],
    },
  },
};
