import {
  candidatesOf,
  contestsOf,
  equivalentGroups,
  isSmaller,
  advantage,
  type Compared,
  type Contender,
  type Contest,
  type Advantage,
} from './contest.js';
import {
  counted,
  formatCount,
  formatMetric,
  formatPlainP,
  formatSigned,
  formatSmall,
  listed,
} from '@peftjs/cli/format';
import { FEW_ROWS, SAME_SIZE } from '@peftjs/cli/results';
import { LEVEL } from './statistics/equivalence.js';
import { seedsToReach } from './statistics/estimates.js';

/** The verdict on one budget, on one task or over all tasks. */
export interface Verdict extends Pick<Contest, 'model' | 'task'> {
  /** The budget as typed. */
  readonly budget: string;
  /** The arm with the best mean; null if none can be ranked. */
  readonly best: string | null;
  /**
   * Whether the best arm is reliably better than all others, of which there are some, and than the frozen baseline, on
   * `FEW_ROWS` or more rows.
   */
  readonly isReliable: boolean;
  /** Groups of arms in which every pair is equivalent within the margin. */
  readonly equivalent: readonly (readonly string[])[];
  /** Arms that are compared with the best, and neither reliably different from it nor equivalent to it. */
  readonly open: readonly string[];
  /** Arms that are reliably worse than the best, and not equivalent to it. */
  readonly worse: readonly string[];
  /** Arms that are reliably better than the frozen baseline. */
  readonly aboveBaseline: readonly string[];
  /**
   * The arm with the fewest stored parameters among the best and those shown not to be worse than it by the margin;
   * null if no margin was stated, or if no arm can be ranked.
   */
  readonly smallest: string | null;
  /** The verdict in words. */
  readonly sentences: readonly string[];
}

/** The verdicts of a run, by budget: over the tasks, if there are several, and for each task. */
export function verdictsOf({ margin, reference, ...summary }: Compared & Stated): Verdict[] {
  return contestsOf(summary).map((contest) => verdictOn(contest, { margin, reference }));
}

/** What a study states before its run. */
interface Stated {
  /** The equivalence margin; null if none was stated. */
  readonly margin: number | null;
  /** The arm that the others are compared with: the one to use as long as no other is shown to be better. */
  readonly reference: string;
}

/** The verdicts on the whole run: over all tasks for each model with several, else on its tasks. */
export function mainVerdicts(verdicts: readonly Verdict[]): Verdict[] {
  const overTasks = new Set(verdicts.flatMap(({ model, task }) => (task === null ? [model] : [])));
  return verdicts.filter(({ model, task }) => (task === null) === overTasks.has(model));
}

/** Whether an arm is the reliable winner at a budget, or belongs to the best arm's group of equivalent arms. */
export function isOnTop(verdicts: readonly Verdict[], label: string, budget: string): boolean {
  return verdicts.some(({ best, isReliable, equivalent, budget: spec }) => {
    const group = equivalent.find((labels) => best !== null && labels.includes(best));
    return spec === budget && (group ? group.includes(label) : isReliable && label === best);
  });
}

/** A contest with everything that its sentences need. */
interface Judged extends Pick<Stated, 'margin'> {
  /** The contest. */
  readonly contest: Contest;
  /** The arm to use: the best one, or the reference if it is neither shown to be worse nor larger. */
  readonly advised: Contender;
  /** Whether that is the reference. */
  readonly isReference: boolean;
  /** The arm with the best mean. */
  readonly best: Contender;
  /** The other candidates at the budget, best mean first. */
  readonly others: readonly Contender[];
  /** The groups of equivalent arms. */
  readonly groups: readonly (readonly [Contender, ...Contender[]])[];
  /** The others that are reliably worse than the best. */
  readonly behind: readonly Contender[];
  /** The arms of `behind` that are not equivalent to the best. */
  readonly worse: readonly Contender[];
  /** The others that are compared with the best, and neither reliably different from it nor equivalent to it. */
  readonly open: readonly Contender[];
  /** The others that cannot be compared with the best, since they were trained under other conditions. */
  readonly apart: readonly Contender[];
  /** The frozen baseline that the best arm is compared with; undefined if there is none, or if it lacks seeds. */
  readonly baseline: Contender | undefined;
  /** The candidates that are reliably better than the baseline. */
  readonly above: readonly Contender[];
  /** The arm that stores least among the best and those shown not to be worse by the margin; none without a margin. */
  readonly smallest: Contender | undefined;
}

