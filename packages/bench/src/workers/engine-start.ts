import { EngineError } from '@peftjs/core';
import type { EnginePlan } from '../registry/executors.js';
import { askWorker, startWorker } from './process.js';

/**
 * Starts an engine in a process of its own, where its drivers may write what they like, and crash.
 *
 * @throws EngineError with the reason when it does not start here.
 */
export async function assertStarts(engine: EnginePlan): Promise<void> {
  const worker = startWorker();
  const outcome = await askWorker(worker, { engine });
  if (worker.process.connected) worker.process.disconnect();
  if (outcome.type === 'failed') throw new EngineError(outcome.error.message, engine.backend);
}
