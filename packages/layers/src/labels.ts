import { DataError } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

/** The loss on class indices. It silently treats an index without an output as a row without a class. */
const CLASS_INDEX_LOSS = 'sparseCategoricalCrossentropy';

/** The targets of `fit`: of the only output, of each output, or by the outputs' names. */
type Targets = Tensor | readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** Whether a model is compiled with a loss on class indices at one of its outputs. */
export function learnsClasses({ loss }: tf.LayersModel): boolean {
  return Object.values(typeof loss === 'object' ? loss : [loss]).includes(CLASS_INDEX_LOSS);
}

/**
 * Checks the class indices in a model's targets against its outputs.
 * @throws DataError naming the first label that no output represents, its row and the number of outputs.
 */
export async function assertClasses(model: tf.LayersModel, targets: Targets): Promise<void> {
  for (const [index, { shape }] of model.outputs.entries()) {
    const name = model.outputNames[index] ?? '';
    const target = targets instanceof tf.Tensor ? targets : (own(targets, index, name) as Tensor | undefined);
    if (target === undefined || own(model.loss, index, name) !== CLASS_INDEX_LOSS) continue;
    const outputs = shape.at(-1) ?? Infinity;
    const labels = await target.data();
    const place = labels.findIndex((label) => !(Number.isInteger(label) && label >= 0 && label < outputs));
    if (place === -1) continue;
    const row = Math.floor((place * target.shape[0]) / labels.length);
    throw new DataError(
      `the label of row ${row} is ${labels[place]}; expected an integer from 0 to ${outputs - 1}: '${model.name}' has ${outputs} outputs`,
      'labels',
    );
  }
}

/** Returns the entry of an output: the only value, or the one at its index or name. */
function own(of: unknown, index: number, name: string): unknown {
  if (typeof of !== 'object' || of === null) return of;
  return (of as Readonly<Record<string, unknown>>)[Array.isArray(of) ? index : name];
}
