import type { Kind, Profile, Share } from '../perf/profile.js';
import { markdownTable } from './page.js';

const KINDS: readonly Kind[] = ['frozen products', 'attention', 'adapters and head', 'no product'];
/** Operators that are named under what is no product. */
const NAMED = 6;

/** Where the time of each profiled step goes, and the processor. */
export function profileTable(profiles: readonly Profile[]): string {
  const head = profiles.map(({ shape, dtype }) => `${shape}, ${dtype}`);
  const kinds = KINDS.map((kind) => [
    kind,
    ...profiles.map(({ shares }) => cell(shares.filter((each) => each.kind === kind))),
  ]);
  const operators = costliest(profiles).map((name) => [
    `- ${name}`,
    ...profiles.map(({ shares }) =>
      cell(shares.filter(({ kind, operator }) => kind === 'no product' && operator === name)),
    ),
  ]);
  const cpus = [...new Set(profiles.map(({ cpu, threads }) => `${cpu}, ${threads} threads`))].join('; ');
  return [markdownTable(['', ...head], [...kinds, ...operators]), `Processor: ${cpus}.`].join('\n\n');
}

function cell(shares: readonly Share[]): string {
  return `${(100 * shares.reduce((sum, { share }) => sum + share, 0)).toFixed(1)} %`;
}

/** The operators without a product that take most of all steps together. */
function costliest(profiles: readonly Profile[]): string[] {
  const sums = new Map<string, number>();
  for (const { kind, operator, share } of profiles.flatMap(({ shares }) => shares)) {
    if (kind === 'no product') sums.set(operator, (sums.get(operator) ?? 0) + share);
  }
  return [...sums]
    .sort(([, a], [, b]) => b - a)
    .slice(0, NAMED)
    .map(([name]) => name);
}
