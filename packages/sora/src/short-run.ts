import { floats, tensorAt, warnOnce, type AdapterLayers, type TrainPlan } from '@peftjs/core/method';
import { rankedPaths } from '@peftjs/core/ranks';
import { choiceOf, drawsRanks, type SoraConfig } from './config.js';
import { gateRate } from './proximal.js';

/**
 * Warns if no gate can overtake another, so that the initial draw decides which ranks stay. Adam moves a gate by at
 * most its learning rate per step, whatever the loss: by at most the sum of eta_t from the end of the warm-up until
 * ranks are chosen. If that is less than the spread of the initial gates, max |g| - min |g|, the gate that starts as
 * the largest stays the largest. Does not warn if ranks are separated, which replaces the drawn gates, or if the
 * learning rates are not known in advance.
 * @param until the step after which ranks are chosen, or the last step
 */
export function warnOfShortRun(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan, until: number): void {
  const { warmupSteps, learningRates } = plan;
  if (!learningRates || choiceOf(config).separation || drawsRanks(config)) return;
  const sizes = initialSizes(layers);
  const spread = Math.max(...sizes) - Math.min(...sizes);
  let distance = 0;
  for (let step = warmupSteps + 1; step <= until; step++) distance += gateRate(learningRates(step));
  if (sizes.length === 0 || distance >= spread) return;
  warnOnce(
    `SoRA: gates can move by ${distance.toPrecision(2)} in this run but start ${spread.toPrecision(2)} apart, so their random ` +
      "initial values decide which ranks stay: set variant: 'choosing', the default with a budget, or train longer",
  );
}

function initialSizes(layers: AdapterLayers): number[] {
  return rankedPaths(layers).flatMap((path) => {
    const { params } = tensorAt(layers, path);
    return [...floats(tensorAt(params, 'gate').initial)].map(Math.abs);
  });
}
