import type { RunFile } from '@peftjs/cli/results';
import {
  comparable,
  grouped,
  missingSeeds,
  pairedDifference,
  seedsOf,
  type Arm,
  type PairedDifference,
} from './comparisons.js';
import { LEVEL, meanWithError, testEquivalence, type NonInferiority } from './equivalence.js';
import { holm } from './estimates.js';
import { differencesOf, type Sample } from './resampling.js';

/** A claim stated before a run: `arm` is not worse than `noWorseThan` by the margin or more. */
export type Claim = RunFile['claims'][number];

/** The outcome of a claim over all tasks that any arm was trained on, with equal weight for each. */
export interface ClaimOutcome extends Omit<Claim, 'margin'> {
  /** The model. */
  readonly model: string;
  /** The margin that was tested; null if none was stated. */
  readonly margin: number | null;
  /** The tasks. */
  readonly tasks: readonly string[];
  /** Whether lower values of the metric are better. */
  readonly lowerIsBetter: boolean;
  /** The primary metric of `arm` minus that of `noWorseThan`; null if the claim was not tested. */
  readonly difference: PairedDifference | null;
  /** The one-sided test, Holm-adjusted over the study's claims; null if the claim was not tested. */
  readonly test: NonInferiority | null;
  /** Whether the claim is shown, that is, its adjusted p is at most 5 %. A claim that is not shown is not refuted. */
  readonly shown: boolean;
  /** Why the claim was not tested; null if it was. */
  readonly untested: string | null;
}

/**
 * Tests claims that were stated before the run, on each model. In Holm's correction, which covers all models, a claim
 * that cannot be tested counts as one with p = 1.
 */
export function testClaims(claims: readonly Claim[], arms: readonly Arm[], margin: number | null): ClaimOutcome[] {
  const outcomes = grouped(arms, ({ trials: [{ model }] }) => model).flatMap((ofModel) =>
    claims.map((claim) => outcomeOf({ ...claim, margin: claim.margin ?? margin }, ofModel)),
  );
  const adjusted = holm(outcomes.map(({ test }) => test?.p ?? 1));
  return outcomes.map((outcome, index) => {
    const pHolm = adjusted[index] as number;
    return outcome.test ? { ...outcome, test: { ...outcome.test, pHolm }, shown: pHolm <= LEVEL } : outcome;
  });
}

function outcomeOf(
  claim: Omit<Claim, 'margin'> & { readonly margin: number | null },
  arms: readonly [Arm, ...Arm[]],
): ClaimOutcome {
  const tasks = [...new Set(arms.map(({ trials: [{ task }] }) => task))].sort();
  const directions = new Set(arms.map(({ trials: [{ selection }] }) => selection.lowerIsBetter ?? false));
  const lowerIsBetter = directions.has(true);
  const outcome = { ...claim, model: arms[0].trials[0].model, tasks, lowerIsBetter };
  const refused = (untested: string): ClaimOutcome => ({
    ...outcome,
    ...{ difference: null, test: null, shown: false, untested },
  });
  if (claim.margin === null) return refused('no margin was stated');
  if (directions.size > 1) return refused('of some metrics more is better, of others less');
  const byTask: Sample[] = [];
  for (const task of tasks) {
    const [[ours, another], [theirs, other]] = [
      configurationsOf(arms, task, claim.arm, claim.budget),
      configurationsOf(arms, task, claim.noWorseThan, claim.itsBudget),
    ];
    if (!ours || !theirs) return refused(`${ours ? claim.noWorseThan : claim.arm} has no result on ${task}`);
    const ambiguous = another ? claim.arm : other && claim.noWorseThan;
    if (ambiguous !== undefined)
      return refused(`${ambiguous} has several configurations on ${task}; keep every study in a folder of its own`);
    const lack = [ours, theirs].flatMap((arm) => lackOf(arm, arms))[0];
    if (lack !== undefined) return refused(`${lack} on ${task}`);
    if (!comparable(ours.trials[0], theirs.trials[0])) return refused(`the circumstances on ${task} are not the same`);
    byTask.push(differencesOf(ours.trials, theirs.trials));
  }
  const mean = meanWithError(byTask);
  if (!mean) return refused('both arms need two seeds in common, with different scores');
  const { aNoWorse: test } = testEquivalence(mean, claim.margin, lowerIsBetter);
  return { ...outcome, difference: pairedDifference(byTask), test, shown: false, untested: null };
}

/** Why an arm cannot stand for its budget, or for all seeds of its task; empty if it can. */
function lackOf(arm: Arm, arms: readonly Arm[]): string[] {
  const { label, trials } = arm;
  if (trials.some(({ budget }) => budget.requested !== null && !budget.met)) return [`${label} missed its budget`];
  const rivals = arms.filter((other) => comparable(other.trials[0], trials[0]));
  const missing = missingSeeds(seedsOf(arm), ...rivals.map(seedsOf));
  return missing === null ? [] : [`${label} has ${missing}`];
}

/** The configurations of an arm at a budget on a task. */
function configurationsOf(arms: readonly Arm[], onTask: string, name: string, budget: string | null): Arm[] {
  return arms.filter(({ trials: [{ task, arm, budget: of }] }) => {
    const isAtBudget = budget === null ? of.requested === null : of.spec === budget;
    return task === onTask && arm === name && isAtBudget;
  });
}
