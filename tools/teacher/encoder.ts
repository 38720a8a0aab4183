import { createRng, sizeOf, type Site } from '@peftjs/core/method';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import type { StoredTensor } from '@peftjs/safetensors';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storedShapes, writeModelFolder } from '../perf/checkpoint.js';

/** The sizes of the random encoder that teacher and student share. */
export interface EncoderSize {
  /** Number of layers. */
  readonly layers: number;
  /** Width of the hidden states and of the feed-forward layers, so that a rank costs the same in every module. */
  readonly hidden: number;
  /** Attention heads in each layer. */
  readonly heads: number;
  /** Number of token embeddings. */
  readonly vocabulary: number;
  /** Number of outputs of the head. */
  readonly outputs: number;
}

/** The encoder behind the published tables, with 24 modules. */
export const STANDARD: EncoderSize = { layers: 4, hidden: 32, heads: 4, vocabulary: 256, outputs: 8 };

/** The adapted modules of an encoder: all linear ones except the pooler, which belongs to no layer. */
export const TARGETS = { targetModules: 'all-linear', excludeModules: ['bert.pooler.dense'] } as const;

/**
 * Standard deviations of weights, times the square root of the number of summed inputs; 1 keeps the size of the hidden
 * states. Rows must stay distinct through the layers: if the last layers' inputs were nearly equal for all rows, a
 * change of one module could be replaced by a change of any other.
 */
const GAINS: readonly (readonly [RegExp, number])[] = [
  [/\.(query|key)\.weight$/, 1.5], // scores have a standard deviation of 2.25: attention is far from uniform
  [/\d\.output\.dense\.weight$/, 0.5], // the mean of gelu's outputs is common to all rows
  [/(position|token_type)_embeddings\.weight$/, 0.1], // they are common to all rows
  [/^classifier\.weight$/, 2], // makes up for the pooler's tanh: logits have a standard deviation of about 1
];

/** Returns a random BERT with a random head, read from a checkpoint as transformers saves it. */
export async function randomEncoder(size: EncoderSize, seed = 7): Promise<PretrainedModel> {
  const { layers, hidden, heads, vocabulary, outputs } = size;
  const config = {
    model_type: 'bert',
    architectures: ['BertForSequenceClassification'],
    num_hidden_layers: layers,
    hidden_size: hidden,
    intermediate_size: hidden,
    num_attention_heads: heads,
    vocab_size: vocabulary,
    max_position_embeddings: 512,
  };
  const shapes = {
    ...storedShapes(config, 'sequence-classification'),
    'classifier.weight': [outputs, hidden],
    'classifier.bias': [outputs],
  };
  const tensors = Object.entries(shapes).map(([key, shape]) => [key, drawn(key, shape, seed)] as const);
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-teacher-'));
  try {
    await writeModelFolder(folder, config, new Map(tensors));
    return await fromPretrained(folder, { numLabels: outputs });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Returns the modules of `TARGETS`, in the order of the forward pass. */
export function adaptedModules({ sites }: Pick<PretrainedModel, 'sites'>): Site[] {
  return sites.filter(({ kind, layer }) => kind === 'linear' && layer !== undefined);
}

/** Returns a tensor in transformers' orientation, [out, in]: gains of one, biases of zero, or normal weights. */
function drawn(key: string, shape: readonly number[], seed: number): StoredTensor {
  const data = new Float32Array(sizeOf(shape));
  if (/LayerNorm\.weight$/.test(key)) return { dtype: 'F32', shape, data: data.fill(1) };
  if (key.endsWith('.bias')) return { dtype: 'F32', shape, data };
  const rng = createRng(seed).fork(key);
  const gain = GAINS.find(([pattern]) => pattern.test(key))?.[1] ?? 1;
  const std = key.includes('embeddings') ? gain : gain / Math.sqrt(shape[1] as number); // not a sum over rows
  return { dtype: 'F32', shape, data: data.map(() => std * rng.normal()) };
}
