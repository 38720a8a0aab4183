/** The tensors of a GGUF file with the names, values and order of rows that transformers has. */
import { hostTensor } from '@peftjs/core';
import { floats, sizeOf } from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { toFloat32, type GgufFile } from '@peftjs/gguf';
import type { StoredTensor } from '@peftjs/safetensors';
import type { WeightsFile } from '../folder.js';
import { fileError } from '../json.js';
import { architectureOf, metadataValue } from './config.js';
import type { Family } from './families.js';
import { ROPE_FACTORS } from './rope.js';

/**
 * Returns the weights as transformers names them, as float32. They are decoded when they are read, in pieces.
 * @throws CheckpointError for a tensor without a name in transformers.
 */
export function weightsOf(file: GgufFile, path: string): WeightsFile {
  const { name: architecture, family } = architectureOf(file, path);
  const named = file.names.filter((tensor) => !ROPE_FACTORS.includes(tensor));
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
    pieces(name) {
      const tensor = tensorOf(name);
      const change = changes(tensor);
      if (change === 'transposed') return wholeTransposed(file, tensor);
      const pieces = decoded(file, tensor);
      if (change === 'one more') return oneLess(pieces);
      return change ? halved(pieces, file.spec(tensor).shape, change.heads) : pieces;
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

/** How a tensor differs from that of transformers: its axes, its values, or the order of the rows of so many heads. */
export type Change = 'transposed' | 'one more' | { readonly heads: number };

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
    if (family.addsOne && module.endsWith('norm')) return 'one more';
    return ofModule[module] === undefined ? undefined : { heads: Number(ofModule[module]) };
  };
}

/** A tensor in pieces: rows from `start` on. Each piece overwrites the memory of the previous one. */
type Pieces = AsyncIterable<{ readonly start: number; readonly rows: StoredTensor & { readonly dtype: 'F32' } }>;

async function* decoded(file: GgufFile, tensor: string): Pieces {
  let memory: Float32Array | undefined;
  for await (const { start, rows } of file.pieces(tensor)) {
    const data = toFloat32(rows, memory);
    memory ??= data;
    yield { start, rows: { dtype: 'F32', shape: rows.shape, data } };
  }
}

/** Transposes a tensor as a whole: a row of the result has a value of every stored row. */
async function* wholeTransposed(file: GgufFile, tensor: string): Pieces {
  const stored = await file.read(tensor);
  const [rows = 1, columns = 1] = stored.shape;
  const data = floats(transposed(hostTensor(toFloat32(stored), [rows, columns])));
  yield { start: 0, rows: { dtype: 'F32', shape: [columns, rows], data } };
}

async function* oneLess(pieces: Pieces): Pieces {
  for await (const piece of pieces) {
    const { data } = piece.rows;
    for (let at = 0; at < data.length; at++) data[at] = (data[at] as number) - 1;
    yield piece;
  }
}

/** Moves the even rows of each head before its odd ones, head by head. */
async function* halved(pieces: Pieces, [rows = 1, ...row]: readonly number[], heads: number): Pieces {
  const size = rows / heads;
  const width = sizeOf(row);
  const data = new Float32Array(size * width);
  for await (const { start, rows: some } of pieces) {
    for (let at = 0; at < some.data.length / width; at++) {
      const within = (start + at) % size;
      const to = within % 2 === 0 ? within / 2 : (size + within - 1) / 2;
      data.set(some.data.subarray(at * width, (at + 1) * width), to * width);
      if (within === size - 1)
        yield { start: start + at - within, rows: { dtype: 'F32', shape: [size, ...row], data } };
    }
  }
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
  if (change === 'one more') return { shape, data: data.map((value) => value + 1) };
  const [rows = 1, columns = 1] = shape;
  if (change !== 'transposed') return { shape, data: interleaved(data, rows, change.heads) };
  return { shape: [columns, rows], data: floats(transposed(hostTensor(data, [rows, columns]))) };
}

/** A tensor in float32. */
export interface Values {
  /** The outermost axis first. */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** Moves the rows of the second half of each head between those of the first. */
function interleaved(values: Float32Array, rows: number, heads: number): Float32Array {
  const data = new Float32Array(values.length);
  const [width, size] = [values.length / rows, rows / heads];
  for (let row = 0; row < rows; row++) {
    const within = row % size;
    const to = row - within + (within < size / 2 ? 2 * within : 2 * within - size + 1);
    data.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return data;
}
