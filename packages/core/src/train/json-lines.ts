import { assertArgument } from '../config.js';
import { aFunction } from '../kinds.js';
import type { EvaluationEvent, StepEvent } from './options.js';

/** Two callbacks for `train`. */
export interface EventLines {
  /** Writes a step. */
  readonly onStep: (event: StepEvent) => Promise<void>;
  /** Writes an evaluation. */
  readonly onEvaluation: (event: EvaluationEvent) => Promise<void>;
}

/**
 * Returns callbacks for `train` that write each event as one line of JSON and a newline: `{"event":"step","step":1,..}`
 * or `{"event":"evaluation","step":4,..}`, with the fields of `StepEvent` or `EvaluationEvent`. NaN and infinity become
 * null.
 * @param write appends a line to a file, a stream or a page; awaited before training continues
 */
export function jsonLines(write: (line: string) => unknown): EventLines {
  assertArgument('write', write, aFunction);
  const writing = (event: string) => async (fields: object) => {
    await write(`${JSON.stringify({ event, ...fields })}\n`);
  };
  return { onStep: writing('step'), onEvaluation: writing('evaluation') };
}
