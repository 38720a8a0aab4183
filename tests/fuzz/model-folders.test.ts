import fc from 'fast-check';
import { expect, it } from 'vitest';
import { damagedFolders, originals, using } from './model-folders.js';

it.each([...originals.keys()])('reads and uses folder %i as it is', async (index) => {
  await expect(using(originals[index] as (typeof originals)[number])).resolves.toBe('read');
});

it('500 damaged folders are each read and used, or rejected with a PeftError', async () => {
  const outcomes = new Set<string>();
  await fc.assert(
    fc.asyncProperty(damagedFolders, async (files) => {
      outcomes.add(await using(files));
    }),
    { numRuns: 500, seed: 1, endOnFailure: true },
  );
  expect([...outcomes].sort()).toEqual(['read', 'refused']);
});
