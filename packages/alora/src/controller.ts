import { hostTensor } from '@peftjs/core';
import {
  assertStartFits,
  allocatedRanks,
  changeRanks,
  createRng,
  pruneStep,
  floats,
  keepRanks,
  missedStep,
  rankCost,
  rankedPaths,
  tensorAt,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type RankChange,
  type ResizedLayer,
  type Rng,
  type TrainPlan,
} from '@peftjs/core/method';
import { allocateRanks, type Allocation, type Scores } from './allocation.js';
import type { AloraConfig } from './config.js';
import { aloraLayer, newRanks } from './layer.js';

/*
 * AB-LoRA, the importance score of a rank r (Liu et al., 2024), from losses L on held-out rows, without dropout:
 *
 *   IS(r) = S(M) - S(M without r) + S(M with r alone)      S = -L
 *
 * "Alone" is without any other rank of any module. If every rank r adds d_r to S, then IS = S(no ranks) + 2 d_r, which
 * has the order of d.
 */

/**
 * Returns ALoRA's controller, or undefined if no ranks move.
 * @throws ConfigError for a budget that the initial ranks exceed.
 */
export function aloraController(layers: AdapterLayers, config: AloraConfig, plan: TrainPlan): Controller | undefined {
  const { budget } = config;
  if (budget !== null) assertStartFits(layers, budget);
  const steps = roundSteps(config, plan);
  const last = steps.at(-1);
  if (last === undefined) return undefined;
  const starting = Object.values(layers).reduce((sum, layer) => sum + allocatedRanks(layer), 0);
  const count = Math.max(1, Math.round(config.movedShare * starting));
  const cost = (path: string): number => rankCost(tensorAt(layers, path).site);
  const rng = createRng(plan.seed ?? 0).fork('new ranks');
  let [held, done] = [layers, 0];
  return {
    probeRows: config.probeRows,
    scalars(step) {
      const due = steps[done];
      if (due !== undefined && due < step) throw missedStep('a round of ALoRA was skipped', step, due);
      return {};
    },
    reads: (step) => (steps.includes(step) ? rankedPaths(held).map((path) => `${path}.gate`) : []),
    probes: (step, values) => (steps.includes(step) ? probesOf(values) : {}),
    afterStep(step, values, losses = {}) {
      const isLast = step === last;
      const decided = allocateRanks(scoresOf(values, losses), { count, budget, isLast, cost });
      const resized = changesFor(held, decided, rng.fork(String(step)));
      held = withResized(held, resized);
      done++;
      return { resized };
    },
    holdsBudget: (step) => budget === null || step > last,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), done }),
    restore(state) {
      if (Array.isArray(state.ranks)) held = layersOfRanks(layers, config, state.ranks as readonly number[]);
      done = state.done as number;
    },
  };
}

/**
 * Returns the steps after which ranks move. The first comes after both `firstRound` of the run and the warm-up, the
 * others at intervals of `roundInterval` of the run, none after the cut. Rounds that would come later, or after the
 * same step, are merged into one.
 */
export function roundSteps(
  { rounds, firstRound, roundInterval }: Pick<AloraConfig, 'rounds' | 'firstRound' | 'roundInterval'>,
  plan: TrainPlan,
): number[] {
  const { totalSteps, warmupSteps } = plan;
  const first = Math.max(Math.round(firstRound * totalSteps), warmupSteps + 1);
  const cut = pruneStep(plan);
  const steps = Array.from({ length: rounds }, (_, round) =>
    Math.min(cut, first + Math.round(round * roundInterval * totalSteps)),
  );
  return cut < 1 ? [] : [...new Set(steps)];
}

/** Resizes layers to the values of a later step or a file. Ranks may have come and gone. */
export function resumedLayers({ layers, config, values }: AdapterContents<AloraConfig>): AdapterLayers {
  const ranks = Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0);
  return layersOfRanks(layers, config, ranks);
}

/** Returns the gates of all probes: the full adapter, the adapter without each rank, and with each rank alone. */
function probesOf(gates: HostTensors): Record<string, HostTensors> {
  const none = Object.fromEntries(Object.entries(gates).map(([key, gate]) => [key, gateOf(gate.data, () => false)]));
  const probes: Record<string, HostTensors> = { [WHOLE]: {} };
  for (const [key, { data }] of Object.entries(gates)) {
    for (const rank of data.keys()) {
      probes[without(key, rank)] = { [key]: gateOf(data, (other) => other !== rank) };
      probes[alone(key, rank)] = { ...none, [key]: gateOf(data, (other) => other === rank) };
    }
  }
  return probes;
}

const WHOLE = 'the whole adapter';
const without = (key: string, rank: number): string => `without ${key} ${rank}`;
const alone = (key: string, rank: number): string => `${key} ${rank} alone`;

/** Returns a gate [r] with zeros for the ranks that are left out. */
function gateOf(gate: ArrayLike<number>, isIn: (rank: number) => boolean) {
  return hostTensor(
    Float32Array.from(gate, (value, rank) => (isIn(rank) ? value : 0)),
    [gate.length],
  );
}

function scoresOf(gates: HostTensors, losses: Readonly<Record<string, number>>): Scores {
  const loss = (probe: string): number => tensorAt(losses, probe);
  return Object.fromEntries(
    Object.entries(gates).map(([key, gate]) => [
      key.slice(0, -'.gate'.length),
      Array.from(
        floats(gate, key),
        (_, rank) => loss(without(key, rank)) - loss(WHOLE) - loss(alone(key, rank)), // S = -L
      ),
    ]),
  );
}

function changesFor(layers: AdapterLayers, { kept, added }: Allocation, rng: Rng): Record<string, ResizedLayer> {
  const changes = Object.entries(kept).map(([path, ranks]): [string, RankChange] => {
    const count = added[path] ?? 0;
    if (count === 0) return [path, { kept: ranks }];
    return [path, { kept: ranks, added: newRanks(tensorAt(layers, path).site, count, rng.fork(path)) }];
  });
  return changeRanks(layers, Object.fromEntries(changes));
}

function layersOfRanks(layers: AdapterLayers, config: AloraConfig, ranks: readonly number[]): AdapterLayers {
  const rng = createRng(0); // only shapes matter: the run's values replace these
  const remade = Object.values(layers).map(({ site }, index): [string, AdapterLayers[string]] => [
    site.path,
    aloraLayer(site, config, newRanks(site, Math.max(1, ranks[index] ?? 0), rng)),
  ]);
  const bare = Object.keys(layers).filter((_, index) => !ranks[index]);
  const held = Object.fromEntries(remade);
  return withResized(held, keepRanks(held, Object.fromEntries(bare.map((path) => [path, []]))));
}