function verdictOn(contest: Contest, stated: Stated): Verdict {
  const { model, task, budget } = contest;
  const [best, ...others] = candidatesOf(contest);
  const base = { model, task, budget: budget.spec };
  if (!best) {
    const sentences = [`No arm can be ranked${placeOf(contest)}.`, ...unranked(contest)];
    return { ...base, ...NOTHING, sentences };
  }
  const judged = judge(contest, stated, best, others);
  const { groups, open, worse, above, smallest } = judged;
  const isFew = tooFewRows(judged).length > 0; // to claim a difference or an equivalence
  const labels = (arms: readonly Contender[]): string[] => arms.map(({ label }) => label);
  return {
    ...base,
    best: best.label,
    isReliable: wins(judged),
    equivalent: groups.map(labels),
    open: labels(open),
    worse: labels(worse),
    aboveBaseline: labels(above),
    smallest: smallest?.label ?? null,
    sentences: [
      ...headline(judged),
      ...(isFew ? [] : [...groups.map((group) => groupSentence(group, judged)), ...worseSentence(judged)]),
      ...openSentence(judged),
      ...apartSentence(judged),
      ...(isFew ? [] : [...baselineSentences(judged), ...smallestSentence(judged), ...largerSentence(judged)]),
      ...sizesSentence(contest),
      ...unranked(contest),
    ],
  };
}

const NOTHING = {
  ...{ best: null, isReliable: false, equivalent: [], open: [], worse: [], aboveBaseline: [], smallest: null },
};

function judge(contest: Contest, { margin, reference }: Stated, best: Contender, others: readonly Contender[]): Judged {
  const groups = equivalentGroups(contest, [best, ...others]);
  const equal: readonly Contender[] = groups.find((group) => group.includes(best)) ?? [];
  const behind = others.filter((arm) => advantage(contest, arm, best)?.isWorse);
  const worse = behind.filter((arm) => !equal.includes(arm));
  const compared = others.filter((arm) => advantage(contest, arm, best));
  const open = compared.filter(
    (arm) => !behind.includes(arm) && !equal.includes(arm) && !advantage(contest, arm, best)?.isBetter,
  );
  const apart = others.filter((arm) => !compared.includes(arm));
  const baseline = contest.arms.find((arm) => arm.baseline && arm.unranked === null && advantage(contest, best, arm));
  const above = [best, ...others].filter((arm) => baseline && advantage(contest, arm, baseline)?.isBetter);
  const noWorse = [...others, ...(baseline ? [baseline] : [])].filter(
    (arm) => advantage(contest, arm, best)?.isNoWorse,
  );
  const least = [best, ...noWorse].reduce((smallest, arm) => (isSmaller(arm, smallest) ? arm : smallest));
  const smallest = margin === null ? undefined : least;
  const tied = [best, ...open, ...equal].filter((arm) => !isSmaller(best, arm));
  const references = tied.filter(({ arm }) => arm === reference);
  const known = references.find(({ budget }) => budget.spec === contest.budget.spec) ?? references[0];
  const advised = known ?? best;
  return {
    contest,
    margin,
    advised,
    isReference: known !== undefined,
    best,
    others,
    groups,
    behind,
    worse,
    open,
    apart,
    baseline,
    above,
    smallest,
  };
}

