import { hostTensor } from '@peftjs/core';
import {
  assertStartFits,
  allocatedCost,
  pruneStep,
  floats,
  isNearBudget,
  pickColumns,
  pickRows,
  qr,
  rankCost,
  tensorAt,
  transposed,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type RankDecision,
  type RankPolicy,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import type { ElaLoraConfig } from './config.js';
import { noScores } from './scores.js';

/*
 * Ranks move at steps t with ti < t < te, where t - ti is a multiple of the interval and te is the step before the
 * final phase:
 *
 *   pool   the min(k, ranks - 1) ranks with the lowest scores of every module
 *   b(t)   = round(b (1 - x^3)), x = (t - ti) / (te - ti)       the number of ranks that move
 *   lose   the b(t) lowest of the pool are pruned
 *   gain   the modules of the b(t) highest of the pool gain one rank each: a module may gain several, or lose and gain
 *
 * A new rank has a column of A and a row of B of length 1, orthogonal to those that the module keeps, and
 * E = min(min |E|, 1e-13), so that the outputs do not change.
 *
 * With a budget (ours), a module gains a rank only while all modules together store at most 2 % more than the budget;
 * otherwise the next one of the pool gains it. After te, the rest of the budget goes to the modules whose lowest score
 * is highest.
 */

/** Returns ElaLoRA's policy. @throws ConfigError for a budget that the initial ranks exceed. */
export function elaLoraPolicy(layers: AdapterLayers, config: ElaLoraConfig, plan: TrainPlan): RankPolicy {
  const { budget, restartsOptimizer } = config;
  if (budget !== null) assertStartFits(layers, budget);
  const schedule = scheduleOf(config, plan);
  const { end } = schedule;
  return {
    cuts: budget === null ? [] : [end],
    holdsFrom: end,
    reads: (step) =>
      movesAt(step, schedule) > 0 || (step === end && budget !== null) ? ['importance', 'gate', 'loraA', 'loraB'] : [],
    decide({ step, layers, values, rng }) {
      const modules = modulesOf(layers, values);
      const isFilled = budget === null || isNearBudget(allocatedCost(layers), budget);
      if (step === end && isFilled) return {};
      const move =
        step < end ? regularMove(modules, movesAt(step, schedule), config) : fillingMove(modules, budget ?? 0);
      return { ...changesFor(modules, move, values, rng), restartsOptimizer };
    },
  };
}

/** The steps after which ranks move, and how many. */
interface Schedule {
  /** ti: ranks move only after this step. */
  readonly start: number;
  /** te: ranks move only before this step. */
  readonly end: number;
  /** Steps between two moves. */
  readonly interval: number;
  /** b, the number of ranks that move at first. */
  readonly most: number;
}

function scheduleOf({ startRatio, rankUpdateRatio, movedRanks }: ElaLoraConfig, plan: TrainPlan): Schedule {
  return {
    start: Math.max(plan.warmupSteps, Math.round(startRatio * plan.totalSteps)),
    end: pruneStep(plan),
    interval: Math.max(1, Math.round(rankUpdateRatio * plan.totalSteps)),
    most: movedRanks,
  };
}

/** Returns b(t) if ranks move after this step, else 0. */
function movesAt(step: number, { start, end, interval, most }: Schedule): number {
  if (step <= start || step >= end || (step - start) % interval !== 0) return 0;
  return Math.round(most * (1 - ((step - start) / (end - start)) ** 3));
}

/** A module's data for a move. */
interface Module {
  /** Its path. */
  readonly path: string;
  /** The number of parameters that one rank stores. */
  readonly cost: number;
  /** The highest possible rank: its smaller side. */
  readonly most: number;
  /** S of every rank, [ranks]. */
  readonly scores: Float32Array;
}

/** A move of ranks between modules. */
interface Move {
  /** The ranks that each module loses, by path. */
  readonly lost: Readonly<Record<string, readonly number[]>>;
  /** The number of ranks that each module gains, by path. */
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

/** Returns the ranks that may move, greatest scores first. Ties keep the order of modules and ranks. */
function poolOf(modules: readonly Module[], perModule: number): { module: Module; rank: number; score: number }[] {
  const ranked = <T extends { readonly score: number }>(ranks: T[]): T[] => ranks.sort((a, b) => b.score - a.score);
  const pool = modules.flatMap((module) => {
    const ranks = ranked(Array.from(module.scores, (score, rank) => ({ module, rank, score })));
    return ranks.slice(Math.max(1, ranks.length - perModule));
  });
  return ranked(pool);
}

function regularMove(modules: readonly Module[], count: number, { candidateRanks, budget }: ElaLoraConfig): Move {
  const pool = poolOf(modules, candidateRanks);
  const lost: Record<string, number[]> = {};
  for (const { module, rank } of pool.slice(Math.max(0, pool.length - count))) (lost[module.path] ??= []).push(rank);
  const receivers = pool.map(({ module }) => module);
  const most = Math.min(count, pool.length);
  return {
    lost,
    gained: gainsOf(modules, lost, receivers, { most, cost: budget === null ? Infinity : ABOVE * budget }),
  };
}

/** The most that may be stored, as a multiple of the budget. */
const ABOVE = 1.02;

/** Adds ranks in turn to the modules whose lowest scores are highest, repeatedly until none fits the budget. */
function fillingMove(modules: readonly Module[], budget: number): Move {
  const least = ({ scores }: Module): number => Math.min(...scores);
  const receivers = [...modules].sort((a, b) => least(b) - least(a));
  const rounds = Math.max(...modules.map(({ most }) => most));
  const repeated = Array.from({ length: rounds }, () => receivers).flat();
  return { lost: {}, gained: gainsOf(modules, {}, repeated, { most: Infinity, cost: budget }) };
}

/** Gives one rank each to the receivers in order, if their module has room and all store at most `cost` together. */
function gainsOf(
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
): Pick<RankDecision, 'kept' | 'added'> {
  const kept = Object.fromEntries(
    modules.map(({ path, scores }) => [path, [...scores.keys()].filter((rank) => !lost[path]?.includes(rank))]),
  );
  const gains = Object.entries(gained).map(([path, count]) => [
    path,
    newRanks(path, values, tensorAt(kept, path), count, rng.fork(path)),
  ]);
  return { kept, added: Object.fromEntries(gains) as Record<string, HostTensors> };
}

/** The upper limit of E of a new rank. */
const MAX_NEW = 1e-13;

/** Returns `count` new ranks for a module that keeps the ranks `kept`. */
function newRanks(path: string, values: HostTensors, kept: readonly number[], count: number, rng: Rng): HostTensors {
  const read = (name: string): HostTensor => tensorAt(values, `${path}.${name}`);
  const smallest = Math.min(MAX_NEW, ...floats(read('gate')).map(Math.abs));
  const loraA = orthogonalDirections(pickColumns(read('loraA'), kept), count, rng.fork('loraA')); // [in, count]
  const loraB = transposed(orthogonalDirections(transposed(pickRows(read('loraB'), kept)), count, rng.fork('loraB')));
  const gate = hostTensor(new Float32Array(count).fill(smallest), [count]);
  return { loraA, loraB, gate, ...noScores({ loraA, loraB, gate }) };
}

/** Returns random columns of length 1, orthogonal to those of a matrix and to each other, by QR (Gram-Schmidt). */
function orthogonalDirections(matrix: HostTensor, count: number, rng: Rng): HostTensor {
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
