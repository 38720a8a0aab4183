import { attach, type TrainOptions } from '@peftjs/core';
import { TrainingError, type ConfiguredMethod, type HostTensors, type TargetConfig } from '@peftjs/core/method';
import type { TrainResult, TrainingSnapshot } from '@peftjs/core/runtime';
import { toyModel } from './toy-model.js';
import { trainToy } from './toy-runs.js';

/**
 * Trains on the toy task, then resumes right before and right after the first step that changes the shape of a tensor.
 * All three runs must end with the same values.
 * @throws TrainingError if no step changes a shape.
 */
export async function resumedAroundResize<C extends TargetConfig>(
  configured: ConfiguredMethod<C>,
  options: Partial<TrainOptions> = {},
): Promise<{ readonly whole: TrainResult['last']; readonly resumed: readonly HostTensors[] }> {
  const run = async (own: Partial<TrainOptions>): Promise<TrainResult['last']> => {
    const peft = attach(toyModel(), configured, { seed: 1 });
    return (await trainToy(peft, { epochs: 4, ...options, ...own })).last;
  };
  const snapshots: TrainingSnapshot[] = [];
  const whole = await run({ saveEvery: 1, onSnapshot: (at) => void snapshots.push(at) });
  const shapes = snapshots.map(({ adapter }) => JSON.stringify(Object.values(adapter).map(({ shape }) => shape)));
  const after = shapes.findIndex((each) => each !== shapes[0]);
  if (after < 1) throw new TrainingError('no step changed the shape of a tensor, so there is none to resume around');
  const resumed: HostTensors[] = [];
  for (const resume of snapshots.slice(after - 1, after + 1)) resumed.push((await run({ resume })).values);
  return { whole, resumed };
}
