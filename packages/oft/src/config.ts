import {
  ConfigError,
  integerFrom,
  nonNegative,
  parseOptions,
  targetEntries,
  warnOnce,
  type Site,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of OFT, in PEFT's names. */
export interface OftConfig extends TargetConfig {
  /** Features that are rotated together. Where it does not divide a module's, the nearest divisor. Default 32, and 0 beside `r`. */
  readonly oftBlockSize: number;
  /** Blocks of every module, in the place of their size; 0 leaves that to `oftBlockSize`. Default 0. */
  readonly r: number;
  /** Whether all blocks of a module are one and the same rotation. Default false. */
  readonly blockShare: boolean;
  /** Whether the rotations are kept near the identity (COFT): see `eps`. Default false. */
  readonly coft: boolean;
  /** How far from it, in norm, all blocks of a module together; with `coft`. Default 6e-5. */
  readonly eps: number;
  /** Whether Cayley's inverse is replaced by a power series, which is faster and not quite orthogonal. Default true. */
  readonly useCayleyNeumann: boolean;
  /** Terms of that series, 2 to 64. Default 5. */
  readonly numCayleyNeumannTerms: number;
  /** Whether the rotations start as the identity; else at random, which changes the outputs. Default true. */
  readonly initWeights: boolean;
  /** Which biases of the model are trained: `'oft_only'` are those of adapted modules. Default 'none'. */
  readonly bias: 'none' | 'all' | 'oft_only';
}

const entries = {
  ...targetEntries,
  oftBlockSize: v.optional(integerFrom(0)),
  r: v.optional(integerFrom(0), 0),
  blockShare: v.optional(v.boolean(), false),
  coft: v.optional(v.boolean(), false),
  eps: v.optional(nonNegative, 6e-5),
  useCayleyNeumann: v.optional(v.boolean(), true),
  numCayleyNeumannTerms: v.optional(v.pipe(integerFrom(2), v.maxValue(64)), 5),
  initWeights: v.optional(v.boolean(), true),
  bias: v.optional(v.picklist(['none', 'all', 'oft_only']), 'none'),
};

/** Fills in OFT's defaults. @throws ConfigError naming the field, also when both or none of `r` and `oftBlockSize` are given. */
export function parseOftConfig(input: unknown): OftConfig {
  const { oftBlockSize: given, ...rest } = parseOptions('oft', entries, input);
  const oftBlockSize = given ?? (rest.r === 0 ? 32 : 0);
  if ((oftBlockSize === 0) === (rest.r === 0)) {
    throw new ConfigError(
      `oft: r is ${rest.r} and oftBlockSize ${oftBlockSize}; expected one of them, the other is 0 or left out`,
      'oftBlockSize',
    );
  }
  return { ...rest, oftBlockSize };
}

/** The rotations of a module. */
export interface Blocks {
  /** How many there are, `blockShare` or not. */
  readonly count: number;
  /** Features of each. */
  readonly size: number;
}

/** The features that a module's rotations act on: what it reads, or of an embedding what it gives. */
export function rotatedFeatures({ kind, inFeatures, outFeatures }: Site): number {
  return kind === 'embedding' ? outFeatures : inFeatures;
}

/**
 * The blocks that a configuration gives a module, with a warning where PEFT's rule takes another number than was asked for.
 * @throws ConfigError for blocks of one feature, which cannot be rotated.
 */
export function blocksAt(site: Site, config: Pick<OftConfig, 'r' | 'oftBlockSize'>): Blocks {
  const features = rotatedFeatures(site);
  const [option, wanted] =
    config.r === 0 ? (['oftBlockSize', config.oftBlockSize] as const) : (['r', config.r] as const);
  const taken = nearestDivisor(features, wanted);
  if (taken !== wanted) {
    warnOnce(
      `oft: ${option} ${wanted} does not divide the ${features} features of some modules: ${taken} is taken there`,
    );
  }
  const size = option === 'r' ? features / taken : taken;
  if (size > 1) return { count: features / size, size };
  throw new ConfigError(
    `oft: ${option} ${wanted} gives '${site.path}', of ${features} features, blocks of one, which cannot be rotated`,
    option,
  );
}

/** The nearest divisor, of two as near the smaller one; all of it for more than there is. PEFT's rule. */
function nearestDivisor(features: number, wanted: number): number {
  if (wanted >= features) return features;
  let [lower, higher] = [wanted, wanted];
  while (features % lower !== 0) lower--;
  while (features % higher !== 0) higher++;
  return wanted - lower <= higher - wanted ? lower : higher;
}

/** The numbers that the rotations of a module store: those above the diagonal of each. */
export function storedIn({ count, size }: Blocks, { blockShare }: Pick<OftConfig, 'blockShare'>): number {
  return ((blockShare ? 1 : count) * size * (size - 1)) / 2;
}
