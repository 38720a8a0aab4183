import type { PeftModel } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData } from '../contracts/model.js';
import { floats } from '../tensors.js';
import { openSession, type Session, type Values } from './session.js';

/**
 * Outputs of every row, in the order of the batches' row numbers: one `[classes]` array a row.
 * Rows that only fill a batch are left out.
 */
export async function predict(peft: PeftModel, batches: readonly Batch[], executor: Executor): Promise<Float32Array[]> {
  return withSession(peft, executor, (session, adapter) => predictWith(session, adapter, batches));
}

/** The metrics of a model with its adapter on labelled data. */
export async function evaluate(
  peft: PeftModel,
  data: EvaluationData,
  executor: Executor,
): Promise<Record<string, number>> {
  return data.score(await predict(peft, data.batches, executor));
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

async function withSession<T>(
  { model, adapter }: PeftModel,
  executor: Executor,
  use: (session: Session, adapter: Values) => Promise<T>,
): Promise<T> {
  const session = openSession(model, adapter, executor);
  const values = session.upload(adapter.values);
  try {
    return await use(session, values);
  } finally {
    session.release(values);
    await session.dispose();
  }
}
