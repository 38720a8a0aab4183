import { hostTensor } from '@peftjs/core';
import {
  assertStartsWithin,
  allocatedCost,
  allocatedRanks,
  changeRanks,
  createRng,
  cutStep,
  floats,
  isNearBudget,
  missedCut,
  pickColumns,
  pickRows,
  qr,
  rankCost,
  tensorAt,
  transposed,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type ControllerChanges,
  type HostTensor,
  type HostTensors,
  type RankChange,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import type { ElaLoraConfig } from './config.js';
import { elaLoraLayer, initialTensors, noScores } from './layer.js';

/*
 * Ranks move at steps t with t > ti, (t - ti) a multiple of the interval, and t < te, the step before the final phase:
 *
 *   pool   every module's min(k, ranks - 1) ranks of the lowest scores
 *   b(t)   = round(b (1 - x^3)), x = (t - ti) / (te - ti)       so many move
 *   lose   the b(t) lowest of the pool
 *   gain   a rank each for the modules of the b(t) highest of the pool: a module may gain several, or lose and gain
 *
 * A new rank has a column of A and a row of B of length 1, orthogonal to those that the module keeps, and E = min(min |E|, 1e-13), so that
 * outputs stay as they are.
 *
 * With a budget (ours) a module gains a rank only while all of them together store at most 2 % more than it; otherwise the next of the pool
 * does. After te, what is still missing goes to the modules whose lowest score is highest.
 */

/** ElaLoRA's decisions between steps. @throws ConfigError for a budget that the starting ranks exceed. */
export function elaLoraController(layers: AdapterLayers, config: ElaLoraConfig, plan: TrainPlan): Controller {
  const { budget } = config;
  if (budget !== null) assertStartsWithin(layers, budget);
  const schedule = scheduleOf(config, plan);
  const { end } = schedule;
  const rng = createRng(plan.seed ?? 0).fork('new ranks');
  let [held, isFilled] = [layers, false];
  const isMissing = (): boolean => budget !== null && !isFilled && !isNearBudget(allocatedCost(held), budget);
  return {
    scalars(step) {
      if (step > end && isMissing()) throw missedCut("ElaLoRA's budget was not filled", step, end);
      return {};
    },
    reads: (step) =>
      movesAt(step, schedule) > 0 || (step === end && isMissing())
        ? Object.keys(held).flatMap((path) => ['importance', 'gate', 'loraA', 'loraB'].map((name) => `${path}.${name}`))
        : [],
    afterStep(step, values) {
      const modules = modulesOf(held, values);
      const move = step < end ? moved(modules, movesAt(step, schedule), config) : filled(modules, budget ?? 0);
      isFilled ||= step === end;
      const resized = changeRanks(held, changesFor(modules, move, values, rng.fork(String(step))));
      held = withResized(held, resized);
      return withChanges(resized, config);
    },
    holdsBudget: (step) => step >= end && !isMissing(),
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), isFilled }),
    restore(state) {
      if (Array.isArray(state.ranks)) held = layersOfRanks(layers, config, state.ranks as readonly number[]);
      isFilled = state.isFilled === true;
    },
  };
}

/** The layers that values of a later step, or of a file, fit: ranks come and go. */
export function resumedLayers({ layers, config, values }: AdapterContents<ElaLoraConfig>): AdapterLayers {
  const ranks = Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0);
  return layersOfRanks(layers, config, ranks);
}

function layersOfRanks(layers: AdapterLayers, config: ElaLoraConfig, ranks: readonly number[]): AdapterLayers {
  const rng = createRng(0); // shapes are all that is needed: values are those of the run
  return Object.fromEntries(
    Object.entries(layers).map(([path, { site }], index) => [
      path,
      elaLoraLayer(site, config, initialTensors(site, ranks[index] ?? 0, rng)),
    ]),
  );
}

function withChanges(resized: ReturnType<typeof changeRanks>, { restartsOptimizer }: ElaLoraConfig): ControllerChanges {
  return Object.keys(resized).length === 0 ? {} : { resized, restartsOptimizer };
}

/** When ranks move, and how many. */
interface Schedule {
  /** ti: none before. */
  readonly start: number;
  /** te: none from there on. */
  readonly end: number;
  readonly interval: number;
  /** b. */
  readonly most: number;
}

function scheduleOf({ startRatio, rankUpdateRatio, movedRanks }: ElaLoraConfig, plan: TrainPlan): Schedule {
  return {
    start: Math.max(plan.warmupSteps, Math.round(startRatio * plan.totalSteps)),
    end: cutStep(plan),
    interval: Math.max(1, Math.round(rankUpdateRatio * plan.totalSteps)),
    most: movedRanks,
  };
}

/** b(t) where ranks move after this step; otherwise 0. */
function movesAt(step: number, { start, end, interval, most }: Schedule): number {
  if (step <= start || step >= end || (step - start) % interval !== 0) return 0;
  return Math.round(most * (1 - ((step - start) / (end - start)) ** 3));
}

/** A module as moves see it. */
interface Module {
  readonly path: string;
  /** What a rank stores. */
  readonly cost: number;
  /** Ranks that it can have at most: its smaller side. */
  readonly most: number;
  /** S of every rank. */
  readonly scores: Float32Array;
}

