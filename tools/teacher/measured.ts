import { argmax, meanSquaredError, type Rows } from './rows.js';
import type { Task } from './tasks.js';

/** How well outputs fit the teacher's own logits. */
export interface Measured {
  /** Squared error as a share of that of a student that learns nothing, or with classes the cross-entropy. */
  readonly loss: number;
  /** Share of rows whose largest output is the teacher's largest, 0 to 1. */
  readonly accuracy: number;
}

/** Measures outputs, `[outputs]` each, against the noise-free logits of a task's rows. */
export function measured(outputs: readonly Float32Array[], { clean }: Rows, { settings, signal }: Task): Measured {
  const hits = outputs.filter((row, at) => argmax(row) === argmax(clean[at] as Float32Array)).length;
  const loss = settings.labels === 'logits' ? meanSquaredError(outputs, clean) / signal : crossEntropy(outputs, clean);
  return { loss, accuracy: hits / outputs.length };
}

/** Returns the mean of -log softmax(outputs)[class]. */
function crossEntropy(outputs: readonly Float32Array[], clean: readonly Float32Array[]): number {
  const each = outputs.map((row, at) => {
    const greatest = Math.max(...row);
    const total = row.reduce((sum, value) => sum + Math.exp(value - greatest), 0);
    return greatest + Math.log(total) - (row[argmax(clean[at] as Float32Array)] as number);
  });
  return each.reduce((sum, value) => sum + value, 0) / each.length;
}
