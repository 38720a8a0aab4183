import { hostTensor } from '@peftjs/core';
import {
  assertStartFits,
  floats,
  pruneStep,
  rankCostIn,
  tensorAt,
  totalRanks,
  type AdapterLayers,
  type HostTensors,
  type RankPolicy,
  type TrainPlan,
} from '@peftjs/core/method';
import { allocateRanks, type Scores } from './allocation.js';
import type { AloraConfig } from './config.js';

/*
 * AB-LoRA, the importance score of a rank r (Liu et al., 2024), from losses L on held-out rows, without dropout:
 *
 *   IS(r) = S(M) - S(M without r) + S(M with r alone)      S = -L
 *
 * "Alone" is without any other rank of any module. If every rank r adds d_r to S, then IS = S(no ranks) + 2 d_r, which
 * has the order of d.
 */

/**
 * Returns ALoRA's policy, or undefined if no ranks move.
 * @throws ConfigError for a budget that the initial ranks exceed.
 */
export function aloraPolicy(layers: AdapterLayers, config: AloraConfig, plan: TrainPlan): RankPolicy | undefined {
  const { budget, probeRows } = config;
  if (budget !== null) assertStartFits(layers, budget);
  const cuts = roundSteps(config, plan);
  const last = cuts.at(-1);
  if (last === undefined) return undefined;
  const count = Math.max(1, Math.round(config.movedShare * totalRanks(layers)));
  return {
    cuts,
    holdsFrom: budget === null ? 0 : last + 1,
    probeRows,
    reads: (step) => (cuts.includes(step) ? ['gate'] : []),
    probes: probesOf,
    decide: ({ step, layers, values, losses }) =>
      allocateRanks(scoresOf(values, losses), { count, budget, isLast: step === last, cost: rankCostIn(layers) }),
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
