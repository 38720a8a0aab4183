import {
  floats,
  rankedPaths,
  tensorAt,
  TrainingError,
  warnOnce,
  type AdapterLayers,
  type TrainPlan,
} from '@peftjs/core/method';
import type { SoraConfig } from './config.js';

/*
 * Adam moves a gate by its learning rate at most, whatever the loss: from the end of the warm-up until the ranks are chosen, by
 *
 *   travel = f sum_t eta_t                 f: `gateRateFactor`
 *
 * Where that is less than the spread of the gates at the start, max |g| - min |g|, no gate can overtake the one that began largest:
 * the initial draw decides which ranks live.
 */

/** Learning rates of a step by optimizer group. */
export type LearningRates = Readonly<Record<string, number>>;

/** How far a run lets gates go, and how far they would have to. */
export interface Travel {
  /** What the gates' learning rates sum up to after the warm-up, up to the step `until`. */
  readonly distance: number;
  /** f: what they are multiplied by. */
  readonly factor: number;
}

/**
 * The way that a run leaves to the gates.
 * @param rateAt the gates' learning rate at step 1, 2, ..
 * @param until the step after which ranks are chosen, or the last one
 */
export function gateTravel(
  layers: AdapterLayers,
  { gateRateFactor }: Pick<SoraConfig, 'gateRateFactor'>,
  { warmupSteps }: TrainPlan,
  until: number,
  rateAt: (step: number) => number,
): Travel {
  let distance = 0;
  for (let step = warmupSteps + 1; step <= until; step++) distance += rateAt(step);
  if (gateRateFactor !== 'auto') return { distance, factor: gateRateFactor };
  const wanted = Math.max(...initialSizes(layers));
  return { distance, factor: distance > 0 ? Math.max(1, wanted / distance) : 1 };
}

/** Warns when the gates cannot go as far as they are apart at the start. */
export function warnOfShortTravel(layers: AdapterLayers, { distance, factor }: Travel): void {
  const sizes = initialSizes(layers);
  const spread = Math.max(...sizes) - Math.min(...sizes);
  const travel = factor * distance;
  if (travel >= spread) return;
  warnOnce(
    `SoRA: the gates can move by ${travel.toPrecision(2)} in this run and start ${spread.toPrecision(2)} apart, so that the initial draw ` +
      "decides which ranks live: set gateRateFactor: 'auto' or gateInit: 'ones', or train longer",
  );
}

function initialSizes(layers: AdapterLayers): number[] {
  return rankedPaths(layers).flatMap((path) => {
    const { params } = tensorAt(layers, path);
    return [...floats(tensorAt(params, 'gate').initial)].map(Math.abs);
  });
}

/** The learning rate of the gates. @throws TrainingError when the trainer has none. */
export function gateRate(rates: LearningRates): number {
  const rate = rates.gate ?? rates.default;
  if (rate !== undefined) return rate;
  const groups = Object.keys(rates).join(', ') || 'none';
  throw new TrainingError(`SoRA needs a learning rate for the group 'gate', got only ${groups}`, 'gate');
}
