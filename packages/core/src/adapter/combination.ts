import { ShapeError } from '../errors.js';
import type { LoraFactors } from '../contracts/layer.js';
import type { Rng } from '../rng.js';
import { floats, joinedFloats, mapTensor, type HostTensor } from '../tensors.js';
import { joinFactors, matrixProduct, nearestFactors, scaled } from '../ranks/factors.js';

/*
 * Several changes of one weight, s_i A_i B_i with weights w_i, combined into one change A B, as in PEFT:
 *
 *   cat          A = [w_1 s_1 A_1, w_2 s_2 A_2, ..], B = [B_1; B_2; ..]       exact, of rank r_1 + r_2 + ..
 *   a rule       A = rule(a_i, A_i), B = rule(b_i, B_i)                       |a_i| = b_i = sqrt|w_i s_i|; a_i has the
 *                                                                             sign of w_i s_i
 *   a rule_svd   the best approximation of rule(w_i, s_i A_i B_i) of a given rank (Eckart and Young, 1936)
 *   svd          that of the rule `linear`
 *
 * A rule prunes each tensor and then adds them up:
 *
 *   linear            sum w_i X_i
 *   magnitude_prune   the same of the `density` largest entries of each X_i
 *   ties              of these the sign of their sum is elected; entries of that sign are weighted and averaged (Yadav
 *                     et al., 2023, arXiv 2306.01708)
 *   dare_linear       `linear` of X_i M_i / density, where each entry of M_i is 1 with probability `density`, else 0
 *                     (Yu et al., 2023, arXiv 2311.03099)
 *   dare_ties         the election of `ties` among these
 *
 * The rules on A and B also make products A_i B_j of different adapters: they are not the weighted sum of the changes.
 */

/** How a rule prunes a tensor, and whether a sign is elected. */
interface Rule {
  readonly pruned?: (tensor: HostTensor, density: number, rng: Rng) => HostTensor;
  readonly elects?: boolean;
}

const RULES = {
  linear: {},
  magnitude_prune: { pruned: largestEntries },
  ties: { pruned: largestEntries, elects: true },
  dare_linear: { pruned: drawnEntries },
  dare_ties: { pruned: drawnEntries, elects: true },
} satisfies Record<string, Rule>;

type RuleName = keyof typeof RULES;

/** How changes are combined. */
export type CombinationType = 'cat' | 'svd' | RuleName | `${Exclude<RuleName, 'linear'>}_svd`;

const ofFactors = Object.keys(RULES) as RuleName[];

/** Every combination type. */
export const combinationTypes: readonly CombinationType[] = [
  'svd',
  'cat',
  ...ofFactors,
  ...ofFactors.flatMap((name) => (name === 'linear' ? [] : [`${name}_svd` as const])),
];

/** The ways to elect a sign. */
export const majoritySignMethods = ['total', 'frequency'] as const;

/** A change of a weight, with its weight in the combination. */
export interface WeightedFactors {
  /** The low-rank factors of the change. */
  readonly factors: LoraFactors;
  /** The weight; may be negative. */
  readonly weight: number;
}

/** Options of single combination types. */
export interface CombinationOptions {
  /** The rank that `svd` and the types that end in it keep. */
  readonly rank: number;
  /** The quantile of the entries of A and B to which these types limit both; undefined for no limit. */
  readonly clamp?: number | undefined;
  /** The share of the entries that a pruning keeps, 0 to 1; above 0 where it is drawn. */
  readonly density: number;
  /** Whether a sign is elected by the sum of the entries ('total') or by their number ('frequency'). */
  readonly majoritySignMethod: (typeof majoritySignMethods)[number];
  /** Draws the entries that `dare_linear` and `dare_ties` keep. */
  readonly rng: Rng;
}

/** Returns the least `density` of a type: above 0 where entries are drawn; undefined where a type does not prune. */
export function leastDensity(type: CombinationType): number | undefined {
  const { pruned }: Rule = RULES[ruleOf(type)];
  return pruned && (pruned === drawnEntries ? Number.MIN_VALUE : 0);
}

/** Combines several changes of one weight. @throws ShapeError when a rule on A and B gets different ranks. */
export function combined(
  type: CombinationType,
  parts: readonly WeightedFactors[],
  options: CombinationOptions,
): LoraFactors {
  if (type === 'cat') return sideBySide(parts);
  const rule = RULES[ruleOf(type)];
  if (type in RULES) return ofEachFactor(parts, rule, options);
  const whole = type === 'svd' ? wholeChange(sideBySide(parts)) : wholeMerged(parts, rule, options);
  return clamped(nearestFactors(whole, options), options);
}

function ruleOf(type: CombinationType): RuleName {
  return ofFactors.find((name) => type === name || type === `${name}_svd`) ?? 'linear';
}

