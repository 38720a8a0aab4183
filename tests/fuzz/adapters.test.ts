import { onWarning } from '@peftjs/core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { damagedFiles, originals, reading } from './adapters.js';

beforeAll(() => onWarning(() => undefined));

it.each([...originals.keys()])('reads adapter %i as it was saved', async (index) => {
  await expect(reading(originals[index] as (typeof originals)[number])).resolves.toBe('read');
});

describe('500 damaged copies are each read or rejected with a PeftError', () => {
  it.each(['config', 'weights'] as const)('%s', async (damaged) => {
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(damagedFiles(damaged), async (files) => {
        outcomes.add(await reading(files));
      }),
      { numRuns: 500, seed: 1, endOnFailure: true },
    );
    expect([...outcomes].sort()).toEqual(['read', 'refused']);
  });
});
