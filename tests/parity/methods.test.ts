import { expect, it } from 'vitest';
import { oneOfEachFamily, parityMethods } from './methods.js';
import { testParity } from './parity.js';
import { methodSubject } from './subjects.js';

await testParity(({ cases }) => (cases === 'all' ? parityMethods : oneOfEachFamily).map(methodSubject));

it('has a case for every method that a package of the workspace offers', async () => {
  const { offeredMethods } = await import('../../packages/bench/src/registry/methods.js');
  const offered = (await offeredMethods()).map(({ name }) => name);
  expect(parityMethods.map(({ configured }) => configured.method.name)).toEqual(expect.arrayContaining(offered));
});
