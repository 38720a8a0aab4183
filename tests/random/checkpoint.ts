/** Compares peftjs on a checkpoint that tools/golden/random_checkpoints.py wrote with transformers and PEFT. */
import { readFileSync } from 'node:fs';
import {
  activeAdapter,
  adamW,
  hostTensor,
  loadPretrained,
  memoryStorage,
  savePretrained,
  train,
  withAdapter,
  type Batch,
  type Executor,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { floats, hostIntegers, UnsupportedError, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { ADAPTER_WEIGHTS, type DataKind } from '@peftjs/core/model';
import type { TrainingSnapshot } from '@peftjs/core/runtime';
import { farthestTensor } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, generate, type GenerationResult, type PretrainedModel } from '@peftjs/models';
import { readSafetensors, toFloat32 } from '@peftjs/safetensors';
import { outputsOf, tokenRows, withoutHead } from '../models/tiny.js';

/** A case.json. */
interface Case {
  readonly head: keyof typeof heads;
  readonly labels: number;
  /** Whether the checkpoint is without a head; the adapter then has one. */
  readonly isBare: boolean;
  readonly losses: readonly number[];
}

export const heads = {
  classes: { task: 'sequence-classification', kind: 'classification' },
  labels: { task: 'sequence-classification', kind: 'multi-label' },
  number: { task: 'sequence-classification', kind: 'regression' },
  tokens: { task: 'token-classification', kind: 'token-classification' },
  next: { task: 'causal-lm', kind: 'causal-lm' },
  embeddings: { task: 'feature-extraction', kind: 'pairs' },
} as const;

/** The batches of the outputs, and those that are trained on, in turn. */
const BATCHES = [0, 1, 2, 3];
const TRAINED_ON = [1, 2, 3];

/**
 * The error of each comparison with the reference: max |a - b| / max |b| for outputs, ||a - b|| / ||b|| for tensors.
 */
export type Errors = Readonly<Partial<Record<(typeof MEASURES)[number], number>>>;

export const MEASURES = ['hidden', 'logits', 'loss', 'gradients', 'tensors', 'tokens'] as const;

/** Reads the folder of a case and recomputes everything. Rejects with the error if that fails. */
export async function checkpointErrors(folder: string, executor: Executor): Promise<Errors> {
  const own = JSON.parse(readFileSync(`${folder}/case.json`, 'utf8')) as Case;
  const expected = tensorsIn(`${folder}/expected.safetensors`);
  const { task, kind } = heads[own.head];
  const model = await fromPretrained(folder, {
    task,
    ...(own.isBare && task !== 'causal-lm' && { numLabels: own.labels }),
  });
  const body = await bodyOf(folder, model);
  const errors: Record<string, number> = {};
  for (const number of BATCHES) {
    const batch = batchOf(expected, number);
    if (body) {
      const hidden = tokenRows(await outputsOf(body, batch, executor), batch);
      raise(errors, 'hidden', largestDifference(hidden, tokenRows(values(expected, `${number}/hidden`), batch)));
    }
    if (own.isBare) continue;
    const logits = await outputsOf(model, batch, executor);
    const [actual, theirs] = [logits, values(expected, `${number}/logits`)].map((each) =>
      task === 'sequence-classification' ? each : tokenRows(each, batch),
    );
    raise(errors, 'logits', largestDifference(actual ?? [], theirs ?? []));
  }
  if (own.head === 'next') errors.tokens = await wrongTokens(model, expected, executor);
  const peft = await loadPretrained(model, `${folder}/adapter`, { methods: [lora] });
  const course = await trained(peft, expected, { kind, executor, steps: own.losses.length });
  errors.loss = largestDifference(course.losses, own.losses);
  errors.gradients = farthestTensor(course.gradients, within(expected, 'gradient/')).distance;
  errors.tensors = farthestTensor(course.tensors, within(expected, 'trained/')).distance;
  return errors;
}

/** The network without its head, if that is one for tokens or an untied one for words. */
async function bodyOf(folder: string, model: PretrainedModel): Promise<Model | undefined> {
  try {
    return withoutHead(await fromPretrained(folder, { task: 'token-classification' }));
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return model.task === 'causal-lm' && !model.tied ? withoutHead(model) : undefined;
  }
}

function raise(errors: Record<string, number>, name: string, error: number): void {
  errors[name] = Math.max(errors[name] ?? 0, error);
}

/** max |a - b| / max |b|; infinite for another number of values. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let [difference, size] = [0, 0];
  for (let index = 0; index < a.length; index++) {
    const each = Math.abs((a[index] as number) - (b[index] as number));
    if (!(each <= difference)) difference = each;
    size = Math.max(size, Math.abs(b[index] as number));
  }
  return difference === 0 ? 0 : difference / (size || Number.MIN_VALUE);
}

/** The tensors of a safetensors file, with integers as int32. */
export function tensorsIn(path: string): HostTensors {
  const tensors = [...readSafetensors(new Uint8Array(readFileSync(path)))];
  return Object.fromEntries(
    tensors.map(([name, tensor]) => [
      name,
      tensor.dtype === 'I32'
        ? hostIntegers(Int32Array.from(tensor.data), tensor.shape)
        : hostTensor(toFloat32(tensor), tensor.shape),
    ]),
  );
}

/** The tensors whose names begin with a prefix, without the prefix. */
function within(tensors: HostTensors, prefix: string): HostTensors {
  const entries = Object.entries(tensors).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(entries.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

function tensorNamed(tensors: HostTensors, name: string): HostTensor {
  const tensor = tensors[name];
  if (!tensor) throw new RangeError(`there is no '${name}'`);
  return tensor;
}

function values(tensors: HostTensors, name: string): Float32Array {
  return floats(tensorNamed(tensors, name), name);
}

/** A batch of a case, with its labels if it has any. */
export function batchOf(expected: HostTensors, number: number): Batch {
  const mask = tensorNamed(expected, `${number}/attention_mask`);
  const types = expected[`${number}/token_type_ids`];
  const rows = mask.shape[0] ?? 0;
  return {
    inputs: {
      inputIds: tensorNamed(expected, `${number}/input_ids`),
      attentionMask: hostTensor(Float32Array.from(mask.data), mask.shape),
      ...(types && { tokenTypeIds: types }),
    },
    labels: expected[`${number}/labels`] ?? hostIntegers(new Int32Array(rows), [rows]),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}

/** The number of tokens of greedy texts that differ from the unambiguous ones of transformers. */
async function wrongTokens(model: PretrainedModel, expected: HostTensors, executor: Executor): Promise<number> {
  const prompts = Object.values(within(expected, 'prompt/')).map(({ data }) => data);
  const theirs = Object.values(within(expected, 'written/')).map(({ data }) => [...data]);
  const written: GenerationResult[] = [];
  // One by one, as in transformers: with longrope, the longest text of a batch decides the rotary angles of all.
  for (const prompt of prompts) {
    written.push(...(await generate(model, [prompt], { executor, maxNewTokens: 24, eosTokenId: [] })));
  }
  return theirs
    .map((ids, prompt) => ids.filter((id, place) => id !== written[prompt]?.ids[place]).length)
    .reduce((sum, wrong) => sum + wrong, 0);
}

interface Course {
  readonly losses: readonly number[];
  /** The gradients of the first step and all trained tensors after the last one, with PEFT's names on disk. */
  readonly gradients: HostTensors;
  readonly tensors: HostTensors;
}

const BETA1 = 0.9;

/** The gradients are read from Adam's first moment after the first step. */
async function trained(
  peft: PeftModel,
  expected: HostTensors,
  { kind, executor, steps }: { kind: DataKind; executor: Executor; steps: number },
): Promise<Course> {
  const batches = TRAINED_ON.map((number) => batchOf(expected, number));
  const losses: number[] = [];
  const snapshots: TrainingSnapshot[] = [];
  await train(
    peft,
    { kind, batchesPerEpoch: batches.length, epoch: () => batches },
    {
      executor,
      epochs: steps / batches.length,
      learningRate: 2e-3,
      schedule: 'constant',
      warmupRatio: 0,
      optimizer: adamW({ weightDecay: 0.1, beta1: BETA1 }),
      clipNorm: null,
      saveEvery: (step) => step === 1,
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
      onStep: ({ loss }) => losses.push(loss),
    },
  );
  const moments = snapshots[0]?.slots.moment1 ?? {};
  const gradients = Object.fromEntries(
    Object.entries(moments).map(([name, { data, shape }]) => [
      name,
      hostTensor(
        Float32Array.from(data, (moment) => moment / (1 - BETA1)),
        shape,
      ),
    ]),
  );
  const { values } = activeAdapter(peft);
  return {
    losses,
    gradients: await onDisk(withAdapter(peft, { values: { ...values, ...gradients } })),
    tensors: await onDisk(peft),
  };
}

/** The tensors of an adapter as in its file. */
async function onDisk(peft: PeftModel): Promise<HostTensors> {
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned: false });
  const tensors = [...readSafetensors(await storage.read(`adapter/${ADAPTER_WEIGHTS}`))];
  return Object.fromEntries(tensors.map(([name, tensor]) => [name, hostTensor(toFloat32(tensor), tensor.shape)]));
}
