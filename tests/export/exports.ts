import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import {
  attach,
  diskStorage,
  memoryStorage,
  mergeAndUnload,
  predict,
  withAdapter,
  type Batch,
  type Model,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { referenceExecutor } from '@peftjs/conformance';
import { exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, saveOnnx, type ExportOptions, type PretrainedModel } from '@peftjs/models';
import { batchOf, folder, heads, headsOf, networks, tiny, tokenRows, type HeadName } from '../models/tiny.js';
import { drawnAdapters, drawnValues } from '../peft/adapters.js';
import { trainingData } from '../peft/bert.js';

/** The tolerance of two float32 computations of one tensor, ||a - b|| / ||b||. */
export const TOLERANCE = 1e-4;

/** The outputs of transformers for the folders, written by tools/golden/export.py. */
export const OPENED = fileURLToPath(new URL('fixtures/opened.json', import.meta.url));

export const executor = await referenceExecutor();

/** An adapter with random values on a small random network. */
export interface Case {
  readonly name: string;
  readonly head: HeadName;
  readonly model: PretrainedModel;
  readonly peft: PeftModel;
  readonly merged: Model;
  /** The source of the model. */
  readonly source: string;
  readonly storage?: Storage;
  /** Batches as the network's maker has them, from one token to the longest, including padding. */
  readonly batches: readonly Batch[];
}

const bertFolder = fileURLToPath(new URL('../models/fixtures/bert-tiny', import.meta.url));

/** Adapters on BERT that merge in different ways; 'sora' and 'adalora' have pruned ranks. */
const ON_BERT = ['lora', 'lora-embeddings', 'lora-bias-all', 'dora', 'adalora', 'sora'];

/** Every adapter on BERT, and LoRA on every linear module of the other networks with each of their heads. */
export async function cases(): Promise<Case[]> {
  const bert = await fromPretrained(bertFolder);
  const onBert = drawnAdapters().filter(([name]) => ON_BERT.includes(name));
  const others = networks.flatMap((network) =>
    headsOf(tiny(network)).map(async (head): Promise<Case> => {
      const from = tiny(network);
      const storage = folder(from, head);
      const model = await fromPretrained('tiny', { storage, task: heads[head].task });
      const attached = attach(model, lora({ r: 2, targetModules: 'all-linear' }));
      const peft = withAdapter(attached, { values: drawnValues(attached) });
      const numbers = heads[head].task === 'sequence-classification' ? [0, 1, 2] : [0, 1];
      const batches = numbers.map((number) => batchOf(from, number));
      const name = `${network}-${head}`;
      return { name, head, model, peft, merged: mergeAndUnload(peft), source: 'tiny', storage, batches };
    }),
  );
  const named = onBert.map(([name, peft]): Case => ({
    name: `bert-${name}`,
    head: 'classes',
    model: bert,
    peft,
    merged: mergeAndUnload(peft),
    source: bertFolder,
    batches: trainingData.epoch(0),
  }));
  return [...named, ...(await Promise.all(others))];
}

/** The files that a case writes. */
async function filesOf(write: (storage: Storage) => Promise<void>): Promise<ReadonlyMap<string, Uint8Array>> {
  const storage = memoryStorage();
  await write(storage);
  return new Map([...storage.files].map(([path, bytes]) => [path.replace('out/', ''), bytes]));
}

/** The files of a case's transformers folder, by name. */
export function mergedFiles({ merged, ...from }: Case): Promise<ReadonlyMap<string, Uint8Array>> {
  return filesOf((storage) => saveMerged(merged, 'out', { ...origin(from), storage }));
}

/** The files of a case's transformers.js folder, by name. */
export function onnxFiles({ merged, model, ...from }: Case): Promise<ReadonlyMap<string, Uint8Array>> {
  const { maxTokens } = model;
  return filesOf(async (storage) => {
    const graph = await exportOnnx(merged);
    await saveOnnx(merged, graph, 'out', { ...origin(from), storage, maxTokens });
  });
}

function origin({ source, storage }: Pick<Case, 'source' | 'storage'>): ExportOptions {
  return { source, ...(storage && { sourceStorage: storage }) };
}

/** The logits of a case's batches, row after row; for tasks on tokens, without padding. */
export async function logitsOf(network: PeftModel | Model, { batches, head }: Case): Promise<number[][]> {
  const logits: number[][] = [];
  for (const batch of batches) {
    const rows = await predict(network, [batch], { executor });
    const values = Float32Array.from(rows.flatMap((row) => [...row]));
    logits.push(heads[head].task === 'sequence-classification' ? [...values] : tokenRows(values, batch));
  }
  return logits;
}

/** The inputs of a batch under their names in transformers, row after row. */
export function rowsOf({ inputs }: Batch): Record<string, number[][]> {
  const names = { inputIds: 'input_ids', attentionMask: 'attention_mask', tokenTypeIds: 'token_type_ids' };
  return Object.fromEntries(
    Object.entries(names).flatMap(([key, name]) => {
      const { data, shape } = inputs[key] ?? { data: [], shape: [0, 0] };
      const [rows = 0, tokens = 0] = shape;
      const row = (index: number): number[] => Array.from(data.slice(index * tokens, (index + 1) * tokens));
      return rows === 0 ? [] : [[name, Array.from({ length: rows }, (_, index) => row(index))] as const];
    }),
  );
}

/** The SHA-256 of each file that is not for people to read. */
export function hashesOf(files: ReadonlyMap<string, Uint8Array>): Record<string, string> {
  return Object.fromEntries(
    [...files]
      .filter(([name]) => name !== 'README.md')
      .sort()
      .map(([name, bytes]) => [name, createHash('sha256').update(bytes).digest('hex')]),
  );
}

/** Writes every case as a folder of its name, together with its batches and logits, for tools/golden/export.py. */
export async function writeExports(target: string, all: readonly Case[]): Promise<void> {
  const disk = diskStorage();
  const said: Record<string, unknown> = {};
  for (const one of all) {
    for (const [file, bytes] of await mergedFiles(one)) await disk.write(`${target}/${one.name}/${file}`, bytes);
    said[one.name] = { head: one.head, batches: one.batches.map(rowsOf), logits: await logitsOf(one.peft, one) };
  }
  await disk.write(`${target}/logits.json`, new TextEncoder().encode(JSON.stringify(said)));
}