/** Where a verdict holds, e.g. ` at r = 4, over 4 tasks`. */
function placeOf({ task, tasks, budget: { spec, requested } }: Contest): string {
  const where = task === null ? `over ${tasks.length} tasks` : `on ${task}`;
  if (requested === null) return ` ${where}`;
  return ` at ${budgetName(spec)}, ${where}`;
}

/** Formats a budget, e.g. `r = 4` or `50,000 parameters`. */
export function budgetName(spec: string): string {
  const count = Number(spec);
  return Number.isInteger(count) ? `${formatCount(count)} parameters` : spec.replace(/^r=/, 'r = ');
}

/** Whether the best arm is reliably better than every arm that it is compared with, and than the baseline. */
function leads({ best, others, behind, apart, baseline, above }: Judged): boolean {
  return behind.length > 0 && behind.length + apart.length === others.length && (!baseline || above.includes(best));
}

/** Whether that holds for all others, on enough rows. */
function wins(judged: Judged): boolean {
  return leads(judged) && judged.apart.length === 0 && tooFewRows(judged).length === 0;
}

/** What to use, and why. */
function headline(judged: Judged): string[] {
  const { contest, best, others, baseline } = judged;
  const place = placeOf(contest);
  const mean = formatMetric(best.score.mean);
  if (others.length === 0) {
    const isAlone = contest.absent.length === 0 && contest.arms.every(({ unranked }) => unranked === null);
    const what = isAlone ? 'was trained' : 'can be ranked';
    return [`Only ${best.label} ${what}${place}: mean ${contest.metric} ${mean}.`, ...tooFewRows(judged)];
  }
  if (wins(judged)) {
    const advantages = others.flatMap((arm) => advantage(contest, best, arm) ?? []);
    const p = Math.max(...advantages.map(({ pHolm }) => pHolm));
    const rivals = others.length === 1 ? (others[0]?.label ?? '') : `each of the other ${others.length} methods`;
    return [
      `Use ${best.label}, the reliable winner${place}: mean ${contest.metric} ${mean}, ahead of ${rivals} by ${rangeOf(advantages)} (adjusted p ${atMost(p)}).`,
    ];
  }
  const isBelow = baseline && contest.arms.indexOf(baseline) < contest.arms.indexOf(best);
  const highest = `${contest.lowerIsBetter ? 'lowest' : 'highest'} mean ${contest.metric}`;
  return [
    advice(judged),
    ...tooFewRows(judged),
    ...tooFewSeeds(judged),
    `${best.label} has the ${highest}${isBelow ? ` after ${baseline.label}` : ''}, ${mean}.`,
  ];
}

/** What to use where no arm wins. */
function advice(judged: Judged): string {
  const { contest, advised, isReference, best, others, groups, behind, open, apart, baseline, above } = judged;
  const place = placeOf(contest);
  const few = tooFewRows(judged).length > 0 ? 'rows' : tooFewSeeds(judged).length > 0 ? 'seeds' : null;
  if (baseline && above.length === 0 && !few) return `Use ${baseline.label}: nothing is reliably better${place}.`;
  if (apart.length === others.length)
    return `No arm can be recommended${place}: ${best.label} has the best mean, but no other candidate was trained under its conditions.`;
  if (leads(judged) && !few)
    return `Use ${best.label}${place}: it is reliably better than every other candidate trained under the same conditions.`;
  const who = behind.length === 0 || few === 'rows' ? 'these methods' : 'the best methods';
  const found = few
    ? `Too few ${few} to tell ${who} apart`
    : open.length === 0 && groups.some((group) => group.includes(best))
      ? 'Several methods are equally good'
      : `We cannot tell ${who} apart`;
  const why = isReference ? 'which the others are compared with' : 'which is best on average';
  return `${found}${place}; use ${advised.label}, ${why}.`;
}

