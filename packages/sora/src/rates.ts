import { TrainingError } from '@peftjs/core';
import type { SoraConfig } from './config.js';

/** Learning rates of a step by optimizer group. */
export type LearningRates = Readonly<Record<string, number>>;

/**
 * The threshold of a step: eta_t * lambda, or xi as it is.
 * @throws TrainingError when the trainer has no learning rate for the gates.
 */
export function thresholdAt({ thresholdMode }: SoraConfig, sparseLambda: number, rates: LearningRates): number {
  return thresholdMode === 'lr' ? sparseLambda * gateRate(rates) : sparseLambda;
}

/** The learning rate of the gates. @throws TrainingError when the trainer has none. */
export function gateRate(rates: LearningRates): number {
  const rate = rates.gate ?? rates.default;
  if (rate !== undefined) return rate;
  const groups = Object.keys(rates).join(', ') || 'none';
  throw new TrainingError(`SoRA needs a learning rate for the group 'gate', got only ${groups}`, 'gate');
}
