import type { StageResult } from './stages.js';

/*
 * The order of the stages of a run that chooses its adapter's size, and the reason for its choice; sizing.ts says what
 * the stages do.
 */

/** The result of one stage of a run that chooses its adapter's size; plain JSON. */
export interface SizingStage extends StageResult {
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

/** Returns whether a stage's adapter is dense: no stage has limited its size yet. */
function isDense({ kind }: SizingStage): boolean {
  return kind === 'dense' || kind === 'control';
}

/** The share of a descent stage's initial parameters that it may keep. */
const DESCENT = 1 / 4;
/** The most search stages between two sizes of the descent. They narrow the ratio of the sizes to its 16th root. */
const SEARCHES = 4;
/** The number of descent stages in a row that must lose to end the descent, because one may lose by chance. */
const LOSSES = 2;

/** The next stage to train. */
export interface NextStage extends Pick<SizingStage, 'kind' | 'budget'> {
  /** The adapter that it starts from. */
  readonly from: 'last' | 'smallest';
}

interface Rule {
  /** The number of parameters of one rank. */
  readonly unit: number;
  /** The margin from the options; null for one standard error. */
  readonly margin: number | null;
}

/** Returns the stage after the finished ones; null when the run is complete. */
export function nextStage(stages: readonly SizingStage[], { unit, margin }: Rule): NextStage | null {
  const last = stages.at(-1);
  if (!last) return { kind: 'dense', budget: null, from: 'last' };
  if (last.kind === 'dense' && margin === null) return { kind: 'control', budget: null, from: 'last' };
  if (last.kind === 'tuning') return null;
  const descent = stages.filter(({ kind }) => kind === 'descent');
  const hasLost = descent.length >= LOSSES && descent.slice(-LOSSES).every(({ held }) => !held);
  if (last.kind !== 'search' && !hasLost && last.storedParameters > unit) {
    return {
      kind: 'descent',
      budget: Math.max(unit, Math.round(DESCENT * last.storedParameters)),
      from: 'last',
    };
  }
  const searches = stages.filter(({ kind }) => kind === 'search').length;
  const budget = searches < SEARCHES ? between(stages, unit) : null;
  if (budget !== null) return { kind: 'search', budget, from: 'smallest' };
  return isDense(smallestHeld(stages)) ? null : { kind: 'tuning', budget: null, from: 'smallest' };
}

/**
 * Returns a size between the smallest adapter that has not lost and the next smaller one that has; null where no rank
 * fits in between.
 */
function between(stages: readonly SizingStage[], unit: number): number | null {
  const high = smallestHeld(stages).storedParameters;
  const smaller = stages.filter(({ held, storedParameters: stored }) => !held && stored < high);
  if (smaller.length === 0) return null;
  const low = Math.max(...smaller.map(({ storedParameters: stored }) => stored));
  if (high - low < 2 * unit) return null;
  return Math.round(Math.min(high - unit, Math.max(low + unit, Math.sqrt(low * high))));
}

/**
 * Returns the smallest stage that has not lost; the last one if several have that size. The dense stage never loses.
 */
export function smallestHeld(stages: readonly SizingStage[]): SizingStage {
  const held = stages.filter((stage) => stage.held);
  return held.reduce((best, stage) => (stage.storedParameters <= best.storedParameters ? stage : best));
}

/** Returns the most stages after the dense one: the descent reaches one rank, and every search runs. */
export function mostLaterStages(ranks: number): number {
  const descent = Math.ceil(Math.log(Math.max(1, ranks)) / -Math.log(DESCENT)) + 1;
  return 1 + descent + SEARCHES + 1; // the control and the tuning are one each
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
