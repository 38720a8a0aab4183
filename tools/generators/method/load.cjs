// nx loads generators by require(), which needs a helper for TypeScript on Node 20.
const { require: load } = require('tsx/cjs/api');

module.exports = load('./generator.ts', __filename).methodGenerator;
