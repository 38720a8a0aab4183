/** Compares the outputs of peftjs for an adapter that tools/golden/random_adapters.py wrote with PEFT's outputs. */
import { readFileSync } from 'node:fs';
import { loadPretrained, mergeAndUnload, onWarning, type Executor } from '@peftjs/core';
import { floats, tensorAt, UnsupportedError, type HostTensors, type PeftMethod } from '@peftjs/core/method';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { outputsOf, tokenRows } from '../models/tiny.js';
import { batchOf, heads, largestDifference, tensorsIn } from './checkpoint.js';

/** A case.json. */
export interface AdapterCase {
  readonly family: string;
  readonly head: keyof typeof heads;
  /** PEFT's type of the adapter. */
  readonly kind: string;
  /** PEFT's options. */
  readonly options: string;
}

/** The batches of the outputs. */
export const BATCHES = [0, 1, 2];

/** The errors of the outputs, max |a - b| / max |b|, or the reason why they cannot be merged. */
export interface AdapterOutcome {
  readonly unmerged: number;
  readonly merged: number | string;
  readonly warnings: readonly string[];
}

/** The case of a folder, and its network with the head. */
export async function openCase(folder: string): Promise<{ own: AdapterCase; model: PretrainedModel }> {
  const own = JSON.parse(readFileSync(`${folder}/case.json`, 'utf8')) as AdapterCase;
  return { own, model: await fromPretrained(folder, { task: heads[own.head].task }) };
}

/** Opens the adapter of a case. Rejects with the error if that fails. */
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
  } finally {
    stop();
  }
}

async function orReason<T>(compute: () => Promise<T>): Promise<T | string> {
  try {
    return await compute();
  } catch (error) {
    if (error instanceof UnsupportedError) return error.message;
    throw error;
  }
}

async function farthest(
  model: Parameters<typeof outputsOf>[0],
  expected: HostTensors,
  { own, executor, kind }: { own: AdapterCase; executor: Executor; kind: string },
): Promise<number> {
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (const number of BATCHES) {
    const name = `${kind}/${number}`;
    if (!(name in expected)) return 0; // PEFT cannot merge it
    const batch = batchOf(expected, number);
    const rows = (values: Float32Array) => (isOfTokens(own) ? tokenRows(values, batch) : [...values]);
    ours.push(...rows(await outputsOf(model, batch, executor)));
    theirs.push(...rows(floats(tensorAt(expected, name))));
  }
  return largestDifference(ours, theirs);
}

function isOfTokens({ head }: AdapterCase): boolean {
  return head === 'tokens' || head === 'next';
}
