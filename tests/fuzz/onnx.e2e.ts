import { expect, it } from 'vitest';
import { startChild, watched } from './watched.js';

const COUNT = 3000;

it(
  '3,000 mutated ONNX files are each computed or refused, in bounded time and memory',
  { timeout: 600_000 },
  async () => {
    const outcomes: string[] = [];
    const child = startChild(new URL('onnx-child.ts', import.meta.url), [String(COUNT)]);
    const { problem } = await watched(child, (line) => {
      if (line !== 'ready') outcomes.push(line);
    });
    expect(problem).toBe('');
    expect(outcomes).toHaveLength(COUNT);
    expect(new Set(outcomes)).toEqual(new Set(['read', 'refused']));
  },
);
