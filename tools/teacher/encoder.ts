import { createRng, sizeOf, type Site } from '@peftjs/core/method';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bertShapes, tokenizer } from '../perf/cases.js';

/** The size of the random encoder that teacher and student share. */
export interface EncoderSize {
  readonly layers: number;
  /** Also the width between the two linear modules of a feed-forward layer: a rank costs the same in every module. */
  readonly hidden: number;
  readonly heads: number;
  readonly vocabulary: number;
  /** Outputs of the head. */
  readonly outputs: number;
}

/** The encoder of the tables: 24 modules. */
export const STANDARD: EncoderSize = { layers: 4, hidden: 32, heads: 4, vocabulary: 256, outputs: 8 };

/** The modules of an encoder that are adapted: all linear ones but the pooler, which belongs to no layer. */
export const TARGETS = { targetModules: 'all-linear', excludeModules: ['bert.pooler.dense'] } as const;

/**
 * Standard deviation of a weight, times the square root of what it sums over: 1 keeps the size of what goes through. Rows have to
 * stay apart on their way: where everything in the last layers is nearly the same for all of them, a change of one module
 * does what that of any other can do.
 */
const GAINS: readonly (readonly [RegExp, number])[] = [
  [/\.(query|key)\.weight$/, 1.5], // scores with a deviation of 2.25: attention is far from uniform
  [/\d\.output\.dense\.weight$/, 0.5], // gelu's mean is that of no row in particular
  [/(position|token_type)_embeddings\.weight$/, 0.1], // they are the same in all rows
  [/^classifier\.weight$/, 2], // what tanh takes from the pooler's output: logits have a deviation of about 1
];

/** A random BERT with a trained head, from a checkpoint as transformers saves it. */
export async function randomEncoder(size: EncoderSize, seed = 7): Promise<PretrainedModel> {
  const { layers, hidden, heads, vocabulary, outputs } = size;
  const shapes = {
    ...bertShapes({ layers, hidden, ffn: hidden, vocabulary }),
    'classifier.weight': [outputs, hidden],
    'classifier.bias': [outputs],
  };
  const tensors = Object.entries(shapes).map(([key, shape]) => [key, drawn(key, shape, seed)] as const);
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
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-teacher-'));
  try {
    await writeFile(join(folder, 'model.safetensors'), writeSafetensors(new Map(tensors), { format: 'pt' }));
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    return await fromPretrained(folder, { numLabels: outputs });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The modules of `TARGETS`, in the order of the forward pass. */
export function adaptedModules({ sites }: Pick<PretrainedModel, 'sites'>): Site[] {
  return sites.filter(({ kind, layer }) => kind === 'linear' && layer !== undefined);
}

/** A tensor as transformers orients it, [out, in]: gains of one, biases of zero, normal weights. */
function drawn(key: string, shape: readonly number[], seed: number): StoredTensor {
  const data = new Float32Array(sizeOf(shape));
  if (/LayerNorm\.weight$/.test(key)) return { dtype: 'F32', shape, data: data.fill(1) };
  if (key.endsWith('.bias')) return { dtype: 'F32', shape, data };
  const rng = createRng(seed).fork(key);
  const gain = GAINS.find(([pattern]) => pattern.test(key))?.[1] ?? 1;
  const std = key.includes('embeddings') ? gain : gain / Math.sqrt(shape[1] as number); // a table's rows are not summed over
  return { dtype: 'F32', shape, data: data.map(() => std * rng.normal()) };
}
