import { written, type Fields } from '../src/format/message.js';

/** Returns a ModelProto with a graph of these fields. */
export function modelProto(graph: Fields, opset: number): Uint8Array {
  const operators: Fields = [
    [1, ''],
    [2, opset],
  ];
  return written([
    [1, 8],
    [8, operators],
    [7, graph],
  ]);
}