/** Says if the scores of the best arm, and so of all that it is compared with, rest on too few rows; empty otherwise. */
function tooFewRows({ best }: Judged): string[] {
  const rows = best.judgedOn ?? Infinity;
  return rows < FEW_ROWS
    ? [`The scores rest on only ${counted(rows, 'row')}; ranking methods takes at least ${FEW_ROWS}.`]
    : [];
}

/** Says if no arm could be found different from the best, for lack of seeds; empty otherwise. */
function tooFewSeeds({ best: { label }, contest: { pairs, tasks } }: Judged): string[] {
  const own = pairs.filter(({ a, b }) => a === label || b === label);
  if (own.length === 0) return []; // more seeds would not help
  const differences = Math.max(...own.map((pair) => pair.pairs));
  const least = Math.min(1, (2 / 2 ** differences) * pairs.length);
  if (least < LEVEL) return [];
  const seeds = Math.ceil(differences / tasks.length);
  const needed = Math.ceil(seedsToReach(pairs.length) / tasks.length);
  const correction = pairs.length === 1 ? '' : `, corrected for ${pairs.length} pairs,`;
  return [
    `With ${counted(seeds, 'seed')} on ${counted(tasks.length, 'task')} the smallest possible p${correction} is ${formatPlainP(least)}; ${needed} seeds are needed.`,
  ];
}

function groupSentence(group: readonly [Contender, ...Contender[]], judged: Judged): string {
  const { best, margin, others, behind } = judged;
  const equal = `${named(group)} are equivalent within ${formatSmall(margin ?? NaN)}`;
  if (!group.includes(best) || !group.some((arm) => behind.includes(arm))) return `${equal}.`;
  return behind.length === others.length
    ? `${equal} all the same: the lead is reliable but small.`
    : `${equal}, though some of them differ reliably.`;
}

/** With more unremarkable arms than this, only their number is given. */
const MAX_NAMED = 4;

/** Says which arms may or may not differ from the best. */
function openSentence({ contest, best, open }: Judged): string[] {
  const gaps = open.map((arm) => ({ arm, interval: advantage(contest, best, arm)?.interval ?? null }));
  const ties = gaps.filter(({ interval }) => interval?.low === 0 && interval.high === 0).map(({ arm }) => arm);
  const rest = gaps.filter(({ arm }) => !ties.includes(arm));
  const ends = rest.flatMap(({ interval }) => (interval ? [interval] : []));
  const [low, high] = [Math.min(...ends.map((end) => end.low)), Math.max(...ends.map((end) => end.high))];
  const who = rest.length > MAX_NAMED ? `${rest.length} other arms` : named(rest.map(({ arm }) => arm));
  const span = ends.length === 0 ? 'is unknown' : `lies between ${formatSigned(low)} and ${formatSigned(high)}`;
  return [
    ...(ties.length === 0 ? [] : [`${named(ties)} ${ties.length === 1 ? 'ties' : 'tie'} with ${best.label}.`]),
    ...(rest.length === 0
      ? []
      : [`The lead of ${best.label} over ${who} ${span}${ends.length === 0 ? '' : ' (95 %)'}.`]),
  ];
}

/** Names the arms that no test compares with the best. */
function apartSentence({ contest, best, apart }: Judged): string[] {
  if (apart.length === 0 || contest.pairs.length === 0) return [];
  return [`${named(apart)} ${are(apart)} not compared with ${best.label}: trained under other conditions.`];
}

function worseSentence(judged: Judged): string[] {
  const { contest, best, worse } = judged;
  const isSaid = wins(judged); // by the headline
  if (worse.length === 0 || isSaid) return [];
  const advantages = worse.flatMap((arm) => advantage(contest, best, arm) ?? []);
  return [`${named(worse)} ${are(worse)} reliably worse than ${best.label}, by ${rangeOf(advantages)}.`];
}

