import { floats, rankedPaths, tensorAt, warnOnce, type AdapterLayers, type TrainPlan } from '@peftjs/core/method';
import { choiceOf, type SoraConfig } from './config.js';
import { gateRate } from './layer.js';

/**
 * Adam moves a gate by its learning rate at most, whatever the loss: from the end of the warm-up until ranks are chosen by the sum of
 * eta_t. Where that is less than the spread of the gates at the start, max |g| - min |g|, no gate can overtake the one that began
 * largest: the initial draw decides which ranks live. This warns of such runs. Where ranks are separated, gates no longer are the ones
 * drawn; where learning rates are not known beforehand, nothing is said.
 * @param until the step after which ranks are chosen, or the last one
 */
export function warnOfShortTravel(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan, until: number): void {
  const { warmupSteps, learningRates } = plan;
  if (!learningRates || choiceOf(config).separation || config.selection === 'random') return;
  const sizes = initialSizes(layers);
  const spread = Math.max(...sizes) - Math.min(...sizes);
  let travel = 0;
  for (let step = warmupSteps + 1; step <= until; step++) travel += gateRate(learningRates(step));
  if (sizes.length === 0 || travel >= spread) return;
  warnOnce(
    `SoRA: the gates can move by ${travel.toPrecision(2)} in this run and start ${spread.toPrecision(2)} apart, so that the initial draw ` +
      "decides which ranks live: set variant: 'choosing', or train longer",
  );
}

function initialSizes(layers: AdapterLayers): number[] {
  return rankedPaths(layers).flatMap((path) => {
    const { params } = tensorAt(layers, path);
    return [...floats(tensorAt(params, 'gate').initial)].map(Math.abs);
  });
}
