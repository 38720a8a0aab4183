import { attach, calibrate, type PeftModel } from '@peftjs/core';
import { referenceExecutor, toyModel, toyTrainingData } from '@peftjs/core/testing';
import { lora } from '@peftjs/lora';
import type { Subject } from './measured.js';
import type { Found } from './executors.js';
import { oneOfEachFamily, parityMethods, type ParityMethod } from './methods.js';
import { parityNetworks, type ParityNetwork } from './networks.js';

const SEED = 5;
const toyData = toyTrainingData(SEED, 5);

/**
 * A method on the toy encoder. What it starts from is always measured on the reference: of almost equal measurements the
 * factors may be turned round.
 */
export function methodSubject({ name, configured }: ParityMethod): Subject {
  return {
    name,
    kind: toyData.kind,
    batches: toyData.epoch(0),
    async attach(): Promise<PeftModel> {
      const model = toyModel();
      if (!configured.method.calibration?.(configured.config)) return attach(model, configured, { seed: SEED });
      const options = { executor: await referenceExecutor(), batches: 2, seed: SEED };
      return attach(model, configured, {
        seed: SEED,
        calibration: await calibrate(model, configured, toyData, options),
      });
    },
  };
}

/** LoRA on a network, with one batch again and again. */
export async function networkSubject({ name, load }: ParityNetwork, loraDropout = 0.1): Promise<Subject> {
  const { model, batch, kind } = await load();
  return {
    name,
    kind,
    batches: Array.from({ length: 5 }, () => batch),
    attach: () => Promise.resolve(attach(model, lora({ r: 2, loraAlpha: 4, loraDropout }), { seed: SEED })),
  };
}

/** The methods that an executor is held to. */
export function methodSubjects({ cases }: Found): Subject[] {
  return (cases === 'all' ? parityMethods : oneOfEachFamily).map(methodSubject);
}

/** Every network. */
export function networkSubjects(): Promise<Subject[]> {
  return Promise.all(parityNetworks.map((network) => networkSubject(network)));
}
