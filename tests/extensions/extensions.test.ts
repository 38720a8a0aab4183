import { expect, it } from 'vitest';
import { exercise } from './exercise.js';
import { expectRight } from './expected.js';

it('a package of somebody else brings an optimizer, a loss, a schedule, a kernel, a network, a folder and a table', async () => {
  expectRight(await exercise());
  expect.hasAssertions();
});
