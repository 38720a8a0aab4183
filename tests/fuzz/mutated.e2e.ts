import { expect, it } from 'vitest';
import { startChild, watched } from './watched.js';

const COUNT = 3000;

it.each(['GGUF', 'ONNX'])(
  '3,000 mutated %s files are each read or refused, in bounded time and memory',
  { timeout: 600_000 },
  async (format) => {
    const outcomes: string[] = [];
    const child = startChild(new URL('mutated-child.ts', import.meta.url), [format, String(COUNT)]);
    const { problem } = await watched(child, (line) => {
      if (line !== 'ready') outcomes.push(line);
    });
    expect(problem).toBe('');
    expect(outcomes).toHaveLength(COUNT);
    expect(new Set(outcomes)).toEqual(new Set(['read', 'refused']));
  },
);
