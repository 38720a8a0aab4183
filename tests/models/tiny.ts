import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  hostTensor,
  memoryStorage,
  predict,
  type Batch,
  type Executor,
  type Model,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { floats, hostIntegers, tensorAt, type HostTensor } from '@peftjs/core/method';
import type { DataKind, Task } from '@peftjs/core/model';
import { fromPretrained, type PretrainedModel, type PretrainedOptions } from '@peftjs/models';
import { readSafetensors, toFloat32, writeSafetensors, type StoredTensor } from '@peftjs/safetensors';

/** The small random networks that tools/golden/architectures.py made with transformers. */
export const networks = [
  'distilbert',
  'roberta',
  'electra',
  'deberta-v3',
  'deberta-v2',
  'mpnet',
  'modernbert',
  'gpt2',
  'llama',
  'qwen2',
] as const;

/** Decoders like Llama, each with its own features. */
export const decoders = [
  'qwen3',
  'mistral',
  'smollm3',
  'phi3',
  'gemma',
  'gemma2',
  'gemma3',
  'olmo2',
  'granite',
] as const;
/** The same kinds of networks with all other settings; these are only compared with transformers. */
export const variants = ['modernbert-biased'] as const;

/** The heads of a network, as named in the files. */
export const heads = {
  classes: { task: 'sequence-classification', kind: 'classification', suffix: 'ForSequenceClassification' },
  number: { task: 'sequence-classification', kind: 'regression', suffix: 'ForSequenceClassification' },
  tokens: { task: 'token-classification', kind: 'token-classification', suffix: 'ForTokenClassification' },
  next: { task: 'causal-lm', kind: 'causal-lm', suffix: 'ForCausalLM' },
} as const satisfies Record<string, { task: Task; kind: DataKind; suffix: string }>;

export type Network = (typeof networks | typeof decoders | typeof variants)[number];
export type HeadName = keyof typeof heads;

/** A network's files, and the outputs of transformers and PEFT. */
export interface Tiny {
  readonly config: Readonly<Record<string, unknown>>;
  /** The weights of the network with its head for three classes. */
  readonly weights: ReadonlyMap<string, StoredTensor>;
  /** Additional weights of the other heads, by `<head>/<key>`. */
  readonly heads: ReadonlyMap<string, StoredTensor>;
  readonly expected: ReadonlyMap<string, StoredTensor>;
  /** The shapes of all weights in transformers, by head. */
  readonly keys: Readonly<Partial<Record<HeadName, Readonly<Record<string, readonly number[]>>>>>;
}

/** Reads a network's folder. */
export function tiny(network: Network): Tiny {
  const path = (file: string) => fileURLToPath(new URL(`fixtures/${network}-tiny/${file}`, import.meta.url));
  const json = (file: string) => JSON.parse(readFileSync(path(file), 'utf8')) as never;
  const tensors = (file: string) => readSafetensors(new Uint8Array(readFileSync(path(file))));
  return {
    config: json('config.json'),
    weights: tensors('model.safetensors'),
    heads: tensors('heads.safetensors'),
    expected: tensors('expected.safetensors'),
    keys: (json('expected.json') as Pick<Tiny, 'keys'>).keys,
  };
}

/** The heads of a network, with that of its weights first. */
export function headsOf({ keys }: Tiny): readonly [HeadName, ...HeadName[]] {
  return Object.keys(keys) as [HeadName, ...HeadName[]];
}

/** A tokenizer of a few words; these tests use token ids. */
const tokenizer = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

/** The changes that `folder` makes to a checkpoint. */
export interface Changes {
  readonly config?: Readonly<Record<string, unknown>>;
  /** Renames a weight; it is left out if this returns undefined. */
  readonly rename?: (key: string) => string | undefined;
  /** Additional weights, filled with one value. */
  readonly besides?: readonly string[];
}

/** The folder `tiny` in memory, as transformers saves the class of a head. */
export function folder({ config, weights, heads: others, keys }: Tiny, head: HeadName, changes: Changes = {}): Storage {
  const entries = Object.keys(keys[head] ?? {}).flatMap((key) => {
    const tensor = others.get(`${head}/${key}`) ?? weights.get(key);
    const name = changes.rename ? changes.rename(key) : key;
    return tensor && name !== undefined ? [[name, tensor] as const] : [];
  });
  const besides = (changes.besides ?? []).map(
    (name) => [name, { dtype: 'F32', shape: [1], data: Float32Array.of(1) }] as const,
  );
  const architectures = (config.architectures as string[]).map((name) =>
    name.replace('ForSequenceClassification', heads[head].suffix),
  );
  const bytes = (content: unknown) => new TextEncoder().encode(JSON.stringify(content));
  return memoryStorage(
    new Map([
      ['tiny/config.json', bytes({ ...config, architectures, ...changes.config })],
      [
        'tiny/model.safetensors',
        writeSafetensors(new Map<string, StoredTensor>([...entries, ...besides]), { format: 'pt' }),
      ],
      ['tiny/tokenizer.json', bytes(tokenizer)],
    ]),
  );
}

