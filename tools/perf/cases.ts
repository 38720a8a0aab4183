import { adalora } from '@peftjs/adalora';
import { attach, hostTensor, type Batch, type Executor, type Model, type PeftModel } from '@peftjs/core';
import { createRng, hostIntegers, sizeOf } from '@peftjs/core/method';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { sora } from '@peftjs/sora';
import { mkdir, writeFile } from 'node:fs/promises';

/** The type and the sizes of an encoder of transformers. */
interface EncoderShape {
  readonly type: 'bert' | 'deberta-v2';
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly vocabulary: number;
}

/** The timed encoders, by name. */
const encoders = {
  minilm: { type: 'bert', layers: 6, hidden: 384, ffn: 1536, vocabulary: 30_522 },
  'bert-base': { type: 'bert', layers: 12, hidden: 768, ffn: 3072, vocabulary: 30_522 },
  'deberta-v3-base': { type: 'deberta-v2', layers: 12, hidden: 768, ffn: 3072, vocabulary: 128_100 },
} as const satisfies Record<string, EncoderShape>;

/** The name of a timed encoder. */
export type EncoderName = keyof typeof encoders;

const HEADS = 12;
const POSITIONS = 512;

/** Writes an encoder as transformers saves it, with random weights, only for timings. */
export async function writeCheckpoint(name: EncoderName, folder: string): Promise<void> {
  const shape: EncoderShape = encoders[name];
  const shapes = shape.type === 'bert' ? bertShapes(shape) : debertaShapes(shape);
  const tensors = Object.entries(shapes).map(([key, dims]) => [key, randomTensor(key, dims)] as const);
  await mkdir(folder, { recursive: true });
  await writeFile(`${folder}/model.safetensors`, writeSafetensors(new Map(tensors), { format: 'pt' }));
  await writeFile(`${folder}/tokenizer.json`, JSON.stringify(tokenizer));
  await writeFile(`${folder}/config.json`, JSON.stringify(config(shape)));
}

/** A placeholder tokenizer: batches are random token ids. */
export const tokenizer = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

function config({ type, layers, hidden, ffn, vocabulary }: EncoderShape): Record<string, unknown> {
  const sizes = {
    model_type: type,
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: ffn,
    num_attention_heads: HEADS,
    vocab_size: vocabulary,
    max_position_embeddings: POSITIONS,
  };
  if (type === 'bert') return sizes;
  return {
    ...sizes,
    type_vocab_size: 0,
    layer_norm_eps: 1e-7,
    relative_attention: true,
    position_buckets: POSITIONS / 2,
    max_relative_positions: -1,
    norm_rel_ebd: 'layer_norm',
    share_att_key: true,
    pos_att_type: ['p2c', 'c2p'],
    position_biased_input: false,
  };
}

type Shapes = Record<string, readonly number[]>;

/** Returns the shapes of the tensors of a BERT without a head, by their keys. */
export function bertShapes({ layers, hidden, ffn, vocabulary }: Omit<EncoderShape, 'type'>): Shapes {
  const names = { query: 'query', key: 'key', value: 'value' };
  return {
    'bert.embeddings.word_embeddings.weight': [vocabulary, hidden],
    'bert.embeddings.position_embeddings.weight': [POSITIONS, hidden],
    'bert.embeddings.token_type_embeddings.weight': [2, hidden],
    ...norm('bert.embeddings.LayerNorm', hidden),
    ...layerShapes('bert', names, { layers, hidden, ffn }),
    ...linear('bert.pooler.dense', hidden, hidden),
  };
}

function debertaShapes({ layers, hidden, ffn, vocabulary }: EncoderShape): Shapes {
  const names = { query: 'query_proj', key: 'key_proj', value: 'value_proj' };
  return {
    'deberta.embeddings.word_embeddings.weight': [vocabulary, hidden],
    ...norm('deberta.embeddings.LayerNorm', hidden),
    'deberta.encoder.rel_embeddings.weight': [POSITIONS, hidden],
    ...norm('deberta.encoder.LayerNorm', hidden),
    ...layerShapes('deberta', names, { layers, hidden, ffn }),
  };
}

function layerShapes(
  root: string,
  names: Readonly<Record<'query' | 'key' | 'value', string>>,
  { layers, hidden, ffn }: Pick<EncoderShape, 'layers' | 'hidden' | 'ffn'>,
): Shapes {
  const all = Array.from({ length: layers }, (_, layer) => {
    const path = `${root}.encoder.layer.${layer}`;
    return {
      ...Object.assign({}, ...Object.values(names).map((at) => linear(`${path}.attention.self.${at}`, hidden, hidden))),
      ...linear(`${path}.attention.output.dense`, hidden, hidden),
      ...norm(`${path}.attention.output.LayerNorm`, hidden),
      ...linear(`${path}.intermediate.dense`, ffn, hidden),
      ...linear(`${path}.output.dense`, hidden, ffn),
      ...norm(`${path}.output.LayerNorm`, hidden),
    } as Shapes;
  });
  return Object.assign({}, ...all) as Shapes;
}

function linear(path: string, outputs: number, inputs: number): Shapes {
  return { [`${path}.weight`]: [outputs, inputs], [`${path}.bias`]: [outputs] };
}

function norm(path: string, width: number): Shapes {
  return { [`${path}.weight`]: [width], [`${path}.bias`]: [width] };
}

/** Returns gains of one, biases of zero, or weights from -0.03 to 0.03. */
function randomTensor(key: string, shape: readonly number[]): StoredTensor {
  const data = new Float32Array(sizeOf(shape));
  if (/LayerNorm\.weight$/.test(key)) data.fill(1);
  else if (!key.endsWith('.bias')) {
    const rng = createRng(7).fork(key);
    for (let at = 0; at < data.length; at++) data[at] = 0.06 * (rng.uniform() - 0.5);
  }
  return { dtype: 'F32', shape, data };
}

/** The model that a case trains: an encoder above, or the embedded model. */
export type ModelName = EncoderName | 'use-lite';
/** The precision of the frozen weights. */
export type Dtype = 'fp32' | 'q8';
/** The method that a case trains with. */
export type Method = 'lora' | 'adalora' | 'sora';

/** One timing: a model, a method on it, and the executor of its steps. */
export interface PerfCase {
  /** The case's name, which --only filters. */
  readonly name: string;
  /** The model. */
  readonly model: ModelName;
  /** The method. */
  readonly method: Method;
  /** The precision of the frozen weights. */
  readonly dtype: Dtype;
  /** Rows and tokens of the batch. */
  readonly batch: readonly [number, number];
  /** Number of threads. */
  readonly threads: number;
  /** The layer that is computed for one position only, if any. */
  readonly pooledLayer?: number;
  /** The number of timed steps, after the first one. */
  readonly steps: number;
  /** Opens the executor. */
  executor(): Promise<Executor>;
}

/** Attaches each method with rank 8 to the default modules: query and value, fused in the embedded model. */
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

/** TensorFlow.js without the compiled engine: one thread of WebAssembly, and TensorFlow if it is installed. */
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

/** Returns a batch of random tokens without padding. */
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
