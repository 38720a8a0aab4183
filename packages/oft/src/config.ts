import {
  ConfigError,
  integerFrom,
  nonNegative,
  parseOptions,
  targetEntries,
  warnOnce,
  type Site,
  type MethodOptions,
} from '@peftjs/core/method';
import * as v from 'valibot';

const entries = {
  ...targetEntries,
  /**
   * The number of features in a block. If it does not divide a module's features, the nearest divisor is used.
   * Default 32, or 0 with `r`.
   */
  oftBlockSize: v.optional(integerFrom(0)),
  /** The number of blocks of every module, as an alternative to `oftBlockSize`; 0 uses `oftBlockSize`. Default 0. */
  r: v.optional(integerFrom(0), 0),
  /** Whether all blocks of a module share one rotation. Default false. */
  blockShare: v.optional(v.boolean(), false),
  /**
   * Whether to use the constrained variant (COFT), which keeps rotations near the identity: see `eps`. Default false.
   */
  coft: v.optional(v.boolean(), false),
  /** The largest norm of all Q of a module together, with `coft`; a shared Q counts once. Default 6e-5. */
  eps: v.optional(nonNegative, 6e-5),
  /** Whether a power series replaces the Cayley transform: faster, but only nearly orthogonal. Default true. */
  useCayleyNeumann: v.optional(v.boolean(), true),
  /** The number of terms of that series, 2 to 64. Default 5. */
  numCayleyNeumannTerms: v.optional(v.pipe(integerFrom(2), v.maxValue(64)), 5),
  /** Whether rotations start as the identity; if not, they start at random, which changes the outputs. Default true. */
  initWeights: v.optional(v.boolean(), true),
  /**
   * Which biases of the model are trained: none, all, or with `'oft_only'` those of adapted modules. Default 'none'.
   */
  bias: v.optional(v.picklist(['none', 'all', 'oft_only']), 'none'),
};

/** The options of OFT, with PEFT's names. */
export type OftConfig = MethodOptions<typeof entries> & { readonly oftBlockSize: number };

/**
 * Validates the options and fills in defaults.
 * @throws ConfigError that names the field, also unless exactly one of `r` and `oftBlockSize` is above 0.
 */
export function parseOftConfig(input: unknown): OftConfig {
  const { oftBlockSize: given, ...rest } = parseOptions('oft', entries, input);
  const oftBlockSize = given ?? (rest.r === 0 ? 32 : 0);
  if ((oftBlockSize === 0) === (rest.r === 0)) {
    throw new ConfigError(
      `oft: r is ${rest.r} and oftBlockSize ${oftBlockSize}; expected exactly one above 0, the other 0 or unset`,
      'oftBlockSize',
    );
  }
  return { ...rest, oftBlockSize };
}

/** The blocks of a module. */
export interface Blocks {
  /** The number of blocks, also if they share one rotation (`blockShare`). */
  readonly count: number;
  /** The number of features in each block. */
  readonly size: number;
}

/** Returns the number of features that a module's rotations act on: its inputs, or the outputs of an embedding. */
export function rotatedFeatures({ kind, inFeatures, outFeatures }: Site): number {
  return kind === 'embedding' ? outFeatures : inFeatures;
}

/**
 * Returns the blocks of a module. Warns if PEFT's rule changes the configured number.
 * @throws ConfigError for blocks of one feature, which cannot be rotated.
 */
export function blocksAt(site: Site, config: Pick<OftConfig, 'r' | 'oftBlockSize'>): Blocks {
  const features = rotatedFeatures(site);
  const [option, wanted] =
    config.r === 0 ? (['oftBlockSize', config.oftBlockSize] as const) : (['r', config.r] as const);
  const used = nearestDivisor(features, wanted);
  if (used !== wanted) {
    warnOnce(
      `oft: ${option} ${wanted} does not divide the ${features} features of some modules: ${used} is used there`,
    );
  }
  const size = option === 'r' ? features / used : used;
  if (size > 1) return { count: features / size, size };
  throw new ConfigError(
    `oft: ${option} ${wanted} splits the ${features} features of '${site.path}' into blocks of one, which cannot rotate`,
    option,
  );
}

/** Returns the nearest divisor, the smaller of two equally near ones, and at most `features`. This is PEFT's rule. */
function nearestDivisor(features: number, wanted: number): number {
  if (wanted >= features) return features;
  let [lower, higher] = [wanted, wanted];
  while (features % lower !== 0) lower--;
  while (features % higher !== 0) higher++;
  return wanted - lower <= higher - wanted ? lower : higher;
}

/** Returns the number of parameters of a module's rotations: the entries above the diagonal of each Q. */
export function storedIn({ count, size }: Blocks, { blockShare }: Pick<OftConfig, 'blockShare'>): number {
  return ((blockShare ? 1 : count) * size * (size - 1)) / 2;
}
