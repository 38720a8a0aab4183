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
  const changes = changesOf(file, architecture, family);
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
type Change = 'transposed' | 'one more' | { readonly heads: number };

/** Returns a function that gives the change of a tensor; undefined for none. */
function changesOf(file: GgufFile, architecture: string, family: Family): (tensor: string) => Change | undefined {
  const heads = metadataValue(file, `${architecture}.attention.head_count`);
  const ofModule: Readonly<Record<string, unknown>> = family.rotatesNeighbours
    ? { attn_q: heads, attn_k: metadataValue(file, `${architecture}.attention.head_count_kv`) ?? heads }
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

/** Transposes a tensor, of which the last row decides the first one. */
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
