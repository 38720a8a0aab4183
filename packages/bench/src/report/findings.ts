import { counted, formatInterval, formatPlainP, formatSigned, formatSmall, listed } from '@peftjs/cli/format';
import type { ClaimOutcome } from './statistics/claims.js';
import { grouped } from './statistics/comparisons.js';
import { LEVEL } from './statistics/equivalence.js';
import type { Failure } from './statistics/rows.js';
import { budgetName, mainVerdicts, type Verdict } from './verdict.js';

/**
 * The findings of a run as paragraphs of sentences: on each budget, on claims stated before the run, and on failures.
 */
export function verdictParagraphs({ verdicts, margin, claims, failed }: Findings): string[][] {
  const main = mainVerdicts(verdicts);
  const severalModels = new Set(main.map(({ model }) => model)).size > 1;
  const withModel = (model: string, [first = '', ...others]: readonly string[]): string[] => [
    severalModels ? `${model}: ${first}` : first,
    ...others,
  ];
  const isOpen = margin === null && main.some(({ open }) => open.length > 0);
  return [
    ...main.map(({ model, sentences }) => withModel(model, sentences)),
    ...(isOpen ? [UNTESTED] : []),
    ...claims.map((claim) => withModel(claim.model, claimSentences(claim))),
    ...failureSentences(failed),
  ];
}

/** The parts of a summary that the paragraphs are about. */
export interface Findings {
  /** The verdicts, by budget: over the tasks, if there are several, and on each. */
  readonly verdicts: readonly Verdict[];
  /** The equivalence margin, in units of the primary metric, stated before the run; null if none was. */
  readonly margin: number | null;
  /** The claims stated before the run, with their outcomes. */
  readonly claims: readonly ClaimOutcome[];
  /** The failed trials. */
  readonly failed: readonly Failure[];
}

/** Added if arms could not be separated and no margin was stated. */
const UNTESTED = [
  'Equivalence was not tested: no margin was stated before the run.',
  'A study file can state one, in units of the primary metric.',
];

/** A claim stated before the run, and whether it is shown. */
function claimSentences(claim: ClaimOutcome): string[] {
  const { arm, budget, noWorseThan, itsBudget, margin, tasks, difference, test, shown, untested } = claim;
  const at = (label: string, spec: string | null): string =>
    spec === null || spec === label ? label : `${label} at ${budgetName(spec)}`; // an arm may be named after its budget
  const other = at(noWorseThan, itsBudget);
  const loses = margin === null ? `is no worse than ${other}` : `loses less than ${formatSmall(margin)} to ${other}`;
  const what = `${at(arm, budget)} ${loses}`;
  if (untested !== null || !difference || !test) {
    return [`Stated before the run but not tested: ${what}; ${untested ?? 'there is no difference'}.`];
  }
  const interval = difference.interval ? ` ${formatInterval(difference.interval, formatSigned)}` : '';
  const seen = `The difference is ${formatSigned(difference.mean)}${interval}, adjusted p ${formatPlainP(test.pHolm)}, over ${counted(tasks.length, 'task')}.`;
  if (shown) return [`Stated before the run and confirmed: ${what}.`, seen];
  const isOpen = 1 - test.p > LEVEL; // the p of the opposite
  return [`Stated before the run but not confirmed: ${what}.`, seen, ...(isOpen ? ['Nor is the opposite shown.'] : [])];
}

/** The arms with failed trials; empty if there are none. */
function failureSentences(failed: readonly Failure[]): string[][] {
  if (failed.length === 0) return [];
  const arms = grouped(failed, ({ arm, budget }) => [arm, budget]).map(
    (trials) =>
      `${trials[0].arm}${trials[0].budget === 'none' ? '' : ` at ${budgetName(trials[0].budget)}`} (${trials.length})`,
  );
  return [
    [
      `${counted(failed.length, 'trial')} failed and ${failed.length === 1 ? 'is' : 'are'} excluded from all numbers: ${listed(arms)}.`,
    ],
  ];
}
