import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import * as baselines from '@peftjs/baselines';
import { hostTensor, predict, type Batch, type Model, type PeftModel, type TrainingData } from '@peftjs/core';
import { hostIntegers, type HostTensors, type PeftMethod } from '@peftjs/core/method';
import { referenceExecutor } from '@peftjs/conformance';
import { bayesLora } from '@peftjs/bayes-lora';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { oft } from '@peftjs/oft';
import { readSafetensors, toFloat32 } from '@peftjs/safetensors';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';

/** The tolerance of two float32 computations of one tensor, ||a - b|| / ||b||. */
export const TOLERANCE = 1e-4;

/** Adapters written by PEFT, adapters that PEFT opened, and its training steps, with the batches of all three. */
export const fixtures = fileURLToPath(new URL('fixtures', import.meta.url));

/** The model under PEFT's adapters. */
const bertFolder = fileURLToPath(new URL('../models/fixtures/bert-tiny', import.meta.url));

/** All methods. */
export const methods: readonly PeftMethod[] = [
  lora,
  adalora,
  sora,
  dynamicDora,
  elaLora,
  l1ra,
  alora,
  bayesLora,
  gora,
  vera,
  lnTuning,
  loha,
  lokr,
  oft,
  ...Object.values(baselines),
];

export const executor = await referenceExecutor();
/** Paths as in the fixtures, wherever the repository is. */
export const model = { ...(await fromPretrained(bertFolder)), name: 'tests/models/fixtures/bert-tiny' };

/** The JSON of a fixture. */
export function readJson(file: string): unknown {
  return JSON.parse(readFileSync(`${fixtures}/${file}`, 'utf8'));
}

interface Rows {
  readonly inputIds: number[][];
  readonly attentionMask: number[][];
  readonly tokenTypeIds: number[][];
  readonly labels: number[];
}

/** PEFT's batches, including padding. */
const batches: readonly Batch[] = (readJson('batches.json') as { batches: Rows[] }).batches.map(batchOf);

function batchOf({ inputIds, attentionMask, tokenTypeIds, labels }: Rows): Batch {
  const shape = [labels.length, inputIds[0]?.length ?? 0];
  return {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(inputIds.flat()), shape),
      attentionMask: hostTensor(Float32Array.from(attentionMask.flat()), shape),
      tokenTypeIds: hostIntegers(Int32Array.from(tokenTypeIds.flat()), shape),
    },
    labels: hostIntegers(Int32Array.from(labels), [labels.length]),
    rowWeights: hostTensor(new Float32Array(labels.length).fill(1), [labels.length]),
    rows: labels.map((_, row) => row),
  };
}

/** One epoch of these batches. */
export const trainingData: TrainingData = {
  kind: 'classification',
  epoch: () => batches,
  batchesPerEpoch: batches.length,
};

/** Logits of the first batch, row after row. */
export async function logitsOf(network: PeftModel | Model): Promise<number[]> {
  return (await predict(network, batches.slice(0, 1), { executor })).flatMap((row) => [...row]);
}

/** The tensors of a safetensors file, as torch stores them. */
export function tensorsOf(bytes: Uint8Array): HostTensors {
  return Object.fromEntries(
    [...readSafetensors(bytes)].map(([name, tensor]) => [name, hostTensor(toFloat32(tensor), tensor.shape)]),
  );
}
