import { activeAdapter, attach, withAdapter, type PeftModel, type TrainingData, type TrainOptions } from '@peftjs/core';
import { createRng, tensorAt, type AdapterLayer, type HostTensors } from '@peftjs/core/method';
import { normalValues } from '@peftjs/core/linalg';
import type { TrainResult } from '@peftjs/core/runtime';
import { contextOf, hostVector, initialOf, toyModel, trainToy as trainOnToy } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs-core';

/** SoRA on the toy model. */
export const attached = (config: Partial<SoraConfig> = {}): PeftModel<SoraConfig> =>
  attach(toyModel(), sora({ r: 4, ...config }), { seed: 1 });

/** Trains on the toy task in place, with four steps per epoch. */
export const trainToy = (
  peft: PeftModel<SoraConfig>,
  options: Partial<TrainOptions> = {},
  data?: TrainingData,
): Promise<TrainResult> => trainOnToy(peft, { epochs: 8, ...options }, data);

/** Returns the model with other options for its controller only: its layers keep theirs. Does not change `peft`. */
export const reconfigured = (peft: PeftModel<SoraConfig>, options: Partial<SoraConfig>): PeftModel<SoraConfig> =>
  withAdapter(peft, { config: { ...activeAdapter(peft).config, ...options } });

/** The values of one tensor name, by module path. */
export const valuesNamed = (values: HostTensors, name: string): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(values).flatMap(([key, { data }]) =>
      key.endsWith(`.${name}`) ? [[key.slice(0, -name.length - 1), [...data]] as const] : [],
    ),
  );

/** Values like those after training, with these gates. */
export const trainedOf = (layer: AdapterLayer, gates: readonly number[]): HostTensors => {
  const initial = initialOf(layer);
  const loraB = normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1);
  return { ...initial, loraB, gate: hostVector(gates) };
};

/** Applies the layer's `update` rule to gates proposed by an optimizer. */
export const updatedGates = (
  layer: AdapterLayer,
  gates: readonly number[],
  threshold: number,
  mask: readonly number[] = gates.map(() => 1),
): number[] =>
  tf.tidy(() => {
    const proposed = { gate: tf.tensor1d([...gates]) };
    const previous = { ...proposed, mask: tf.tensor1d([...mask]) };
    const changed = layer.update?.(proposed, { previous, gradient: {}, ctx: contextOf({ threshold }) }) ?? {};
    return [...tensorAt(changed, 'gate').dataSync()];
  });
