import { argmax, meanSquaredError, type Rows } from './rows.js';
import type { Task } from './tasks.js';

/** How well outputs fit the teacher's own logits. */
export interface Measured {
  /** The squared error over that of a student that learns nothing; of classes the cross-entropy. */
  readonly loss: number;
  /** Share of rows whose greatest output is the teacher's. */
  readonly accuracy: number;
}

/** Measures outputs, `[outputs]` each, against the clean logits of rows of a task. */
export function measured(outputs: readonly Float32Array[], { clean }: Rows, { settings, signal }: Task): Measured {
  const hits = outputs.filter((row, at) => argmax(row) === argmax(clean[at] as Float32Array)).length;
  const loss = settings.labels === 'logits' ? meanSquaredError(outputs, clean) / signal : surprise(outputs, clean);
  return { loss, accuracy: hits / outputs.length };
}

/** Mean of -log softmax(outputs)[class]. */
function surprise(outputs: readonly Float32Array[], clean: readonly Float32Array[]): number {
  const each = outputs.map((row, at) => {
    const greatest = Math.max(...row);
    const total = row.reduce((sum, value) => sum + Math.exp(value - greatest), 0);
    return greatest + Math.log(total) - (row[argmax(clean[at] as Float32Array)] as number);
  });
  return each.reduce((sum, value) => sum + value, 0) / each.length;
}
