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
import { sora } from '@peftjs/sora';
import { encoders, type EncoderName } from './checkpoint.js';

/** What a case trains: an encoder of `checkpoint.ts`, or the embedded model. */
export type ModelName = EncoderName | 'use-lite';
export type Dtype = 'fp32' | 'q8';
export type Method = 'lora' | 'adalora' | 'sora';

/** One timing: a model of some shape, a method on it, and what runs the step. */
export interface PerfCase {
  readonly name: string;
  readonly model: ModelName;
  readonly method: Method;
  readonly dtype: Dtype;
  /** Rows and tokens of the batch. */
  readonly batch: readonly [number, number];
  readonly threads: number;
  /** The layer that is computed for one position only. */
  readonly pooledLayer?: number;
  /** Steps that are timed, after the first one. */
  readonly steps: number;
  executor(): Promise<Executor>;
}

/** A method on the query and value of every layer (all that is joined, in the embedded model), of rank 8. */
export const onModel: Readonly<Record<Method, (model: Model) => PeftModel>> = {
  lora: (model) => attach(model, lora({ r: 8, loraAlpha: 16 })),
  adalora: (model) => attach(model, adalora({ initR: 8, targetR: 4, loraAlpha: 16 })),
  sora: (model) => attach(model, sora({ r: 8, loraAlpha: 16 })),
};

const METHODS: readonly Method[] = ['lora', 'adalora', 'sora'];
const DTYPES: readonly Dtype[] = ['fp32', 'q8'];
const EAGER_STEPS = 3;

interface Sizes {
  readonly name: string;
  readonly model: ModelName;
  readonly batch: readonly [number, number];
}

const SIZES: readonly Sizes[] = [
  { name: 'minilm', model: 'minilm', batch: [16, 64] },
  { name: 'minilm-short', model: 'minilm', batch: [32, 16] },
  { name: 'bert-base', model: 'bert-base', batch: [8, 64] },
  { name: 'deberta-v3-base', model: 'deberta-v3-base', batch: [8, 64] },
  { name: 'use-lite', model: 'use-lite', batch: [32, 32] },
];

/** The cases that `npm run perf` times. `threads` is the number of threads of the compiled engine. */
export function perfCases(threads: number, steps: number): PerfCase[] {
  const executor = () => Promise.resolve(compiled({ threads }));
  const onCompiled = SIZES.flatMap((sizes) =>
    METHODS.flatMap((method) => DTYPES.map((dtype) => timed(sizes, { method, dtype, threads, steps, executor }))),
  );
  return [...onCompiled, ...eagerCases(threads)];
}

/** TensorFlow.js as it comes: one thread of WebAssembly, and TensorFlow where it is installed. */
function eagerCases(threads: number): PerfCase[] {
  const [minilm, , bertBase] = SIZES as [Sizes, Sizes, Sizes];
  const on = (sizes: Sizes, backend: 'wasm' | 'tensorflow', threads: number, steps: number): PerfCase => {
    const executor = () => eager({ backend });
    const plain = timed(sizes, { method: 'lora', dtype: 'fp32', threads, steps, executor });
    return { ...plain, name: `${sizes.name}-lora-eager-${backend}` };
  };
  return [
    on(minilm, 'wasm', 1, EAGER_STEPS),
    on(minilm, 'tensorflow', threads, 5 * EAGER_STEPS),
    on(bertBase, 'tensorflow', threads, EAGER_STEPS),
  ];
}

type Timing = Pick<PerfCase, 'method' | 'dtype' | 'threads' | 'steps' | 'executor'>;

function timed({ name, model, batch }: Sizes, timing: Timing): PerfCase {
  const pooled = model === 'use-lite' ? {} : { pooledLayer: encoders[model].layers - 1 };
  return { name: `${name}-${timing.method}-${timing.dtype}`, model, batch, ...pooled, ...timing };
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
