import { readdir } from 'node:fs/promises';
import { NUMERICS } from '@peftjs/core';
import { openSafetensors } from '@peftjs/safetensors';
import { checkpointFolder, checkpointOwner, tuningFolder } from './folder.js';
import type { TrialResult } from './schema.js';
import { readResults } from './store.js';

/** Results that may be pooled, and those beside them that may not. */
export interface Poolable {
  /** Those of the newest numerics. */
  readonly results: readonly TrialResult[];
  readonly leftOut: readonly TrialResult[];
}

/** Parts results by `versions.numerics`: numbers that were computed in different ways say nothing about methods. */
export function ofNewestNumerics(results: readonly TrialResult[]): Poolable {
  const newest = Math.max(...results.map(numericsOf));
  return {
    results: results.filter((result) => numericsOf(result) === newest),
    leftOut: results.filter((result) => numericsOf(result) !== newest),
  };
}

/** What a report says of results that it leaves out, in one sentence; nothing where there are none. */
export function leftOutNotes({ results, leftOut }: Poolable): string[] {
  if (leftOut.length === 0) return [];
  const are = leftOut.length === 1 ? 'is' : 'are';
  return [
    `${count(leftOut.length, 'result')} of ${named(leftOut.map(numericsOf))} ${are} left out: another version computed ` +
      `${leftOut.length === 1 ? 'it' : 'them'}, and only numbers of one version can be pooled, here ${named(results.map(numericsOf))}.`,
  ];
}

/** Says in one line which results and checkpoints in a run's folder are of other numerics than this version's; nothing where none is. */
export async function foreignNumerics(folder: string): Promise<string | undefined> {
  const results = [...(await readResults(folder)), ...(await readResults(tuningFolder(folder)))].map(numericsOf);
  const [foreign, checkpoints] = [results, await numericsOfCheckpoints(folder)].map((all) =>
    all.filter((numerics) => numerics !== NUMERICS),
  ) as [number[], number[]];
  const parts = [
    ...(foreign.length > 0 ? [count(foreign.length, 'result')] : []),
    ...(checkpoints.length > 0 ? [count(checkpoints.length, 'checkpoint')] : []),
  ];
  if (parts.length === 0) return undefined;
  return (
    `${folder} has ${parts.join(' and ')} of ${named([...foreign, ...checkpoints])}, but this version computes numerics ${NUMERICS}: ` +
    'they are kept, but neither resumed nor pooled'
  );
}

/** The numerics that a result was computed by. */
export function numericsOf({ versions }: TrialResult): number {
  return versions.numerics;
}

async function numericsOfCheckpoints(folder: string): Promise<number[]> {
  const checkpoints = checkpointFolder(folder);
  const files = await readdir(checkpoints).catch(() => []);
  const found = files
    .filter((file) => checkpointOwner(file) !== undefined)
    .map((file) =>
      openSafetensors(`${checkpoints}/${file}`).then(
        ({ metadata: { numerics = '0' } }) => [Number(numerics)],
        () => [], // damaged: its trial says so
      ),
    );
  return (await Promise.all(found)).flat();
}

/** `numerics 0`, `numerics 0, 1`. */
function named(numerics: readonly number[]): string {
  return `numerics ${[...new Set(numerics)].sort((a, b) => a - b).join(', ')}`;
}

function count(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
