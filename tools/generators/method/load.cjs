// nx requires its generators; on Node 20 it needs a helper to read TypeScript.
const { require: load } = require('tsx/cjs/api');

module.exports = load('./generator.ts', __filename).methodGenerator;
