import type { Executor } from '@peftjs/core';
import { describe, expect, it } from 'vitest';
import { measure, type Subject } from '../../packages/cli/src/run/parity.js';
import type { Found } from './executors.js';

/** An executor that computes layers again in every backward pass, or in none. */
function recomputing(executor: Executor, gradientCheckpointing: boolean): Executor {
  return {
    ...executor,
    compile: (fn, inputs, constants) => executor.compile(fn, inputs, constants, { gradientCheckpointing }),
  };
}

/** Defines one test for each subject; an executor that the machine lacks is skipped by name. */
export function testRecomputed({ name, executor, skipped }: Found, subjects: readonly Subject[]): void {
  if (!executor) {
    it.skip(`${name}: ${skipped}`);
    return;
  }
  describe(`${name}: losses, gradients and steps are the same to the bit if layers are computed again`, () => {
    it.each(subjects.map((subject) => [subject.name, subject] as const))('%s', async (_, subject) => {
      const expected = await measure(subject, recomputing(executor, false));
      expect(await measure(subject, recomputing(executor, true))).toEqual(expected);
    });
  });
}
