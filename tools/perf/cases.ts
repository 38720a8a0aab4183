import { adalora } from '@peftjs/adalora';
import { attach, hostTensor, type Batch, type Model, type PeftModel, type TrainingData } from '@peftjs/core';
import { createRng, hostIntegers } from '@peftjs/core/method';
import { lora } from '@peftjs/lora';
import type { WeightDtype } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import type { RandomModelName } from './models.js';

/** The model that a case trains: one with random weights, or the embedded model. */
export type ModelName = RandomModelName | 'use-lite';
/** The method that a case trains with. */
export type Method = 'lora' | 'adalora' | 'sora';

/** One timing, as plain data: a model, a method on it, and what runs its steps. */
export interface PerfCase extends Sizes, Setting {
  /** The case's name, which --only filters. */
  readonly name: string;
  /** The method. */
  readonly method: Method;
  /** Number of threads. */
  readonly threads: number;
  /** What runs the steps: the compiled engine, or TensorFlow.js alone on this backend. */
  readonly executor: 'compiled' | 'wasm' | 'tensorflow';
}

/** A model and the batches that it is trained on. */
interface Sizes {
  /** The model. */
  readonly model: ModelName;
  /** Rows and tokens of the batch. */
  readonly batch: readonly [number, number];
  /** The number of timed steps, after the first one. */
  readonly steps: number;
}

/** How a model is held and trained. */
interface Setting {
  /** The precision of the frozen weights. */
  readonly dtype: WeightDtype;
  /** Further options of `train`. */
  readonly training?: Readonly<Record<string, unknown>>;
}

/** What is timed of encoders, by name. */
const encoderSizes = {
  minilm: { model: 'minilm', batch: [16, 64], steps: 25 },
  'minilm-short': { model: 'minilm', batch: [32, 16], steps: 25 },
  'bert-base': { model: 'bert-base', batch: [8, 64], steps: 25 },
  'deberta-v3-base': { model: 'deberta-v3-base', batch: [8, 64], steps: 25 },
  'use-lite': { model: 'use-lite', batch: [32, 32], steps: 25 },
} as const satisfies Record<string, Sizes>;

/** What is timed of decoders, by name. */
const decoderSizes = {
  'smollm2-135m-1x1024': { model: 'smollm2-135m', batch: [1, 1024], steps: 5 },
  'smollm2-135m-4x512': { model: 'smollm2-135m', batch: [4, 512], steps: 5 },
  'smollm2-135m-8x128': { model: 'smollm2-135m', batch: [8, 128], steps: 5 },
  'qwen3-0.6b-1x1024': { model: 'qwen3-0.6b', batch: [1, 1024], steps: 3 },
  'qwen3-0.6b-4x128': { model: 'qwen3-0.6b', batch: [4, 128], steps: 3 },
} as const satisfies Record<string, Sizes>;

/** All sizes by name. */
export const sizes = { ...encoderSizes, ...decoderSizes };
/** The name of a model and the batches that it is trained on. */
export type SizesName = keyof typeof sizes;

/** Explicit, because the default depends on the free memory. */
const [kept, recomputed] = [{ gradientCheckpointing: false }, { gradientCheckpointing: true }];

const plainSettings = {
  fp32: { dtype: 'fp32', training: kept },
  q8: { dtype: 'q8', training: kept },
} as const satisfies Record<string, Setting>;

/** The settings of compiled cases by name. */
export const settings = {
  ...plainSettings,
  'fp32-checkpointing': { dtype: 'fp32', training: recomputed },
  'q8-checkpointing': { dtype: 'q8', training: recomputed },
  'q4-checkpointing': { dtype: 'q4', training: recomputed },
} as const satisfies Record<string, Setting>;
/** The name of a setting. */
export type SettingName = keyof typeof settings;

