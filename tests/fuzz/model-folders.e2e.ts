import { expect, it } from 'vitest';
import { drawn } from './drawn.js';
import { startChild, watched } from './watched.js';

const COUNT = drawn(5000);
const CHILDREN = 2;
const SEED = 2;
const SCRIPT = new URL('model-folders-child.ts', import.meta.url);

/** What became of some folders. */
interface Results {
  readonly outcomes: string[];
  readonly problems: string[];
  growth: number;
}

/** Has children read the folders from one number up to another. A child that fails is replaced behind that folder. */
async function readAll(from: number, to: number, results: Results): Promise<void> {
  for (let next = from; next < to;) {
    const child = startChild(SCRIPT, [String(next), String(to - next), String(SEED)]);
    const { problem, growth } = await watched(child, (line) => {
      const [number, outcome] = line.split(' ');
      if (outcome === undefined) return;
      results.outcomes.push(outcome);
      next = Number(number) + 1;
    });
    results.growth = Math.max(results.growth, growth);
    if (problem === '') continue;
    results.problems.push(`folder ${next}: ${problem.slice(-2000)}`);
    next++;
  }
}

it(
  'damaged folders are each read and used, or refused, in bounded time and memory',
  { timeout: 1_800_000 },
  async () => {
    const results: Results = { outcomes: [], problems: [], growth: 0 };
    const share = COUNT / CHILDREN;
    await Promise.all(
      Array.from({ length: CHILDREN }, (_, child) => readAll(child * share, (child + 1) * share, results)),
    );
    expect(results.problems).toEqual([]);
    expect(results.outcomes).toHaveLength(COUNT);
    expect(new Set(results.outcomes)).toEqual(new Set(['read', 'refused']));
  },
);
