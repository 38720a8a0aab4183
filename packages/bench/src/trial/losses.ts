import type { CausalData, EncodedData } from '@peftjs/tasks';

/** Rows of a task in tokens: those of a table, or of texts for a language model. */
export interface EncodedTask<Data extends EncodedData | CausalData = EncodedData | CausalData> {
  readonly train: Data;
  readonly selection: Data;
  readonly dev: Data;
  /** Sets that are reported beside `dev`, by name. */
  readonly alsoReported: Readonly<Record<string, Data>>;
}

/** What the rows of a task lose to their maximum length. */
export interface Losses {
  /** Rows that are cut, by set. */
  readonly truncated: Readonly<Record<string, number>>;
  /** Of prompts and conversations: rows of the files that are left out, since nothing is left of what they teach. */
  readonly leftOut?: Readonly<Record<'train' | 'dev', number>>;
}

/** Counts what is lost. */
export function lossesOf({ train, selection, dev, alsoReported }: EncodedTask): Losses {
  const sets = Object.entries({ train, selection, dev, ...alsoReported });
  const truncated = Object.fromEntries(sets.map(([set, data]) => [set, data.truncated]));
  if (!('leftOut' in train && 'leftOut' in dev)) return { truncated };
  return { truncated, leftOut: { train: train.leftOut, dev: dev.leftOut } };
}

/** A line about what a task loses; undefined where that is nothing. `most`: what the model reads. */
export function describeLosses(name: string, encoded: EncodedTask, most: number): string | undefined {
  const { train, selection, dev, alsoReported } = encoded;
  const { maxTokens } = train;
  const { leftOut = { train: 0, dev: 0 } } = lossesOf(encoded);
  const cut = Object.entries({ training: train, selection, dev, ...alsoReported })
    .filter(([, { truncated }]) => truncated > 0)
    .map(([set, { truncated, rows }]) => `${truncated} of ${rows.length} ${set} rows`);
  const out = Object.entries({ training: leftOut.train, dev: leftOut.dev })
    .filter(([, count]) => count > 0)
    .map(([set, count]) => `${count} ${set} ${count === 1 ? 'row' : 'rows'}`);
  const told = [
    ...(cut.length > 0 ? [`rows longer than ${maxTokens} tokens are cut: ${cut.join(', ')}`] : []),
    ...(out.length > 0
      ? [`left out, because nothing to learn is left within ${maxTokens} tokens: ${out.join(', ')}`]
      : []),
  ];
  if (told.length === 0) return undefined;
  return `${name}: ${told.join('; ')}; ${maxTokens < most ? 'raise the length with --max-tokens N' : 'the model reads no more than that'}`;
}
