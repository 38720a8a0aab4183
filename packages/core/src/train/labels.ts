import { outputsOf } from '../head.js';
import { ConfigError, DataError } from '../errors.js';
import type { HostTensor } from '../tensors.js';
import type { Batch, DataKind, InputBatch, Model } from '../contracts/model.js';

/** The label of a token without one, as in transformers. */
const NO_LABEL = -100;

/**
 * Checks that the model's outputs can represent the labels of batches: class numbers from 0 to below the number of
 * outputs (for tokens also -100); 0 or 1 per output for multi-label data; finite numbers for regression and scores.
 * Entries of weight zero and batches without labels are not checked.
 * @param kind default: inferred from the type and shape of the labels
 * @throws DataError naming the first label that does not fit, its row and the number of outputs.
 * @throws ConfigError for regression with more than one output, and for a model of another task.
 */
export function assertLabels(model: Model, batches: readonly (InputBatch & Partial<Batch>)[], kind?: DataKind): void {
  if (kind === 'pairs' || kind === 'triplets') return;
  const outputs = outputsOf(model);
  if (kind === 'regression' && outputs !== undefined && outputs !== 1) {
    throw new ConfigError(`regression needs a head with 1 output, ${model.name} has ${outputs}`, 'labels');
  }
  for (const { labels, ...batch } of batches) {
    if (!labels) continue;
    const found = kind ?? kindOf(labels);
    assertTask(model, found);
    assertBatchLabels({ ...batch, labels }, outputs ?? Infinity, found);
  }
}

function assertTask({ task = 'sequence-classification', name }: Model, kind: DataKind): void {
  const areOfTokens = OF_TOKENS.includes(kind);
  if (areOfTokens === (task === 'token-classification' || task === 'causal-lm')) return;
  const each = areOfTokens ? 'token' : 'row';
  throw new ConfigError(
    `the data have labels of each ${each}; ${name} was loaded for ${task}: load it for another task`,
    'task',
  );
}

/** The kinds whose labels are one per token. */
const OF_TOKENS: readonly DataKind[] = ['token-classification', 'causal-lm', 'preferences'];

function kindOf({ dtype, shape }: HostTensor): DataKind {
  if (dtype === 'float32') return shape.length === 1 ? 'regression' : 'multi-label';
  return shape.length === 1 ? 'classification' : 'token-classification';
}

function assertBatchLabels({ labels, rowWeights, inputs, rows }: Batch, outputs: number, kind: DataKind): void {
  const { data, shape } = labels;
  const [, width] = shape; // the number of tokens, or of labels
  assertWidth(kind, width, outputs);
  const mask = OF_TOKENS.includes(kind) ? inputs.attentionMask : undefined;
  const isPossible = possible(kind, outputs);
  for (let place = 0; place < data.length; place++) {
    const label = data[place] as number;
    if (isPossible(label)) continue;
    const row = Math.floor(place / (width ?? 1)) % (rowWeights.shape[0] as number); // preferences have two texts a row
    if (rowWeights.data[row] === 0 || mask?.data[place] === 0) continue;
    const where = `row ${rows[row] ?? row}${width === undefined ? '' : `, ${kind === 'multi-label' ? 'label' : 'token'} ${place % width}`}`;
    throw new DataError(`the label of ${where} is ${label}; expected ${expectation(kind, outputs)}`, 'labels');
  }
}

function assertWidth(kind: DataKind, width: number | undefined, outputs: number): void {
  if (kind !== 'multi-label' || outputs === Infinity || width === outputs) return;
  const came = width === undefined ? 'one number a row' : `${width} a row`;
  throw new DataError(
    `expected 0 or 1 for each of the model's ${outputs} outputs as the labels of a row, got ${came}`,
    'labels',
  );
}

function possible(kind: DataKind, outputs: number): (label: number) => boolean {
  if (kind === 'regression' || kind === 'scored-pairs') return Number.isFinite;
  if (kind === 'multi-label') return (label) => label === 0 || label === 1;
  if (kind === 'classification') return (label) => isClass(label, outputs);
  return (label) => isClass(label, outputs) || label === NO_LABEL;
}

function isClass(label: number, outputs: number): boolean {
  return Number.isInteger(label) && label >= 0 && label < outputs;
}

function expectation(kind: DataKind, outputs: number): string {
  if (kind === 'regression' || kind === 'scored-pairs') return 'a finite number';
  if (kind === 'multi-label') return '0 or 1';
  const none = kind === 'classification' ? '' : `, or ${NO_LABEL} for none`;
  if (outputs === Infinity) return `an integer of at least 0${none}`;
  return `an integer from 0 to ${outputs - 1}${none}: the model has ${outputs} output${outputs === 1 ? '' : 's'}`;
}
