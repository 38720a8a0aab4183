import { expect, it } from 'vitest';
import { exercise } from './exercise.js';
import { expectRight } from './expected.js';

it("a third party's package adds an optimizer, a loss, a schedule, a kernel, a network, a model folder and a table format", async () => {
  expectRight(await exercise());
  expect.hasAssertions();
});
