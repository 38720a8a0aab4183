import { thousands } from '../adapter/accounting.js';
import type { Adapter, PeftModel } from '../adapter/peft-model.js';
import { printedAs, rankLines, short } from '../printed.js';
import type { StepEvent, TrainResult } from './options.js';

/** What the summary of a training needs besides its result. */
export interface TrainingFacts {
  /** The model with the trained adapter. */
  readonly peft: PeftModel;
  /** The trained adapter. */
  readonly adapter: Pick<Adapter, 'name' | 'method'>;
  /** The first and the last step that were run. */
  readonly steps: readonly Pick<StepEvent, 'step' | 'loss'>[];
  /** How long the call took. */
  readonly seconds: number;
}

/** Makes the result of a training print as a summary. */
export function printedResult(result: TrainResult, { peft, adapter, steps, seconds }: TrainingFacts): TrainResult {
  return printedAs(result, () => {
    const { totalSteps, stoppedEarly, selected, last, compileMs, sizing } = result;
    const losses = steps.map(({ step, loss }) => `${short(loss)} at step ${step}`);
    const metrics = Object.entries(selected.metrics).map(([name, value]) => `${name} ${short(value)}`);
    const scores =
      metrics.length > 0 ? `${metrics.join(', ')} at step ${selected.step}` : 'none: give selection: { data }';
    return [
      `${adapter.method.name} on ${peft.model.name}, trained`,
      `  steps    ${last.step} of ${sizing ? 'at most ' : ''}${totalSteps}${stoppedEarly ? ', stopped early' : ''}`,
      `  time     ${seconds.toFixed(1)} s, ${(compileMs / 1000).toFixed(1)} s of it to compile`,
      `  loss     ${losses.join(', ')}`,
      `  metrics  ${scores}`,
      ...(sizing ? [`  size     ${sizing.reason}`] : []),
      ...rankLines(selected.ranks).map((line, index) => `  ${index === 0 ? 'ranks  ' : '       '}  ${line}`),
      `  adapter  '${adapter.name}', ${thousands(selected.storedParameters)} parameters; savePretrained(peft, folder) writes it`,
    ];
  });
}
