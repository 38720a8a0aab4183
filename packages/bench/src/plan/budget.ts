import { ConfigError } from '@peftjs/core';

/** A budget as typed: a count of stored parameters, a share of the base, or the size of a LoRA of one rank. */
export type BudgetSpec =
  | { readonly kind: 'count'; readonly value: number }
  | { readonly kind: 'share'; readonly value: number }
  | { readonly kind: 'rank'; readonly value: number };

/** Reads `60000`, `0.8%` or `r=4`. @throws ConfigError for anything else. */
export function parseBudget(text: string): BudgetSpec {
  const rank = /^r=(\d+)$/.exec(text)?.[1];
  const share = /^(\d+(?:\.\d+)?)%$/.exec(text)?.[1];
  const count = /^\d+$/.exec(text)?.[0];
  const spec: BudgetSpec | undefined =
    rank !== undefined
      ? { kind: 'rank', value: Number(rank) }
      : share !== undefined
        ? { kind: 'share', value: Number(share) / 100 }
        : count !== undefined
          ? { kind: 'count', value: Number(count) }
          : undefined;
  if (spec && spec.value > 0) return spec;
  throw new ConfigError(
    `--budget is '${text}'; expected a number of parameters (60000), a share of the base (0.8%) or a rank (r=4)`,
    'budget',
  );
}

/** The stored parameters that a budget asks for. */
export function budgetCount(
  { kind, value }: BudgetSpec,
  { base, rankUnit }: { readonly base: number; readonly rankUnit: number },
): number {
  switch (kind) {
    case 'count':
      return value;
    case 'share':
      return Math.round(value * base);
    case 'rank':
      return value * rankUnit;
  }
}
