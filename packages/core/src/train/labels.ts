import { outputsOf } from '../head.js';
import { ConfigError, DataError } from '../errors.js';
import type { Batch, DataKind, Model } from '../contracts/model.js';

/** What a token has for a label where it has none, as in transformers. */
const NO_LABEL = -100;

/**
 * Checks that the outputs of a model can represent the labels of batches: class numbers from 0 to below the number of outputs,
 * for tokens also -100, for regression finite numbers. Places that weigh nothing are not looked at.
 * @param objective default: regression for labels in float32, classes for those in int32
 * @throws DataError naming the first other label, its row and the number of outputs.
 * @throws ConfigError for regression with more than one output.
 */
export function assertLabels(model: Model, batches: readonly Batch[], objective?: DataKind): void {
  const outputs = outputsOf(model);
  if (objective === 'regression' && outputs !== undefined && outputs !== 1) {
    throw new ConfigError(`regression needs a head with 1 output, ${model.name} has ${outputs}`, 'objective');
  }
  for (const batch of batches) assertBatchLabels(batch, outputs ?? Infinity, objective ?? objectiveOf(batch));
}

function objectiveOf({ labels: { dtype, shape } }: Batch): DataKind {
  if (dtype === 'float32') return 'regression';
  return shape.length === 1 ? 'classification' : 'token-classification';
}

function assertBatchLabels({ labels, rowWeights, inputs, rows }: Batch, outputs: number, objective: DataKind): void {
  const { data, shape } = labels;
  const [, tokens] = shape;
  const mask = tokens === undefined ? undefined : inputs.attentionMask;
  const isPossible = (label: number): boolean =>
    objective === 'regression'
      ? Number.isFinite(label)
      : isClass(label, outputs) || (tokens !== undefined && label === NO_LABEL);
  for (let place = 0; place < data.length; place++) {
    const label = data[place] as number;
    if (isPossible(label)) continue;
    const row = Math.floor(place / (tokens ?? 1));
    if (rowWeights.data[row] === 0 || mask?.data[place] === 0) continue;
    const where = `row ${rows[row] ?? row}${tokens === undefined ? '' : `, token ${place % tokens}`}`;
    throw new DataError(`the label of ${where} is ${label}; expected ${expectation(objective, outputs)}`, 'labels');
  }
}

function isClass(label: number, outputs: number): boolean {
  return Number.isInteger(label) && label >= 0 && label < outputs;
}

function expectation(objective: DataKind, outputs: number): string {
  if (objective === 'regression') return 'a finite number';
  const none = objective === 'classification' ? '' : `, or ${NO_LABEL} for none`;
  if (outputs === Infinity) return `an integer of at least 0${none}`;
  return `an integer from 0 to ${outputs - 1}${none}: the model has ${outputs} output${outputs === 1 ? '' : 's'}`;
}
