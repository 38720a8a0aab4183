import { actingParts, mixedParts, type ActingParts } from '../adapter/acting.js';
import { adapterNamed, BASE, type PeftModel } from '../adapter/peft-model.js';
import { assertKnownOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, Model } from '../contracts/model.js';
import { floats, hostTensor, sizeOf, type HostTensors } from '../tensors.js';
import { assertLabels } from './labels.js';
import { openSession, type Session, type Values } from './session.js';
import { rowsKey } from './step.js';

/** Whose outputs are asked for. */
export interface PredictOptions {
  /**
   * The adapter of each row of the data, `'__base__'` for the frozen model: rows of one batch may go by different ones. They
   * need not be active; what is active or merged plays no part. Default: every row goes by the model as it stands.
   */
  readonly adapterNames?: readonly string[];
}

/**
 * Outputs of every row, in the order of the batches' row numbers: one `[classes]` array a row, or `[tokens * classes]`.
 * Rows that only fill a batch are left out.
 *
 * @param model a model with adapters, of which the active ones act, or a plain one, e.g. a merged one.
 * @throws UnsupportedError when `adapterNames` are given and one of them acts on what all rows of a batch share.
 * @throws ConfigError for an unknown option, or when `adapterNames` names an unknown adapter, not every row, or one where the model has none.
 */
export async function predict(
  model: PeftModel | Model,
  batches: readonly Batch[],
  executor: Executor,
  options: PredictOptions = {},
): Promise<Float32Array[]> {
  assertKnownOptions('predict', options, ['adapterNames']);
  const { adapterNames } = options;
  const parts = adapterNames ? mixed(model, batches, adapterNames) : actingParts(model);
  return opened(parts, executor, (session, values) =>
    predictWith(session, values, { batches }, adapterNames && rowMasks(adapterNames)),
  );
}

/**
 * The metrics of a model, with its active adapters, on labelled data.
 * @throws DataError for a label that no output of the model represents, before anything is computed.
 */
export async function evaluate(
  model: PeftModel | Model,
  data: EvaluationData,
  executor: Executor,
): Promise<Record<string, number>> {
  const parts = actingParts(model);
  assertLabels(parts.model, data.batches);
  return opened(parts, executor, async (session, values) => data.score(await predictWith(session, values, data)));
}

/**
 * `predict` in a session that is open already; of data that summarise the summaries.
 * @param rowsOf what the session is fed of a mixed batch
 */
export async function predictWith(
  session: Session,
  adapter: Values,
  data: Pick<EvaluationData, 'batches' | 'summarise'>,
  rowsOf: (batch: Batch) => HostTensors = () => ({}),
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (const batch of data.batches) {
    const outputs = await session.predict(adapter, batch, rowsOf(batch));
    const width = sizeOf(outputs.shape.slice(1));
    batch.rows.forEach((row, index) => {
      const own = floats(outputs).subarray(index * width, (index + 1) * width);
      rows[row] = data.summarise?.(row, own) ?? own.slice();
    });
  }
  return rows;
}

/** What `use` makes of a model in a session of its own. */
async function opened<T>(
  { model, layers, values: atRest }: ActingParts,
  executor: Executor,
  use: (session: Session, values: Values) => Promise<T>,
): Promise<T> {
  const session = openSession(model, { layers, saved: {} }, executor);
  const values = session.upload(atRest);
  try {
    return await use(session, values);
  } finally {
    session.release(values);
    await session.dispose();
  }
}

function mixed(model: PeftModel | Model, batches: readonly Batch[], names: readonly string[]): ActingParts {
  if (!('adapters' in model)) throw new ConfigError('adapterNames needs a model with adapters', 'adapterNames');
  const count = batches.reduce((sum, { rows }) => sum + rows.length, 0);
  if (names.length !== count) {
    throw new ConfigError(`adapterNames has ${names.length} names; the batches have ${count} rows`, 'adapterNames');
  }
  return mixedParts(
    model,
    adaptersIn(names).map((name) => adapterNamed(model, name)),
  );
}

function adaptersIn(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => name !== BASE);
}

/** For every adapter, which rows of a batch are its own: `[batch, 1]`. Rows that only fill the batch are nobody's. */
function rowMasks(names: readonly string[]): (batch: Batch) => HostTensors {
  const adapters = adaptersIn(names);
  return ({ rows, labels }) => {
    const batch = labels.shape[0] as number;
    const masks = adapters.map((adapter) => {
      const mask = Float32Array.from({ length: batch }, (_, index) => Number(names[rows[index] ?? -1] === adapter));
      return [rowsKey(adapter), hostTensor(mask, [batch, 1])] as const;
    });
    return Object.fromEntries(masks);
  };
}
