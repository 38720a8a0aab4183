import { CheckpointError } from '@peftjs/core/method';
import type { Folder } from '@peftjs/models';
import type { ByteSource } from '@peftjs/safetensors';

/** The graphs that an export writes, by their paths in its folder. */
const GRAPHS = ['onnx/model.onnx', 'onnx/model_quantized.onnx'];

/** Weights of a model that peftjs loads: a folder that has them is more than an export. */
const WEIGHTS = ['model.safetensors', 'model.safetensors.index.json'];

/** The graphs of an ONNX export; none for any other folder. */
export async function exportedGraphs({ path, storage }: Folder): Promise<string[]> {
  const existing = async (files: readonly string[]): Promise<string[]> => {
    const found = await Promise.all(files.map((file) => storage.exists(`${path}/${file}`)));
    return files.filter((_, index) => found[index]);
  };
  const graphs = await existing(GRAPHS);
  return graphs.length > 0 && (await existing(WEIGHTS)).length === 0 ? graphs : [];
}

/** An input or output of a graph. */
export interface OnnxValue {
  readonly name: string;
  readonly type: string;
  /** The length of each axis; the name of one of any length. */
  readonly shape: readonly string[];
}

/** What a graph takes and returns. */
export interface OnnxSignature {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

/*
 * The parts of ONNX's protobuf messages that name the inputs and outputs, by their field numbers:
 *
 *   ModelProto.graph 7, GraphProto.input 11, .output 12, ValueInfoProto.name 1, .type 2, TypeProto.tensor_type 1,
 *   TypeProto.Tensor.elem_type 1, .shape 2, TensorShapeProto.dim 1, Dimension.dim_value 1, .dim_param 2
 */

/** Names of `elem_type`, by number. */
const TYPES: Readonly<Record<number, string>> = { 1: 'float32', 6: 'int32', 7: 'int64', 9: 'bool', 10: 'float16' };

/**
 * Reads the inputs and outputs of an ONNX file. Weights are skipped, so that a large file is read in milliseconds.
 * @throws CheckpointError when the file is not ONNX.
 */
export async function onnxSignature(file: ByteSource, path: string): Promise<OnnxSignature> {
  const inputs: OnnxValue[] = [];
  const outputs: OnnxValue[] = [];
  try {
    for await (const graph of fields(file, { from: 0, to: file.size })) {
      if (graph.number !== 7) continue;
      for await (const { number, ...range } of fields(file, graph)) {
        if (number === 11) inputs.push(await valueIn(file, range));
        if (number === 12) outputs.push(await valueIn(file, range));
      }
    }
  } catch (cause) {
    throw new CheckpointError(`${path}: expected an ONNX file, got other or incomplete content`, path, cause);
  }
  if (outputs.length > 0) return { inputs, outputs };
  throw new CheckpointError(`${path}: expected an ONNX file, got one without outputs`, path);
}

/** A part of a file: a message, or the place of a number. */
interface Range {
  readonly from: number;
  readonly to: number;
}

interface Field extends Range {
  readonly number: number;
  /** The value of a field that is a number. */
  readonly value: number;
}

/** The most fields of a message: a graph has one for each node and each weight. */
const MAX_FIELDS = 100_000;

/** The longest key and length of a field, in bytes. */
const HEAD_BYTES = 20;

/** Reads the heads of a message's fields, without their content. @throws CheckpointError for a field that does not fit. */
async function* fields(file: ByteSource, { from, to }: Range): AsyncGenerator<Field> {
  for (let at = from, count = 0; at < to; count++) {
    if (count === MAX_FIELDS) throw new CheckpointError(`expected at most ${MAX_FIELDS} fields in a message`);
    const head = await file.read(at, Math.min(HEAD_BYTES, to - at));
    const [key, keyBytes] = varint(head, 0);
    const [length, lengthBytes] = varint(head, keyBytes);
    const start = at + keyBytes;
    const ends: Readonly<Record<number, number>> = { 0: lengthBytes, 1: 8, 2: lengthBytes + length, 5: 4 };
    const end = start + (ends[key % 8] ?? Infinity);
    if (end > to) throw new CheckpointError('expected fields within their message');
    yield { number: Math.floor(key / 8), value: length, from: start + (key % 8 === 2 ? lengthBytes : 0), to: end };
    at = end;
  }
}

/** A number of 7 bits per byte, and how many bytes it has. */
function varint(bytes: Uint8Array, from: number): [value: number, bytes: number] {
  let value = 0;
  for (let index = 0; from + index < bytes.length; index++) {
    const byte = bytes[from + index] as number;
    value += (byte % 128) * 128 ** index;
    if (byte < 128) return [value, index + 1];
  }
  return [value, bytes.length - from];
}

/** The first field with each number in turn, from a message inward. */
async function inner(file: ByteSource, range: Range, ...path: readonly number[]): Promise<Field | undefined> {
  const [next, ...rest] = path;
  for await (const field of fields(file, range)) {
    if (field.number === next) return rest.length === 0 ? field : inner(file, field, ...rest);
  }
  return undefined;
}

/** The longest name, in bytes. */
const MAX_NAME = 1000;

async function textIn(file: ByteSource, range: Range | undefined): Promise<string> {
  if (!range) return '';
  return new TextDecoder().decode(await file.read(range.from, Math.min(MAX_NAME, range.to - range.from)));
}

async function valueIn(file: ByteSource, range: Range): Promise<OnnxValue> {
  const type = (await inner(file, range, 2, 1, 1))?.value ?? 0;
  const dims = await inner(file, range, 2, 1, 2);
  const shape: string[] = [];
  for await (const dim of dims ? fields(file, dims) : []) {
    const length = await inner(file, dim, 1);
    shape.push(length ? String(length.value) : await textIn(file, await inner(file, dim, 2)));
  }
  return { name: await textIn(file, await inner(file, range, 1)), type: TYPES[type] ?? `type ${type}`, shape };
}
