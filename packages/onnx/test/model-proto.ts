import { written, type Fields, type Part } from '../src/format/message.js';

/** Returns a ModelProto with a graph of these fields. */
export function modelProto(graph: Fields | readonly Part[], opset: number): Uint8Array {
  return written({ 1: 8, 7: written(graph), 8: { 1: '', 2: opset } });
}
