import type { Executor } from '@peftjs/core';
import { describe, expect, it } from 'vitest';
import { measure, type Subject } from '../../packages/cli/src/run/parity.js';
import type { Found } from './executors.js';
import { tooFar } from './parity.js';

/** An executor that computes layers again in every backward pass. By itself, it keeps those of such small models. */
function recomputing(executor: Executor): Executor {
  return {
    ...executor,
    compile: (fn, inputs, constants) => executor.compile(fn, inputs, constants, { gradientCheckpointing: true }),
  };
}

/** The only bits that may differ are those of a GPU, which adds rows up in any order. */
const IN_ANY_ORDER = 'compiled on WebGPU';

/** Defines one test for each subject; an executor that the machine lacks is skipped by name. */
export function testRecomputed(
  { name, executor, tolerance, skipped }: Found,
  subjects: readonly Subject[],
  measured = measure,
): void {
  if (!executor) {
    it.skip(`${name}: ${skipped}`);
    return;
  }
  describe(`${name}: losses, gradients and steps are the same if layers are computed again`, () => {
    it.each(subjects.map((subject) => [subject.name, subject] as const))('%s', async (_, subject) => {
      const expected = await measured(subject, executor);
      const actual = await measure(subject, recomputing(executor));
      if (name === IN_ANY_ORDER) expect(tooFar(actual, expected, tolerance)).toEqual([]);
      else expect(actual).toEqual(expected);
    });
  });
}
