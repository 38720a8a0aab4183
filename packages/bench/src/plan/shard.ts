import { ConfigError } from '@peftjs/core';
import type { Study } from './study.js';

/** A share of a run's trials: every `of`-th, from the `index`-th on, counted from 0. */
export interface Shard {
  readonly index: number;
  readonly of: number;
}

/** Reads `2/8`, the third of eight. @throws ConfigError for anything else. */
export function parseShard(text: string): Shard {
  const [, index, of] = (/^(\d{1,6})\/(\d{1,6})$/.exec(text) ?? []).map(Number);
  if (index !== undefined && of !== undefined && index < of) return { index, of };
  throw new ConfigError(`--shard is '${text}'; expected I/N with I from 0 to N - 1, such as 0/4`, 'shard');
}

/** The trials of a share, in their order. */
export function shardOf<T>(trials: readonly T[], { index, of }: Shard): T[] {
  return trials.filter((_, position) => position % of === index);
}

/** Shares know nothing of one another, so that they cannot agree on learning rates. @throws ConfigError for a study that tunes. */
export function assertSharable({ tuning }: Study): void {
  if (!tuning) return;
  throw new ConfigError(
    'a run in shares tunes no learning rates, and this study does; set "tuning" to null in --config, or run it with --queue',
    'shard',
  );
}
