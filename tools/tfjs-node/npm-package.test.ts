import { expect, it } from 'vitest';
import { checkIntegrity } from './npm-package.js';

const known = 'sha512-uHrXeUlfgkMxTZqHkESSV7zSdKdV0LlsBeblqkuKU9nnfxB1pC6DtoyYVaLxznzZy7WQSegjcohxxCjAf6Dc7w==';
const lockfile = (entry: object) => JSON.stringify({ packages: { 'node_modules/@tensorflow/tfjs-node': entry } });

it('accepts only the known archive of a package', () => {
  const check = (entry: object) => () => checkIntegrity(lockfile(entry), 'tfjs-node');
  expect(check({ version: '4.22.0', integrity: known })).not.toThrow();
  expect(check({ version: '4.22.0', integrity: 'sha512-other' })).toThrow(`expected ${known}, got sha512-other`);
  expect(check({ version: '4.22.0' })).toThrow(/got none$/);
  expect(check({ version: '4.21.0', integrity: known })).toThrow(/tfjs-node 4\.21\.0 is installed; expected 4\.22\.0/);
  expect(() => checkIntegrity(lockfile({}), 'tfjs-node-gpu')).toThrow(/tfjs-node-gpu without a version/);
});
