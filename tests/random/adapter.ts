/** What peftjs makes of an adapter that tools/golden/random_adapters.py wrote with PEFT, beside what PEFT made of it. */
import { readFileSync } from 'node:fs';
import { loadPretrained, mergeAndUnload, onWarning, PeftError, type Executor } from '@peftjs/core';
import { floats, tensorAt, type HostTensors, type PeftMethod } from '@peftjs/core/method';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { outputsOf, tokenRows } from '../models/tiny.js';
import { batchOf, heads, largestDifference, tensorsIn } from './checkpoint.js';

/** A case.json. */
export interface AdapterCase {
  readonly family: string;
  readonly head: keyof typeof heads;
  /** PEFT's type. */
  readonly kind: string;
  /** PEFT's options. */
  readonly options: string;
}

/** The batches that outputs are of. */
export const BATCHES = [0, 1, 2];

/** How far outputs are from PEFT's, max |a - b| / max |b|, or why there are none. */
export interface AdapterOutcome {
  readonly unmerged: number | string;
  readonly merged: number | string;
  readonly warnings: readonly string[];
}

/** The case of a folder, and its network with the head. */
export async function openCase(folder: string): Promise<{ own: AdapterCase; model: PretrainedModel }> {
  const own = JSON.parse(readFileSync(`${folder}/case.json`, 'utf8')) as AdapterCase;
  return { own, model: await fromPretrained(folder, { task: heads[own.head].task }) };
}

/** Opens the adapter of a case. */
export async function adapterOutcome(
  folder: string,
  { methods, executor }: { readonly methods: readonly PeftMethod[]; readonly executor: Executor },
): Promise<AdapterOutcome> {
  const { own, model } = await openCase(folder);
  const expected = tensorsIn(`${folder}/expected.safetensors`);
  const warnings: string[] = [];
  const stop = onWarning((message) => warnings.push(message));
  try {
    const peft = await loadPretrained(model, `${folder}/adapter`, { methods });
    const unmerged = await farthest(peft, expected, { own, executor, kind: 'unmerged' });
    const merged = await orReason(() => farthest(mergeAndUnload(peft), expected, { own, executor, kind: 'merged' }));
    return { unmerged, merged, warnings };
  } catch (error) {
    return { unmerged: reasonOf(error), merged: reasonOf(error), warnings };
  } finally {
    stop();
  }
}

async function orReason<T>(compute: () => Promise<T>): Promise<T | string> {
  try {
    return await compute();
  } catch (error) {
    return reasonOf(error);
  }
}

/** The message of a refusal. Anything else is a fault and is thrown. */
export function reasonOf(error: unknown): string {
  if (error instanceof PeftError && !error.message.includes('\n')) return error.message;
  throw error;
}

async function farthest(
  model: Parameters<typeof outputsOf>[0],
  expected: HostTensors,
  { own, executor, kind }: { own: AdapterCase; executor: Executor; kind: string },
): Promise<number> {
  let worst = 0;
  for (const number of BATCHES) {
    if (!(`${kind}/${number}` in expected)) return 0;
    const batch = batchOf(expected, number);
    const rows = (values: Float32Array) => (isOfTokens(own) ? tokenRows(values, batch) : values);
    const theirs = floats(tensorAt(expected, `${kind}/${number}`));
    worst = Math.max(worst, largestDifference(rows(await outputsOf(model, batch, executor)), rows(theirs)));
  }
  return worst;
}

function isOfTokens({ head }: AdapterCase): boolean {
  return head === 'tokens' || head === 'next';
}
