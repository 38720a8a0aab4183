import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Tensor } from '@tensorflow/tfjs-core';
import { hostTensor, memoryStorage, type Executor, type Storage } from '@peftjs/core';
import { hostIntegers, tensorAt, type HostTensor, type HostTensors, type Tensors } from '@peftjs/core/method';
import { specOf, type Scope } from '@peftjs/core/model';
import { embedding, layerNorm, linear, rmsNorm } from '@peftjs/core/nn';
import type { Encoding, PretrainedModel } from '@peftjs/models';

/** A random BERT with three layers and a width of 32, saved by transformers. */
export const bertFolder = fileURLToPath(new URL('fixtures/bert-tiny', import.meta.url));

/** The files that a model is read from. */
export const bertFiles = Object.fromEntries(
  ['config.json', 'tokenizer.json', 'model.safetensors'].map(
    (name) => [name, new Uint8Array(readFileSync(`${bertFolder}/${name}`))] as const,
  ),
);

/** Texts by number, padded to the longest, and the network's outputs for them. */
interface GoldenBatch {
  readonly rows: readonly number[];
  readonly logits: readonly number[][];
  readonly pooled: readonly number[][];
  readonly mean: readonly number[][];
}

/** The outputs of transformers. */
export const expected = JSON.parse(readFileSync(`${bertFolder}/expected.json`, 'utf8')) as {
  /** A text or a pair, and its tokens. */
  readonly texts: readonly { texts: [text: string, pair?: string]; ids: number[]; typeIds: number[] }[];
  /** The same texts, truncated. */
  readonly cuts: readonly { row: number; maxTokens: number; ids: number[]; typeIds: number[] }[];
  readonly batches: readonly GoldenBatch[];
  /** The same weights with other settings in config.json. */
  readonly otherSettings: GoldenBatch & { readonly settings: Readonly<Record<string, number>> };
};

/** The files of the folder in memory, as `bert`, with some of them replaced or removed. */
export function bertInMemory(changed: Readonly<Record<string, Uint8Array | undefined>> = {}): Storage {
  const files = { ...bertFiles, ...changed };
  return memoryStorage(
    new Map(Object.entries(files).flatMap(([name, bytes]) => (bytes ? [[`bert/${name}`, bytes] as const] : []))),
  );
}

/** The tokens of one of the texts in `expected`. */
export function encodingOf(model: PretrainedModel, row: number): Encoding {
  return model.tokenizer.encode(...(expected.texts[row]?.texts ?? ['']));
}

/** The inputs for some rows, padded to `length` with `padding`. */
export function inputsOf(
  rows: readonly Encoding[],
  length = Math.max(...rows.map(({ ids }) => ids.length)),
  padding = 0,
): HostTensors {
  const shape = [rows.length, length];
  const filled = (values: readonly number[] = [], rest = padding) =>
    Array.from({ length }, (_, position) => values[position] ?? rest);
  return {
    inputIds: hostIntegers(Int32Array.from(rows.flatMap(({ ids }) => filled(ids))), shape),
    tokenTypeIds: hostIntegers(Int32Array.from(rows.flatMap(({ typeIds }) => filled(typeIds, +(padding > 0)))), shape),
    attentionMask: hostTensor(
      Float32Array.from(
        rows.flatMap(({ ids }) =>
          filled(
            ids.map(() => 1),
            0,
          ),
        ),
      ),
      shape,
    ),
  };
}

/** A scope with a model's modules unchanged; `inputs` has its weights. */
export function plainScope(inputs: Tensors): Scope {
  const weight = (name: string): Tensor => tensorAt(inputs, name);
  return {
    weight,
    linear: (path, x) => linear(x, weight(`${path}.weight`), weight(`${path}.bias`)),
    embedding: (path, ids) => embedding(weight(`${path}.weight`), ids),
    layerNorm: (path, x, epsilon) => layerNorm(x, weight(`${path}.weight`), weight(`${path}.bias`), epsilon),
    rmsNorm: (path, x, epsilon) => rmsNorm(x, weight(`${path}.weight`), epsilon),
    dropout: (_, x) => x,
  };
}

/** The logits, the input of the head, and the sentence embedding, row after row. */
export async function outputsOf(
  executor: Executor,
  model: PretrainedModel,
  inputs: HostTensors,
): Promise<Record<'logits' | 'pooled' | 'mean', Float32Array>> {
  const values = await run(executor, { ...model.weights, ...inputs }, (tensors) => {
    const scope = plainScope(tensors);
    const read: Tensor[] = [];
    const linear: Scope['linear'] = (path, x) => {
      if (model.head.includes(path)) read.push(x);
      return scope.linear(path, x);
    };
    const logits = model.forward({ ...scope, linear }, tensors);
    return { logits, pooled: read[0] as Tensor, mean: model.encode(scope, tensors) };
  });
  const data = (name: string): Float32Array => tensorAt(values, name).data as Float32Array;
  return { logits: data('logits'), pooled: data('pooled'), mean: data('mean') };
}

/** Compiles and calls a pure function once on an executor. */
async function run(
  executor: Executor,
  inputs: HostTensors,
  fn: (tensors: Tensors) => Tensors,
): Promise<Record<string, HostTensor>> {
  const specs = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, specOf(tensor)]));
  const compiled = await executor.compile(fn, specs);
  const values = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, executor.upload(tensor)]));
  const outputs = await compiled.run(values);
  const downloaded = Object.entries(outputs).map(
    async ([name, value]) => [name, await executor.download(value)] as const,
  );
  const results = Object.fromEntries(await Promise.all(downloaded));
  for (const value of [...Object.values(values), ...Object.values(outputs)]) executor.release(value);
  await compiled.dispose();
  return results;
}
