/** The result of one stage of a run that chooses its adapter's size; plain JSON. */
export interface SizingStage {
  /** The stage's number, from 0. */
  readonly stage: number;
  /**
   * What the stage does:
   * - 'dense' trains without a limit
   * - 'control' repeats that, to measure the effect of a restart
   * - 'descent' keeps a quarter of the previous size
   * - 'search' tries a size between two others
   * - 'tuning' trains the smallest good adapter further
   */
  readonly kind: 'dense' | 'control' | 'descent' | 'search' | 'tuning';
  /** The most parameters it may store; null for no limit. */
  readonly budget: number | null;
  /** Numbers that the adapter stores on disk. */
  readonly storedParameters: number;
  /** Stored parameters, averaged over the steps of the stage. */
  readonly meanParameters: number;
  /** Ranks alive, by module path. */
  readonly ranks: Readonly<Record<string, number>>;
  /** The primary metric on the selection data. */
  readonly score: number;
  /** The primary metric on `selection.trainSubset`; null without it. */
  readonly trainScore: number | null;
  /** How much worse the score is than the dense adapter's; below 0 where it is better. */
  readonly worse: number;
  /**
   * How much worse it may be: the margin; without one, the standard error of the difference or, if larger, twice what
   * the control lost.
   */
  readonly allowed: number;
  /**
   * Whether its adapter may be chosen: its score is not too much worse, and a stage that removes nothing also beats the
   * previous best.
   */
  readonly held: boolean;
  /**
   * `trainScore` in percent of the dense adapter's, inverted where lower is better; null where it cannot be compared.
   */
  readonly memorization: number | null;
  /** `score` in percent of the dense adapter's, in the same way. */
  readonly generalization: number | null;
}

/** How a run chose the size of its adapter. */
export interface Sizing {
  /** All stages, in the order of training. */
  readonly stages: readonly SizingStage[];
  /** The number of the stage whose adapter was chosen. */
  readonly chosen: number;
  /** A sentence that explains the choice. */
  readonly reason: string;
}

/** The score of the chosen adapter's head alone, without any rank. */
export interface WithoutRanks {
  /** The primary metric on the selection data. */
  readonly score: number;
  /** How much worse it is than the dense adapter's score. */
  readonly worse: number;
  /** Two standard errors of the difference, or the margin. */
  readonly allowed: number;
}

/** What an explanation needs besides the stages. */
interface Circumstances {
  /** The name of the primary metric. */
  readonly metric: string;
  /** The margin from the options; null for one standard error. */
  readonly margin: number | null;
  /** The score without any rank. */
  readonly bare: WithoutRanks;
}

/** Returns whether a stage removed nothing. */
export function isDense({ kind }: SizingStage): boolean {
  return kind === 'dense' || kind === 'control';
}

/** Returns one or two sentences that explain why a stage was chosen. */
export function reasonOf(
  stages: readonly SizingStage[],
  chosen: number,
  { metric, margin, bare }: Circumstances,
): string {
  const [dense, stage] = [stages[0], stages[chosen]] as [SizingStage, SizingStage];
  const limit = (allowed: number): string =>
    margin === null ? `the error of the difference (${shown(allowed)})` : `the margin of ${shown(margin)}`;
  const denseHas = `the dense adapter's ${shown(dense.score)} with ${count(dense.storedParameters)} parameters`;
  const nothing =
    bare.worse <= bare.allowed
      ? ` Without any rank it is ${shown(bare.score)}, indistinguishable from the dense adapter's: these rows teach an adapter next to nothing, and the head alone may do as well.`
      : '';
  const below = stages
    .filter(({ held, storedParameters: stored }) => !held && stored < stage.storedParameters)
    .sort((a, b) => b.storedParameters - a.storedParameters)[0];
  if (isDense(stage)) {
    const why = below
      ? `every smaller one loses against ${denseHas}: with ${count(below.storedParameters)} parameters ${metric} is ${shown(below.score)}, more than ${limit(below.allowed)} worse`
      : 'no smaller one exists';
    return `The dense adapter stays: ${why}.${nothing}`;
  }
  const how =
    stage.worse > 0
      ? `${shown(stage.worse)} worse than ${denseHas}, within ${limit(stage.allowed)}`
      : `no worse than ${denseHas}`;
  const kept = `With ${count(stage.storedParameters)} parameters ${metric} is ${shown(stage.score)}: ${how}.`;
  if (nothing) return `${kept}${nothing}`;
  if (!below) return `${kept} No smaller one exists.`;
  return `${kept} With ${count(below.storedParameters)} it is ${shown(below.score)}, more than ${limit(below.allowed)} worse.`;
}

function count(parameters: number): string {
  return parameters.toLocaleString('en-US');
}

function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}
