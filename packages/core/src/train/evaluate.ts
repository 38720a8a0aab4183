import { actingParts } from '../adapter/acting.js';
import type { PeftModel } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, Model } from '../contracts/model.js';
import { floats } from '../tensors.js';
import { openSession, type Session, type Values } from './session.js';

/**
 * Outputs of every row, in the order of the batches' row numbers: one `[classes]` array a row.
 * Rows that only fill a batch are left out.
 *
 * @param model a model with adapters, of which the active ones act, or a plain one, e.g. a merged one.
 */
export async function predict(
  model: PeftModel | Model,
  batches: readonly Batch[],
  executor: Executor,
): Promise<Float32Array[]> {
  const parts = actingParts(model);
  const session = openSession(parts.model, parts, executor);
  const values = session.upload(parts.values);
  try {
    return await predictWith(session, values, batches);
  } finally {
    session.release(values);
    await session.dispose();
  }
}

/** The metrics of a model, with its active adapters, on labelled data. */
export async function evaluate(
  model: PeftModel | Model,
  data: EvaluationData,
  executor: Executor,
): Promise<Record<string, number>> {
  return data.score(await predict(model, data.batches, executor));
}

/** `predict` in a session that is open already. */
export async function predictWith(
  session: Session,
  adapter: Values,
  batches: readonly Batch[],
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (const batch of batches) {
    const outputs = await session.predict(adapter, batch);
    const width = outputs.shape.at(-1) as number;
    batch.rows.forEach((row, index) => {
      rows[row] = floats(outputs).slice(index * width, (index + 1) * width);
    });
  }
  return rows;
}