/** Loads a network with its own head, or as other options say. */
export function load(
  from: Tiny,
  head: HeadName,
  options: PretrainedOptions = {},
  changes: Changes = {},
): Promise<PretrainedModel> {
  return fromPretrained('tiny', { storage: folder(from, head, changes), task: heads[head].task, ...options });
}

/** A tensor of `expected`, or undefined. */
export function golden({ expected }: Pick<Tiny, 'expected'>, name: string): HostTensor | undefined {
  const tensor = expected.get(name);
  if (!tensor) return undefined;
  return tensor.dtype === 'I32'
    ? hostIntegers(Int32Array.from(tensor.data), tensor.shape)
    : hostTensor(toFloat32(tensor), tensor.shape);
}

/** The values of a tensor of `expected`. */
export function goldenValues(from: Pick<Tiny, 'expected'>, name: string): Float32Array {
  return floats(tensorAt({ [name]: golden(from, name) as HostTensor }, name), name);
}

/** A batch of `expected`; optionally with `further` columns of padding, and any content in the padding. */
export function batchOf(from: Tiny, number: number, { further = 0, filler = 0, head = 'classes' } = {}): Batch {
  const mask = tensorAt({ mask: golden(from, `${number}/attention_mask`) as HostTensor }, 'mask');
  const [rows = 0, tokens = 0] = mask.shape;
  const shape = [rows, tokens + further];
  const widened = (values: ArrayLike<number>, rest: number, isKept: (place: number) => boolean = () => true) =>
    Array.from({ length: rows * (tokens + further) }, (_, place) => {
      const [row, token] = [Math.floor(place / (tokens + further)), place % (tokens + further)];
      const at = row * tokens + token;
      return token < tokens && isKept(at) ? (values[at] as number) : rest;
    });
  const isToken = (at: number): boolean => mask.data[at] === 1;
  const ids = tensorAt({ ids: golden(from, `${number}/input_ids`) as HostTensor }, 'ids');
  const types = golden(from, `${number}/token_type_ids`);
  const labels = golden(from, `${head}/labels`) ?? hostIntegers(new Int32Array(rows), [rows]);
  return {
    inputs: {
      inputIds: hostIntegers(Int32Array.from(widened(ids.data, filler, isToken)), shape),
      attentionMask: hostTensor(Float32Array.from(widened(mask.data, 0)), shape),
      ...(types && { tokenTypeIds: hostIntegers(Int32Array.from(widened(types.data, 0)), shape) }),
    },
    labels,
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}

/** Batch 2, whose shorter texts end in padding tokens that are in the mask. */
export function endedBatch(from: Tiny): Batch {
  const batch = batchOf(from, 2, { filler: from.config.pad_token_id as number });
  const mask = tensorAt(batch.inputs, 'attentionMask');
  const all = hostTensor(new Float32Array(mask.data.length).fill(1), mask.shape);
  return { ...batch, inputs: { ...batch.inputs, attentionMask: all } };
}

/** The outputs of a model for a batch, row after row. */
export async function outputsOf(model: Model | PeftModel, batch: Batch, executor: Executor): Promise<Float32Array> {
  const [outputs] = await outputsOfAll(model, [batch], executor);
  return outputs ?? new Float32Array();
}

/** The outputs for batches of any sizes, on one graph. */
export async function outputsOfAll(
  model: Model | PeftModel,
  batches: readonly Batch[],
  executor: Executor,
): Promise<readonly Float32Array[]> {
  const outputs = await predict(model, batches, { executor });
  return batches.map(({ rows }) => Float32Array.from(outputs.splice(0, rows.length).flatMap((row) => [...row])));
}

/** The model with the input of its head as its output, by the head's first module or a tied table. */
export function withoutHead(model: Model): Model {
  const { path } = model.sites.find((site) => site.role === 'head' || site.path.startsWith('head.')) ?? {};
  const norm = model.sites.findLast(({ kind }) => kind === 'layerNorm')?.path;
  return {
    ...model,
    forward(scope, inputs) {
      let read: Tensor | undefined;
      const linear: typeof scope.linear = (at, x) => {
        if (at === path) read = x;
        return scope.linear(at, x);
      };
      const rmsNorm: typeof scope.rmsNorm = (at, ...rest) => {
        const normed = scope.rmsNorm(at, ...rest);
        if (path === undefined && at === norm) read = normed;
        return normed;
      };
      model.forward({ ...scope, linear, rmsNorm }, inputs);
      return read as Tensor;
    },
  };
}

/** The rows of a tensor [batch, tokens, width] at the tokens of a batch. */
export function tokenRows(values: Float32Array, { inputs }: Batch): number[] {
  const mask = tensorAt(inputs, 'attentionMask').data;
  const width = values.length / mask.length;
  return Array.from(mask).flatMap((isToken, at) => (isToken ? [...values.slice(at * width, (at + 1) * width)] : []));
}
