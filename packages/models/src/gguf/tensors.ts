/** The tensors of a GGUF file with the names, values and order of rows that transformers has. */
import { hostTensor } from '@peftjs/core';
import { floats } from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { toFloat32, type GgufFile } from '@peftjs/gguf';
import type { TensorPiece } from '@peftjs/safetensors';
import type { WeightsFile } from '../folder.js';
import { fileError } from '../json.js';
import { architectureOf, metadataValue } from './config.js';
import type { Family } from './families.js';
import { ROPE_FACTORS } from './rope.js';

/**
 * Returns the weights as transformers names them, as float32. They are decoded when they are read, most of them in
 * pieces.
 * @throws CheckpointError for a tensor without a name in transformers.
 */
export function weightsOf(file: GgufFile, path: string): WeightsFile {
  const { name: architecture, family } = architectureOf(file, path);
  const named = file.names.filter((tensor) => tensor !== ROPE_FACTORS);
  const tensors = new Map(named.map((tensor) => [transformersName(tensor, family, path), tensor]));
  const tensorOf = (name: string): string => tensors.get(name) ?? name;
  const changes = changesOf(family, {
    queries: metadataValue(file, `${architecture}.attention.head_count`),
    keys: metadataValue(file, `${architecture}.attention.head_count_kv`),
  });
  return {
    names: [...tensors.keys()],
    spec(name) {
      const { shape } = file.spec(tensorOf(name));
      return { dtype: 'F32', shape: changes(tensorOf(name)) === 'transposed' ? [...shape].reverse() : shape };
    },
    async *pieces(name) {
      const change = changes(tensorOf(name));
      if (change === undefined) yield* decoded(file, tensorOf(name));
      else yield await changed(file, tensorOf(name), change);
    },
    close: () => file.close(),
  };
}

const TENSOR = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/;

function transformersName(tensor: string, { modules, layers, layerModules }: Family, path: string): string {
  const [, layer, module = '', end = ''] = TENSOR.exec(tensor) ?? [];
  const name = (layer === undefined ? modules : layerModules)[module];
  if (name !== undefined) return `${layer === undefined ? '' : `${layers}${layer}.`}${name}.${end}`;
  throw fileError(path, `tensor '${tensor}' is not supported and may change the network's outputs`);
}

/** How a tensor differs from that of transformers: its axes, or the order of the rows of so many heads. */
export type Change = 'transposed' | { readonly heads: number };

/** The numbers of heads of queries and of keys. */
export interface Heads {
  readonly queries: unknown;
  readonly keys: unknown;
}

/** Returns a function that gives the change of a tensor; undefined for none. */
export function changesOf(family: Family, { queries, keys }: Heads): (tensor: string) => Change | undefined {
  const ofModule: Readonly<Record<string, unknown>> = family.rotatesNeighbours
    ? { attn_q: queries, attn_k: keys ?? queries }
    : {};
  return (tensor) => {
    const [, , module = '', end] = TENSOR.exec(tensor) ?? [];
    if (end === 'weight' && family.transposes?.includes(module)) return 'transposed';
    return ofModule[module] === undefined ? undefined : { heads: Number(ofModule[module]) };
  };
}

async function* decoded(file: GgufFile, tensor: string): AsyncIterable<TensorPiece> {
  let memory: Float32Array | undefined;
  for await (const { start, rows } of file.pieces(tensor)) {
    const data = toFloat32(rows, memory);
    memory ??= data;
    yield { start, rows: { dtype: 'F32', shape: rows.shape, data } };
  }
}

/** Returns a whole tensor. */
async function changed(file: GgufFile, tensor: string, change: Change): Promise<TensorPiece> {
  const stored = await file.read(tensor);
  const values = toFloat32(stored);
  const [rows = 1, columns = 1] = stored.shape;
  return change === 'transposed'
    ? {
        start: 0,
        rows: { dtype: 'F32', shape: [columns, rows], data: floats(transposed(hostTensor(values, [rows, columns]))) },
      }
    : { start: 0, rows: { dtype: 'F32', shape: stored.shape, data: reordered(values, rows, change.heads) } };
}

/** Moves the even rows of each head before its odd ones, or `back`. */
function reordered(values: Float32Array, rows: number, heads: number, back = false): Float32Array {
  const data = new Float32Array(values.length);
  const [width, half] = [values.length / rows, rows / heads / 2];
  for (let row = 0; row < rows; row++) {
    const [head, within] = [Math.floor(row / (2 * half)), row % (2 * half)];
    const neighbour = head * 2 * half + (within < half ? 2 * within : 2 * (within - half) + 1);
    const [from, to] = back ? [row, neighbour] : [neighbour, row];
    data.set(values.subarray(from * width, (from + 1) * width), to * width);
  }
  return data;
}

/**
 * Returns the name in llama.cpp of a tensor of transformers; undefined if the architecture has no such tensor.
 * @param name e.g. `model.layers.0.self_attn.q_proj.weight`
 */
export function ggufName(name: string, { modules, layers, layerModules }: Family): string | undefined {
  const dot = name.lastIndexOf('.');
  const [path, end] = [name.slice(0, dot), name.slice(dot + 1)];
  const inLayer = path.startsWith(layers) ? /^(\d+)\.(.+)$/.exec(path.slice(layers.length)) : null;
  const [table, own] = inLayer ? [layerModules, inLayer[2]] : [modules, path];
  const module = Object.keys(table).find((key) => table[key] === own);
  return module === undefined ? undefined : `${inLayer ? `blk.${inLayer[1]}.` : ''}${module}.${end}`;
}

/** Returns a tensor of transformers as llama.cpp holds it. */
export function changedBack({ shape, data }: Values, change: Change | undefined): Values {
  if (change === undefined) return { shape, data };
  const [rows = 1, columns = 1] = shape;
  if (change !== 'transposed') return { shape, data: reordered(data, rows, change.heads, true) };
  return { shape: [columns, rows], data: floats(transposed(hostTensor(data, [rows, columns]))) };
}

/** A tensor in float32. */
export interface Values {
  /** The outermost axis first. */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}