/** What becomes of the modules' ranks: which go, and how many are new, by path. */
interface Move {
  readonly lost: Readonly<Record<string, readonly number[]>>;
  readonly gained: Readonly<Record<string, number>>;
}

function modulesOf(layers: AdapterLayers, values: HostTensors): Module[] {
  return Object.entries(layers).map(([path, { site }]) => ({
    path,
    cost: rankCost(site),
    most: Math.min(site.inFeatures, site.outFeatures),
    scores: floats(tensorAt(values, `${path}.importance`)),
  }));
}

/** The ranks that may move, greatest scores first, of equal ones the order of modules and ranks. */
function poolOf(modules: readonly Module[], perModule: number): { module: Module; rank: number; score: number }[] {
  const ranked = <T extends { readonly score: number }>(ranks: T[]): T[] => ranks.sort((a, b) => b.score - a.score);
  const pool = modules.flatMap((module) => {
    const ranks = ranked(Array.from(module.scores, (score, rank) => ({ module, rank, score })));
    return ranks.slice(Math.max(1, ranks.length - perModule));
  });
  return ranked(pool);
}

function moved(modules: readonly Module[], count: number, { candidateRanks, budget }: ElaLoraConfig): Move {
  const pool = poolOf(modules, candidateRanks);
  const lost: Record<string, number[]> = {};
  for (const { module, rank } of pool.slice(Math.max(0, pool.length - count))) (lost[module.path] ??= []).push(rank);
  const receivers = pool.map(({ module }) => module);
  const most = Math.min(count, pool.length);
  return { lost, gained: given(modules, lost, receivers, { most, cost: budget === null ? Infinity : ABOVE * budget }) };
}

/** How much more than the budget may be stored on the way, and in the end. */
const ABOVE = 1.02;

/** Ranks for the modules whose lowest scores are highest, one after the other, again and again, until none fits. */
function filled(modules: readonly Module[], budget: number): Move {
  const least = ({ scores }: Module): number => Math.min(...scores);
  const receivers = [...modules].sort((a, b) => least(b) - least(a));
  const rounds = Math.max(...modules.map(({ most }) => most));
  const repeated = Array.from({ length: rounds }, () => receivers).flat();
  return { lost: {}, gained: given(modules, {}, repeated, { most: Infinity, cost: budget }) };
}

/** A rank each for receivers in turn, where their module has room and all modules together store no more than `cost`. */
function given(
  modules: readonly Module[],
  lost: Move['lost'],
  receivers: readonly Module[],
  { most, cost }: { readonly most: number; readonly cost: number },
): Record<string, number> {
  const gained: Record<string, number> = {};
  const ranksOf = ({ path, scores }: Module): number => scores.length - (lost[path]?.length ?? 0) + (gained[path] ?? 0);
  let stored = modules.reduce((sum, module) => sum + ranksOf(module) * module.cost, 0);
  let left = most;
  for (const module of receivers) {
    if (left === 0) break;
    if (ranksOf(module) >= module.most || stored + module.cost > cost) continue;
    gained[module.path] = (gained[module.path] ?? 0) + 1;
    stored += module.cost;
    left -= 1;
  }
  return gained;
}

function changesFor(
  modules: readonly Module[],
  { lost, gained }: Move,
  values: HostTensors,
  rng: Rng,
): Record<string, RankChange> {
  return Object.fromEntries(
    modules.map(({ path, scores }) => {
      const kept = [...scores.keys()].filter((rank) => !lost[path]?.includes(rank));
      const count = gained[path] ?? 0;
      if (count === 0) return [path, { kept }];
      return [path, { kept, added: newRanks(path, values, kept, count, rng.fork(path)) }];
    }),
  );
}

/** The E that a new rank has at most. */
const MOST_NEW = 1e-13;

/** Ranks that are new to a module which keeps those named. */
function newRanks(path: string, values: HostTensors, kept: readonly number[], count: number, rng: Rng): HostTensors {
  const read = (name: string): HostTensor => tensorAt(values, `${path}.${name}`);
  const smallest = Math.min(MOST_NEW, ...floats(read('gate')).map(Math.abs));
  const loraA = directionsBeside(pickColumns(read('loraA'), kept), count, rng.fork('loraA')); // [in, count]
  const loraB = transposed(directionsBeside(transposed(pickRows(read('loraB'), kept)), count, rng.fork('loraB')));
  const gate = hostTensor(new Float32Array(count).fill(smallest), [count]);
  return { loraA, loraB, gate, ...noScores({ loraA, loraB, gate }) };
}

/** Random columns of length 1, orthogonal to those of a matrix and to each other: the Gram-Schmidt process, as QR has it. */
function directionsBeside(matrix: HostTensor, count: number, rng: Rng): HostTensor {
  const [rows, columns] = matrix.shape as [number, number];
  const width = columns + count;
  const all = Float32Array.from({ length: rows * width }, (_, index) => {
    const [row, column] = [Math.floor(index / width), index % width];
    return column < columns ? (floats(matrix)[row * columns + column] as number) : rng.normal();
  });
  const { q } = qr(hostTensor(all, [rows, width]));
  return pickColumns(
    q,
    Array.from({ length: count }, (_, index) => columns + index),
  );
}
