import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DoneTrial, TrialResult } from '@peftjs/bench';
import { afterAll } from 'vitest';
import { unpack } from './unpack.js';

/** The folder with the published results of each study. */
export const publishedFolder = fileURLToPath(new URL('../../docs/benchmarks/results/', import.meta.url));

const folder = await mkdtemp(join(tmpdir(), 'peft-bench-archives-'));
afterAll(() => rm(folder, { recursive: true }));

/** Unpacks an archive of a study until the test file ends. @returns the folder of its run */
export async function unpacked(study: string, archive: string): Promise<string> {
  const into = join(folder, archive, study);
  await unpack(join(publishedFolder, study, archive), into);
  return into;
}

/** Returns the trials that ended without an error. */
export function doneOf(trials: readonly TrialResult[]): DoneTrial[] {
  return trials.filter((each) => each.status === 'done');
}

/** Returns the mean; NaN of nothing. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