/** The settings in which each decoder is timed: those that fit in a few GB. */
const decoderSettings: Readonly<Record<keyof typeof decoderSizes, readonly SettingName[]>> = {
  'smollm2-135m-1x1024': keysOf(settings),
  'smollm2-135m-4x512': keysOf(settings),
  'smollm2-135m-8x128': keysOf(settings),
  'qwen3-0.6b-1x1024': ['q8-checkpointing', 'q4-checkpointing'],
  'qwen3-0.6b-4x128': keysOf(plainSettings),
};

const METHODS: readonly Method[] = ['lora', 'adalora', 'sora'];
const EAGER_STEPS = 3;

/** The cases that `npm run perf` times. `threads` is the number of threads of the compiled engine. */
export function perfCases(threads: number): PerfCase[] {
  const encoders = keysOf(encoderSizes).flatMap((name) =>
    METHODS.flatMap((method) =>
      keysOf(plainSettings).map((setting) => compiledCase(name, setting, { method, threads })),
    ),
  );
  const decoders = keysOf(decoderSizes).flatMap((name) =>
    decoderSettings[name].map((setting) => compiledCase(name, setting, { threads })),
  );
  return [...encoders, ...decoders, ...eagerCases(threads)];
}

/** Returns the case of a size in a setting on the compiled engine. */
export function compiledCase(
  name: SizesName,
  setting: SettingName,
  { method = 'lora', threads }: { readonly method?: Method; readonly threads: number },
): PerfCase {
  const run = { method, threads, executor: 'compiled' } as const;
  return { name: `${name}-${method}-${setting}`, ...sizes[name], ...settings[setting], ...run };
}

/** TensorFlow.js without the compiled engine: one thread of WebAssembly, and TensorFlow if it is installed. */
function eagerCases(threads: number): PerfCase[] {
  const on = (name: SizesName, executor: 'wasm' | 'tensorflow', threads: number, steps: number): PerfCase => ({
    ...compiledCase(name, 'fp32', { threads }),
    name: `${name}-lora-eager-${executor}`,
    executor,
    steps,
  });
  return [
    on('minilm', 'wasm', 1, EAGER_STEPS),
    on('minilm', 'tensorflow', threads, 5 * EAGER_STEPS),
    on('bert-base', 'tensorflow', threads, EAGER_STEPS),
  ];
}

function keysOf<K extends string>(record: Readonly<Record<K, unknown>>): K[] {
  return Object.keys(record) as K[];
}

/**
 * Attaches each method with rank 8: to all linear modules of a decoder, else to the default modules, which are query
 * and value, fused in the embedded model.
 */
export const onModel: Readonly<Record<Method, (model: Model) => PeftModel>> = {
  lora: (model) => attach(model, lora({ ...placed(model), r: 8 })),
  adalora: (model) => attach(model, adalora({ ...placed(model), initR: 8, targetR: 4 })),
  sora: (model) => attach(model, sora({ ...placed(model), r: 8 })),
};

function placed({ task }: Model) {
  return { loraAlpha: 16, ...(task === 'causal-lm' && { targetModules: 'all-linear' }) } as const;
}

/** Returns an epoch of equal batches of random tokens without padding, labelled for the model's task. */
export function randomData({ task }: Model, batch: PerfCase['batch'], batches: number): TrainingData {
  const isLanguage = task === 'causal-lm';
  const made = randomBatch(batch);
  const labelled = isLanguage ? { ...made, labels: made.inputs['inputIds'] as Batch['labels'] } : made;
  const epoch = Array.from({ length: batches }, () => labelled);
  return { kind: isLanguage ? 'causal-lm' : 'classification', batchesPerEpoch: batches, epoch: () => epoch };
}

function randomBatch([rows, tokens]: PerfCase['batch']): Batch {
  const rng = createRng(3);
  const shape = [rows, tokens];
  return {
    inputs: {
      inputIds: hostIntegers(
        Int32Array.from({ length: rows * tokens }, () => rng.integer(8000)),
        shape,
      ),
      attentionMask: hostTensor(new Float32Array(rows * tokens).fill(1), shape),
    },
    labels: hostIntegers(
      Int32Array.from({ length: rows }, (_, row) => row % 2),
      [rows],
    ),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}
