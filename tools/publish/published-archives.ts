import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DoneTrial, TrialResult } from '@peftjs/bench';
import { afterAll } from 'vitest';
import { unpack } from './archive.js';

/** The folder with the published results of each study. */
export const publishedFolder = fileURLToPath(new URL('../../docs/benchmarks/results/', import.meta.url));

/** Returns a function that unpacks an archive of a study into a folder, which is removed when the test file ends. */
export async function unpacking(): Promise<(study: string, archive: string) => Promise<string>> {
  const folder = await mkdtemp(join(tmpdir(), 'peft-bench-archives-'));
  afterAll(() => rm(folder, { recursive: true }));
  return async (study, archive) => {
    const into = join(folder, study, archive);
    await unpack(join(publishedFolder, study, `${archive}.json.br`), into);
    return into;
  };
}

/** Returns the trials that ended without an error. */
export function doneOf(trials: readonly TrialResult[]): DoneTrial[] {
  return trials.filter((each) => each.status === 'done');
}