/** Compares the arms with the frozen baseline. */
function baselineSentences(judged: Judged): string[] {
  const { contest, best, others, baseline, above } = judged;
  if (!baseline) return [];
  const all = [best, ...others].filter((arm) => advantage(contest, arm, baseline));
  const head = `${baseline.label} (${formatMetric(baseline.score.mean)})`;
  const below = all.filter((arm) => advantage(contest, arm, baseline)?.isWorse);
  const rest = all.filter((arm) => !above.includes(arm) && !below.includes(arm));
  const gains = (arms: readonly Contender[]): string =>
    rangeOf(arms.flatMap((arm) => advantage(contest, arm, baseline) ?? []));
  const worse =
    below.length === 0 ? [] : [`${named(below)} ${are(below)} reliably worse than ${head}, by ${gains(below)}.`];
  if (above.length === 0 && tooFewSeeds(judged).length > 0) return worse;
  if (above.length === 0) return [`Nothing is reliably better than ${head}.`, ...worse];
  const who = above.length === all.length && all.length > 1 ? 'Each of them' : named(above);
  const beat = above.length === 1 || above.length === all.length ? 'beats' : 'beat';
  const unshown = rest.length > MAX_NAMED ? `the other ${rest.length}` : named(rest);
  const open = rest.length === 0 ? '' : `; for ${unshown} this is not shown`;
  return [`${who} ${beat} ${head} by ${gains(above)}${open}.`, ...worse];
}

function smallestSentence({ best, margin, smallest }: Judged): string[] {
  if (!smallest || margin === null || smallest === best) return [];
  const loses = `loses less than ${formatSmall(margin)} to ${best.label}`;
  return [`The smallest that ${loses}: ${smallest.label} (${formatCount(smallest.stored)} parameters).`];
}

/** Arms over the budget that are reliably better than the best within it. */
function largerSentence({ contest, best, others }: Judged): string[] {
  const larger = contest.arms.filter(
    (arm) =>
      arm !== best && !arm.baseline && arm.budget.requested === null && arm.unranked === null && !others.includes(arm),
  );
  return larger.flatMap((arm) => {
    const found = advantage(contest, arm, best);
    if (!found?.isBetter) return [];
    return `Above the budget, ${arm.label} (${formatCount(arm.stored)} parameters) is reliably better than ${best.label}, by ${formatMetric(found.gain)}.`;
  });
}

/** Says if the budget as typed means different sizes: a rank is counted on the modules that each arm adapts. */
function sizesSentence({ arms, budget: { spec } }: Contest): string[] {
  const sizes = arms.flatMap(({ budget }) => budget.requested ?? []);
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (most <= least * SAME_SIZE) return [];
  return [
    `Arms differ in size: ${budgetName(spec)} stands for ${formatCount(least)} to ${formatCount(most)} parameters, depending on the modules that an arm adapts.`,
  ];
}

function unranked({ arms, absent }: Contest): string[] {
  const reasons = [...arms.map(({ label, unranked: reason }) => ({ label, reason })), ...absent];
  const left = reasons.flatMap(({ label, reason }) => (reason === null ? [] : [`${label} (${reason})`]));
  return left.length === 0 ? [] : [`Not ranked: ${listed(left)}.`];
}

/** The range of gains or losses, e.g. `0.010 to 0.030`. */
function rangeOf(advantages: readonly Advantage[]): string {
  const sizes = advantages.map(({ gain }) => Math.abs(gain));
  const [least, most] = [formatMetric(Math.min(...sizes)), formatMetric(Math.max(...sizes))];
  return least === most ? least : `${least} to ${most}`;
}

function atMost(p: number): string {
  return p < 0.001 ? '< 0.001' : `≤ ${formatPlainP(p)}`;
}

function are(arms: readonly Contender[]): string {
  return arms.length === 1 ? 'is' : 'are';
}

function named(arms: readonly Contender[]): string {
  return listed(arms.map(({ label }) => label));
}