function sideBySide(parts: readonly WeightedFactors[]): LoraFactors {
  const weighed = parts.map(({ factors, weight }) => ({
    loraA: scaled(factors.loraA, weight * factors.scaling),
    loraB: factors.loraB,
    scaling: 1,
  }));
  return weighed.reduce(joinFactors);
}

function wholeMerged(parts: readonly WeightedFactors[], rule: Rule, options: CombinationOptions): HostTensor {
  const changes = parts.map(({ factors }) => wholeChange(factors));
  const weights = parts.map(({ weight }) => weight);
  return merged(changes, weights, rule, options);
}

/** Returns s A B `[in, out]`, summed in double precision. */
function wholeChange({ loraA, loraB, scaling }: LoraFactors): HostTensor {
  return matrixProduct(loraA, loraB, scaling);
}

function ofEachFactor(parts: readonly WeightedFactors[], rule: Rule, options: CombinationOptions): LoraFactors {
  const weights = parts.map(({ weight, factors }) => weight * factors.scaling);
  const sizes = weights.map((weight) => Math.sqrt(Math.abs(weight)));
  const signed = sizes.map((size, index) => ((weights[index] as number) < 0 ? -size : size));
  const of = (name: 'loraA' | 'loraB', factorWeights: readonly number[]): HostTensor =>
    merged(
      parts.map(({ factors }) => factors[name]),
      factorWeights,
      rule,
      { ...options, rng: options.rng.fork(name) },
    );
  return { loraA: of('loraA', signed), loraB: of('loraB', sizes), scaling: 1 };
}

/** Prunes tensors of one shape and adds them up by weight. */
function merged(
  tensors: readonly HostTensor[],
  weights: readonly number[],
  { pruned, elects = false }: Rule,
  { density, majoritySignMethod, rng }: CombinationOptions,
): HostTensor {
  const kept = pruned && density < 1 ? tensors.map((each, i) => pruned(each, density, rng.fork(String(i)))) : tensors;
  return elementwise(kept, (values) => {
    if (!elects) return weightedSum(values, weights);
    const votes = majoritySignMethod === 'total' ? values : values.map(Math.sign);
    const elected = votes.reduce((sum, vote) => sum + vote, 0) >= 0 ? 1 : -1;
    const agreeing = values.map((value) => (Math.sign(value) === elected ? value : 0));
    return weightedSum(agreeing, weights) / Math.max(1, agreeing.filter((value) => value !== 0).length);
  });
}

function weightedSum(values: readonly number[], weights: readonly number[]): number {
  return values.reduce((sum, value, index) => sum + (weights[index] as number) * value, 0);
}

/** Returns the tensor with all but its largest entries set to zero; of equal entries the first ones stay. */
function largestEntries(tensor: HostTensor, density: number): HostTensor {
  const values = floats(tensor);
  const count = Math.floor(density * values.length);
  const ascending = values.map(Math.abs).sort();
  const least = ascending[values.length - count] ?? Infinity;
  let equal = count - ascending.subarray(values.length - count).filter((size) => size > least).length;
  return mapTensor(tensor, (value) =>
    Math.abs(value) > least || (Math.abs(value) === least && equal-- > 0) ? value : 0,
  );
}

/** Returns the tensor with each entry divided by `density` with that probability, else set to zero. */
function drawnEntries(tensor: HostTensor, density: number, rng: Rng): HostTensor {
  return mapTensor(tensor, (value) => (rng.uniform() < density ? value / density : 0));
}

/** Limits the entries of A and B to a quantile of all of them, and to its negative. */
function clamped(factors: LoraFactors, { clamp }: CombinationOptions): LoraFactors {
  if (clamp === undefined) return factors;
  const { loraA, loraB } = factors;
  const most = quantile(joinedFloats([floats(loraA), floats(loraB)]), clamp);
  const limited = (tensor: HostTensor): HostTensor =>
    mapTensor(tensor, (value) => Math.min(Math.max(value, -most), most));
  return { ...factors, loraA: limited(loraA), loraB: limited(loraB) };
}

/** Returns a quantile of numbers, interpolated between the two nearest. */
function quantile(values: Float32Array, share: number): number {
  const ascending = values.sort();
  const place = share * (ascending.length - 1);
  const [below = 0, above = below] = ascending.subarray(Math.floor(place), Math.floor(place) + 2);
  return below + (above - below) * (place % 1);
}

function elementwise(tensors: readonly HostTensor[], merge: (values: readonly number[]) => number): HostTensor {
  const [first, ...others] = tensors as readonly [HostTensor, ...HostTensor[]];
  const other = others.find(({ shape }) => shape.join() !== first.shape.join());
  if (other) {
    throw new ShapeError(
      `factors of shapes [${first.shape.join(', ')}] and [${other.shape.join(', ')}] cannot be added: combine by 'cat', 'svd' or a type that ends in '_svd'`,
      'combinationType',
    );
  }
  const all = tensors.map((tensor) => floats(tensor));
  return mapTensor(first, (_, index) => merge(all.map((values) => values[index] as number)));
}
