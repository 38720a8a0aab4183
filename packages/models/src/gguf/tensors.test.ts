import { fromFloat32, openGguf, writeGguf } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import { weightsOf } from './tensors.js';

it('orders the rows of a head that is in two pieces of the file', async () => {
  const [heads, rows, width] = [2, 96, 4096]; // a piece of 1 MB has 64 rows, a head 48
  const stored = Float32Array.from({ length: rows * width }, (_, at) => Math.floor(at / width));
  const bytes = writeGguf(
    { 'blk.0.attn_q.weight': fromFloat32('F32', [rows, width], stored) },
    {
      'general.architecture': { type: 'string', value: 'llama' },
      'llama.attention.head_count': { type: 'uint32', value: heads },
    },
  );
  const weights = weightsOf(await openGguf(bytesSource(bytes)), 'model.gguf');
  const order: number[] = [];
  for await (const { start, rows: some } of weights.pieces('model.layers.0.self_attn.q_proj.weight')) {
    expect(start).toBe(order.length);
    for (let at = 0; at < some.data.length; at += width) order.push(Number(some.data[at]));
  }
  const even = Array.from({ length: 24 }, (_, row) => 2 * row);
  const halves = [...even, ...even.map((row) => row + 1)];
  expect(order).toEqual([...halves, ...halves.map((row) => row + 48)]);
});
