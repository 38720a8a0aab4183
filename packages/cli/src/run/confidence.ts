import { evaluate, fitTemperature, type PeftModel } from '@peftjs/core';
import { ConfigError, DataError } from '@peftjs/core/method';
import { releaseRuntimes } from '@peftjs/core/runtime';
import { formatMetric, formatSmall } from '../format.js';
import { openExecutor } from '../registry/executors.js';
import type { DoneTrial } from '../results/schema.js';
import type { Trial } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

const METRIC = 'expectedCalibrationError';

/** @throws ConfigError for rows without one class each, whose scores no temperature makes probabilities. */
export function assertCalibratable({ task: { kind } }: Pick<PreparedTrial, 'task'>): void {
  if (kind === 'classification') return;
  throw new ConfigError(
    `--calibrate is for rows with one class each, and these are for ${kind}: leave it out`,
    'calibrate',
  );
}

/**
 * Gives a trained adapter the temperature that fits the selection rows.
 * @returns a line that compares the error of its scores on the reported rows, or says why there is no temperature
 */
export async function calibrated(
  { engine }: Trial,
  { selection, dev, rows }: PreparedTrial,
  peft: PeftModel,
  { [METRIC]: before = NaN }: DoneTrial['metrics'],
): Promise<string> {
  const executor = await openExecutor(engine);
  try {
    const temperature = await fitTemperature(peft, selection, { executor });
    const { [METRIC]: after = NaN } = await evaluate(peft, dev, { executor });
    return `calibrated on the ${rows.selection} selection rows: temperature ${formatSmall(temperature)}, ${METRIC} ${formatMetric(before)} before and ${formatMetric(after)} after, on the ${rows.dev} reported rows`;
  } catch (error) {
    if (error instanceof DataError) return `not calibrated: ${error.message}`;
    throw error;
  } finally {
    await releaseRuntimes(executor);
  }
}
