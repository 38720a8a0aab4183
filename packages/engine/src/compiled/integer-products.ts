import { EngineError } from '@peftjs/core';
import { GraphBuilder } from './graph.js';
import { writeModel } from './onnx.js';
import type { OrtRuntime } from './runtime.js';

/** How the bytes of a weight are multiplied: as they are, or without a sign, held 128 higher. */
export type ByteType = 'int8' | 'uint8';

const [ROWS, INNER, COLUMNS] = [3, 67, 35]; // whole vectors of every width, and what is left of them

const known = new WeakMap<OrtRuntime, Promise<ByteType>>();

/**
 * How ONNX Runtime multiplies bytes exactly on this machine. Processors without VNNI add pairs of products of uint8 and int8 in
 * 16 bits, where the largest of them do not fit; uint8 by uint8 is slower there, and exact. Asked once, of products of the largest
 * numbers there are.
 *
 * @throws EngineError when neither is exact.
 */
export function exactBytes(runtime: OrtRuntime): Promise<ByteType> {
  const found = known.get(runtime) ?? firstExact(runtime);
  known.set(runtime, found);
  return found;
}

async function firstExact(runtime: OrtRuntime): Promise<ByteType> {
  for (const type of ['int8', 'uint8'] as const) if (await isExact(runtime, type)) return type;
  throw new EngineError(
    'ONNX Runtime does not multiply integers exactly on this processor; load the model with dtype: "fp32"',
  );
}

/** Whether products of bytes come out as they do in JavaScript. */
export async function isExact(runtime: OrtRuntime, type: ByteType): Promise<boolean> {
  const rows = Uint8Array.from({ length: ROWS * INNER }, (_, at) => (at % INNER < INNER / 2 ? 255 : (at * 37) % 256));
  const weight = Int8Array.from({ length: INNER * COLUMNS }, (_, at) => (at % 3 === 0 ? ((at * 29) % 255) - 127 : 127));
  const graph = new GraphBuilder();
  const [x, q] = [graph.input('x', 'uint8', [ROWS, INNER]), graph.input('q', type, [INNER, COLUMNS])];
  const zero = graph.constant(Uint8Array.of(128), 'uint8', []);
  const operands = [x, q, zero, ...(type === 'uint8' ? [zero] : [])];
  graph.output('y', graph.node('MatMulInteger', operands, [ROWS, COLUMNS], { dtype: 'int32' }));
  const session = await runtime.InferenceSession.create(writeModel(graph), { logSeverityLevel: 4 });
  try {
    const { [graph.outputs[0]?.name ?? '']: y } = await session.run({
      [x.name]: new runtime.Tensor('uint8', rows, [ROWS, INNER]),
      [q.name]: new runtime.Tensor(type, type === 'int8' ? weight : raised(weight), [INNER, COLUMNS]),
    });
    return exactProduct(rows, weight).every((sum, at) => sum === (y?.data as Int32Array)[at]);
  } finally {
    await session.release();
  }
}

/** Bytes with a sign as bytes without, 128 higher. */
export function raised(bytes: Int8Array): Uint8Array {
  const higher = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at++) higher[at] = (bytes[at] as number) + 128;
  return higher;
}

function exactProduct(rows: Uint8Array, weight: Int8Array): number[] {
  return Array.from({ length: ROWS * COLUMNS }, (_, at) => {
    const [row, column] = [Math.floor(at / COLUMNS), at % COLUMNS];
    let sum = 0;
    for (let inner = 0; inner < INNER; inner++) {
      sum += ((rows[row * INNER + inner] as number) - 128) * (weight[inner * COLUMNS + column] as number);
    }
    return sum;
  });
}
