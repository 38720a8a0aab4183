import type { Executor } from '@peftjs/core';
import { referenceExecutor } from '@peftjs/conformance';
import { distancesOf } from '@peftjs/core/linalg';
import { describe, expect, it } from 'vitest';
import type { Found } from './executors.js';
import { measure, type Measured, type Subject, type Tolerance } from '../../packages/cli/src/run/parity.js';

/** `measure`, which measures each subject once on each executor. */
export function measureOnce(): typeof measure {
  const known = new Map<Executor, Map<string, Promise<Measured>>>();
  return (subject, executor) => {
    const own = known.get(executor) ?? new Map<string, Promise<Measured>>();
    known.set(executor, own);
    const measured = own.get(subject.name) ?? measure(subject, executor);
    own.set(subject.name, measured);
    return measured;
  };
}

/** Defines one test for each executor and subject; executors that the machine lacks are skipped by name. */
export async function testParity(
  executors: readonly Found[],
  subjectsFor: (found: Found) => readonly Subject[],
  measured = measureOnce(),
): Promise<void> {
  const reference = await referenceExecutor();
  for (const found of executors) {
    const { name, tolerance, executor, skipped } = found;
    if (!executor) {
      it.skip(`${name}: ${skipped}`);
      continue;
    }
    describe(`${name}, ${found.cases}: forward pass, gradients and steps match the reference`, () => {
      it.each(subjectsFor(found).map((subject) => [subject.name, subject] as const))('%s', async (_, subject) => {
        const actual = await measured(subject, executor);
        expect(tooFar(actual, await measured(subject, reference), tolerance)).toEqual([]);
      });
    });
  }
}

/** The tensors that exceed the tolerance, with their distances. */
export function tooFar(actual: Measured, expected: Measured, tolerance: Tolerance): string[] {
  return (Object.keys(tolerance) as (keyof Tolerance)[]).flatMap((kind) =>
    Object.entries(distancesOf(actual[kind], expected[kind])).flatMap(([name, distance]) =>
      distance <= tolerance[kind] ? [] : [`${kind}: ${name} is ${distance.toPrecision(2)} away`],
    ),
  );
}
