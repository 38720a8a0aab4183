import { createRng, sizeOf } from '@peftjs/core/method';
import type { Task } from '@peftjs/core/model';
import { weightShapes } from '@peftjs/models/architectures';
import { writeSafetensors, type StoredTensor } from '@peftjs/safetensors';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { modelTypes } from '../../packages/models/src/architectures/model-types.js';

/** A config.json of transformers. */
export type ModelConfig = Readonly<Record<string, unknown>> & { readonly model_type: string };

/** The tensors of a checkpoint by their keys in transformers. */
type Stored = ReadonlyMap<string, StoredTensor>;

/**
 * Writes a model folder of transformers with random weights: gains of one, biases of zero, and matrices with values
 * from -0.03 to 0.03, in float32 unless `torch_dtype` is bfloat16.
 */
export async function writeRandomModel(folder: string, config: ModelConfig, task: Task): Promise<void> {
  const shapes = Object.entries(storedShapes(config, task));
  const isHalf = config['torch_dtype'] === 'bfloat16';
  const stored = (length: number, value: () => number): Float32Array | Uint16Array =>
    isHalf ? bfloat16(length, value) : new Float32Array(length).map(value);
  const rng = createRng(7);
  const drawn = stored(2 * Math.max(...shapes.map(([, shape]) => sizeOf(shape))), () => 0.06 * (rng.uniform() - 0.5));
  const dataOf = (key: string, size: number): Float32Array | Uint16Array => {
    if (key.endsWith('.bias')) return stored(size, () => 0);
    if (/norm\.weight$/i.test(key)) return stored(size, () => 1);
    const start = rng.integer(drawn.length - size); // tensors overlap, to save the time of drawing each
    return drawn.subarray(start, start + size);
  };
  const tensors = shapes.map(([key, shape]): [string, StoredTensor] => {
    const data = dataOf(key, sizeOf(shape));
    return [key, data instanceof Uint16Array ? { dtype: 'BF16', shape, data } : { dtype: 'F32', shape, data }];
  });
  await writeModelFolder(folder, config, new Map(tensors));
}

/** Writes a model folder of transformers. Its tokenizer is a placeholder: batches are random token ids. */
export async function writeModelFolder(folder: string, config: ModelConfig, tensors: Stored): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'model.safetensors'), writeSafetensors(tensors, { format: 'pt' }));
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(TOKENIZER));
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
}

const TOKENIZER = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1 } },
};

/** Returns the shapes of a model's weights without its head, as transformers stores them: linear ones as [out, in]. */
export function storedShapes(config: ModelConfig, task: Task): Record<string, readonly number[]> {
  const type = modelTypes.find(({ name }) => name === config.model_type);
  if (!type) throw new RangeError(`no model_type '${config.model_type}'`);
  const network = type.architecture({ file: 'config.json', settings: config, read: new Set() }, task);
  const shapes = weightShapes(network);
  for (const { path, kind, inFeatures, outFeatures, fanInFanOut } of [...network.sites, ...network.encodeOnly]) {
    if (kind === 'linear' && !fanInFanOut) shapes[`${path}.weight`] = [outFeatures, inFeatures];
  }
  return shapes;
}

/** Returns the upper 16 bits of float32 values. */
function bfloat16(length: number, value: () => number): Uint16Array {
  const one = new Float32Array(1);
  const bits = new Uint16Array(one.buffer);
  return new Uint16Array(length).map(() => {
    one[0] = value();
    return bits[1] as number;
  });
}
