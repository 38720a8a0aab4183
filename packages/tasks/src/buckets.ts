import { ConfigError } from '@peftjs/core';

/** Rows of tokens, as far as batches are concerned. */
export interface TokenRows {
  readonly rows: readonly { readonly ids: Int32Array }[];
  /** No row is longer. */
  readonly maxTokens: number;
}

/** Rows of one batch, by number, and the tokens that each is padded to. */
export interface BatchPlan {
  readonly rows: readonly number[];
  readonly tokens: number;
}

/** What `chooseBuckets` balances. */
export interface BucketOptions {
  readonly batchSize: number;
  /** Most lengths to use: the step is compiled once for each. Default 6. */
  readonly maxShapes?: number | undefined;
  /** Lengths are multiples of it, but for one that `maxTokens` cuts. Default 8. */
  readonly multipleOf?: number | undefined;
}

/**
 * The lengths, at most `maxShapes`, that leave the fewest positions to compute in the batches of these data: an exact optimum, by
 * dynamic programming over the longest bucket. Data that share their lengths share their compiled steps.
 * @returns tokens, ascending; the last one holds the longest row
 */
export function chooseBuckets(data: readonly TokenRows[], options: BucketOptions): number[] {
  const { batchSize, maxShapes = 6, multipleOf = 8 } = options;
  for (const [name, value] of Object.entries({ batchSize, maxShapes, multipleOf })) checkPositive(name, value);
  const lengths = candidates(data, multipleOf);
  // batchesWithin[i]: batches that need no more than lengths[i] tokens
  const batchesWithin = lengths.map((length) => batchesUpTo(data, length, batchSize));
  // best[i]: the cheapest buckets of which lengths[i] is the longest
  let best = lengths.map((length, i) => ({ cost: length * (batchesWithin[i] as number), buckets: [length] }));
  for (let shapes = 2; shapes <= maxShapes; shapes++) {
    const shorter = best;
    best = shorter.map((alone, i) => {
      const length = lengths[i] as number;
      const options = shorter.slice(0, i).map(({ cost, buckets }, j) => ({
        cost: cost + length * ((batchesWithin[i] as number) - (batchesWithin[j] as number)),
        buckets: [...buckets, length],
      }));
      return options.reduce((least, option) => (option.cost < least.cost ? option : least), alone);
    });
  }
  return best.at(-1)?.buckets ?? [];
}

/**
 * Cuts rows, in the order given, into batches of one bucket each. Rows that fill no batch of their bucket go up into the next;
 * only the first batch, of the shortest rows, may hold fewer than `batchSize`. How many batches there are of each bucket
 * depends on the lengths alone, not on the order.
 */
export function planBatches(
  data: TokenRows,
  order: Iterable<number>,
  { batchSize, buckets }: { readonly batchSize: number; readonly buckets: readonly number[] },
): BatchPlan[] {
  const pools = buckets.map((): number[] => []);
  for (const row of order) pools[bucketOf(data, row, buckets)]?.push(row);
  const plans: BatchPlan[] = [];
  let size = data.rows.length % batchSize || batchSize;
  let waiting: number[] = [];
  pools.forEach((pool, bucket) => {
    waiting = waiting.concat(pool);
    let start = 0;
    for (; waiting.length - start >= size; size = batchSize) {
      plans.push({ rows: waiting.slice(start, start + size), tokens: buckets[bucket] as number });
      start += size;
    }
    waiting = waiting.slice(start);
  });
  return plans;
}

/** @throws ConfigError unless the buckets ascend and hold the longest row. */
export function checkBuckets(data: TokenRows, buckets: readonly number[]): void {
  buckets.forEach((tokens, index) => {
    checkPositive('buckets', tokens);
    if (tokens <= (buckets[index - 1] ?? 0)) {
      throw new ConfigError(`expected the buckets to ascend, got ${buckets.join(', ')}`, 'buckets');
    }
  });
  const longest = longestRow(data);
  if (longest > (buckets.at(-1) ?? 0)) {
    const came = buckets.join(', ') || 'none';
    throw new ConfigError(`expected a bucket for the ${longest} tokens of the longest row, got ${came}`, 'buckets');
  }
}

/** @throws ConfigError unless `value` is a positive integer. */
export function checkPositive(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new ConfigError(`expected ${name} to be a positive integer, got ${value}`, name);
}

function candidates(data: readonly TokenRows[], multipleOf: number): number[] {
  const longest = Math.max(1, ...data.map(longestRow));
  const lengths: number[] = [];
  for (let length = multipleOf; length < longest; length += multipleOf) lengths.push(length);
  const last = Math.ceil(longest / multipleOf) * multipleOf;
  return [...lengths, Math.max(longest, Math.min(last, ...data.map(({ maxTokens }) => maxTokens)))];
}

/** Batches are filled from the shortest row on, after the places that stay empty. */
function batchesUpTo(data: readonly TokenRows[], tokens: number, batchSize: number): number {
  return data.reduce((batches, { rows }) => {
    const empty = (batchSize - (rows.length % batchSize)) % batchSize;
    const fitting = rows.reduce((count, { ids }) => count + (ids.length <= tokens ? 1 : 0), 0);
    return batches + Math.floor((empty + fitting) / batchSize);
  }, 0);
}

function bucketOf({ rows }: TokenRows, row: number, buckets: readonly number[]): number {
  const length = rows[row]?.ids.length ?? 0;
  return buckets.findIndex((tokens) => length <= tokens);
}

function longestRow({ rows }: TokenRows): number {
  return rows.reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
}
