import { isDense, type SizingStage } from './sizing-reason.js';

/* The order of the stages of a run that chooses its adapter's size; sizing.ts says what they do. */

/** The share of a descent stage's initial parameters that it may keep. */
const DESCENT = 1 / 4;
/** The most search stages between two sizes of the descent. They leave a sixteenth of the ratio of these sizes. */
const SEARCHES = 4;
/** The number of descent stages in a row that must lose to end the descent, because one may lose by chance. */
const LOSSES = 2;

/** The next stage to train. */
export interface NextStage {
  /** What the stage does. */
  readonly kind: SizingStage['kind'];
  /** The most parameters it may store; null for no limit. */
  readonly budget: number | null;
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
